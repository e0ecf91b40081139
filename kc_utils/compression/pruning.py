"""Pruning by other rules: whole output neurons, N of each M consecutive inputs, or weights drawn at random.

`rows-l1`, `rows-l2`, `random-rows`: a neuron's row of weights goes as a whole, so that the matrix could be made smaller
(Li et al. 2017, arXiv 1608.08710, filters by L1 norm). In each matrix round(fraction * rows) rows go: those of smallest
L1 or L2 norm, the first by position among equal ones, as torch.nn.utils.prune.ln_structured(n, dim=0) does; or a seeded
uniform draw. Biases stay, as in torch. Of a GPT-2 Conv1D, stored as (inputs, outputs), the columns are the rows.

`N:M`: of each M consecutive inputs of a neuron the N of largest absolute value stay, a pattern that hardware can use
(2:4 on NVIDIA's sparse tensor cores: Mishra et al. 2021, arXiv 2104.08378). Sparsity is 1 - N/M in every group; among
equal magnitudes the first by position go. A matrix whose number of inputs is not a multiple of M is refused: a shorter
last group would be no N:M pattern.

`random`: exactly k weights of the scope go, drawn uniformly with a seed. It is the control for magnitude pruning: the
loss when as many weights go regardless of their size. Each weight gets a random 31-bit key from PCG64, seeded by (seed,
matrix name, piece), and the k smallest keys go. So the draw does not depend on the order in which matrices are met.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch

from kc_utils.compression.magnitude import count_to_prune, smallest_in_rows, zero_smallest
from kc_utils.compression.recipe import Step
from kc_utils.compression.report import Outcome
from kc_utils.errors import BadRequest
from kc_utils.models.scopes import Matrix

ORDER = {"rows-l1": 1, "rows-l2": 2}
PIECE = 1 << 18  # weights looked at together
DRAWN = (1 << 15) - (1 << 6)  # weights whose keys come from one generator; another size is another draw


def check(matrices: Sequence[Matrix], step: Step) -> None:
    """Raise BadRequest when M of N:M does not divide the inputs of a matrix."""
    if ":" not in step.method:
        return
    m = int(step.method.split(":")[1])
    for matrix in matrices:
        if matrix.inputs % m:
            raise BadRequest(
                f"recipe step {step}: {matrix.name} has {matrix.inputs} inputs, not a multiple of {m}; "
                "choose another N:M or scope"
            )


def run(model: torch.nn.Module, matrices: Sequence[Matrix], step: Step) -> Outcome:
    """Prune the matrices in place."""
    if ":" in step.method:
        n, m = map(int, step.method.split(":"))
        for matrix in matrices:
            keep_n_of_m(matrix.rows, n, m)
        return Outcome(zeros_expected=sum(matrix.numel for matrix in matrices) // m * (m - n))
    if step.method == "random":
        k = count_to_prune(step, sum(m.numel for m in matrices))
        zero_random({m.name: m.weight for m in matrices}, k, step.options["seed"])
        return Outcome(zeros_expected=k)
    zeros = 0
    for matrix in matrices:
        k = round(step.amount * matrix.outputs)
        if step.method == "random-rows":
            rows = random_rows(matrix.outputs, k, step.options["seed"], matrix.name)
        else:
            rows = smallest_rows(matrix.rows, k, ORDER[step.method])
        matrix.rows[rows] = 0
        zeros += k * matrix.inputs
    return Outcome(zeros_expected=zeros)


def smallest_rows(weight: torch.Tensor, k: int, order: int) -> torch.Tensor:
    """Indices of the k rows of (outputs, inputs) with the smallest L-`order` norm, ties by position."""
    return torch.linalg.vector_norm(weight.float(), order, dim=1).argsort(stable=True)[:k]


def random_rows(n: int, k: int, seed: int, name: str) -> torch.Tensor:
    """Indices of k of n rows: a uniform draw that depends on the seed and the matrix's name alone."""
    keys = _generator(seed, name).random_raw(n)
    return torch.from_numpy(np.argsort(keys, kind="stable")[:k].copy())


def keep_n_of_m(weight: torch.Tensor, n: int, m: int) -> None:
    """Zero, in place, all but the n largest |w| of each m consecutive inputs of (outputs, inputs); m divides inputs."""
    for rows in weight.split(max(1, PIECE // weight.shape[1])):
        pruned = smallest_in_rows(rows.abs().float().reshape(-1, m), m - n)
        rows.masked_fill_(pruned.reshape(rows.shape), 0)


def zero_random(tensors: Mapping[str, torch.Tensor], k: int, seed: int) -> None:
    """Zero, in place, k weights of all tensors (contiguous, any shape) together, drawn uniformly.

    The same seed, names, shapes and k give the same weights, and a larger k a superset of them.
    """
    pieces, keys = [], []
    for name in sorted(tensors):
        for number, piece in enumerate(tensors[name].view(-1).split(DRAWN)):
            pieces.append(piece)
            keys.append(partial(random_keys, seed, name, number, piece.numel()))
    zero_smallest(pieces, keys, k)


def random_keys(seed: int, name: str, number: int, length: int) -> np.ndarray:
    """Random int32 keys in [0, 2**31) of a piece of a matrix.

    They are a bit generator's raw stream, which is the same in every version of numpy.
    """
    return (_generator(seed, name, number).random_raw(-(-length // 2)).view(np.uint32)[:length] >> 1).astype(np.int32)


def _generator(seed: int, name: str, *numbers: int) -> np.random.PCG64:
    words = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.PCG64(np.random.SeedSequence([seed, words, *numbers]))
