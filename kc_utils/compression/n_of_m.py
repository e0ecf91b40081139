"""N:M pruning: of each M consecutive inputs of a neuron, the N of largest absolute value stay.

Idea: a pattern that hardware can use (2:4 on NVIDIA's sparse tensor cores: Mishra et al. 2021, arXiv 2104.08378).
Sparsity is 1 - N/M, no more and no less in each group; among equal magnitudes the first by position goes. A matrix
whose number of inputs is not a multiple of M is refused: a shorter last group would be no N:M pattern.
"""

from collections.abc import Sequence

import torch

from kc_utils.compression.chunks import in_threads, row_blocks
from kc_utils.compression.outcome import Outcome
from kc_utils.compression.recipe import Step
from kc_utils.errors import BadRequest
from kc_utils.models.scopes import Matrix


def check(matrices: Sequence[Matrix], step: Step) -> None:
    """BadRequest when M does not divide the inputs of a matrix; called before any weight is changed."""
    m = int(step.method.split(":")[1])
    for matrix in matrices:
        if matrix.inputs % m:
            raise BadRequest(
                f"recipe step {step}: {matrix.name} has {matrix.inputs} inputs, not a multiple of {m}; "
                "choose another N:M or scope"
            )


def run(model: torch.nn.Module, matrices: Sequence[Matrix], step: Step) -> Outcome:
    """Prune each matrix to the pattern that the method's name gives."""
    n, m = map(int, step.method.split(":"))
    for matrix in matrices:
        prune(matrix.rows, n, m)
    return Outcome(zeros_asked=sum(matrix.numel for matrix in matrices) // m * (m - n))


def prune(weight: torch.Tensor, n: int, m: int) -> None:
    """Keep, in place, the n largest |w| of each m consecutive inputs of (outputs, inputs); m divides inputs."""

    def work(part: Sequence[torch.Tensor]) -> None:
        for rows in part:
            gone = ranks(rows.abs().reshape(-1, m)) < m - n
            rows.masked_fill_(gone.reshape(rows.shape), 0)

    in_threads(work, row_blocks(weight))


def ranks(groups: torch.Tensor) -> torch.Tensor:
    """Place of each number in its row of (groups, m): uint8, 0 for the smallest, equal ones by position.

    Every pair of columns is compared once, over all rows together: for short rows this is faster than sorting them.
    """
    columns = groups.t().contiguous()
    place = torch.arange(len(columns), dtype=torch.uint8).repeat_interleave(columns.shape[1]).view(columns.shape)
    for i in range(len(columns)):
        for j in range(i + 1, len(columns)):
            later_is_smaller = (columns[j] < columns[i]).view(torch.uint8)
            place[i] += later_is_smaller
            place[j] -= later_is_smaller
    return place.t()
