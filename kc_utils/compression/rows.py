"""Structured pruning: whole output neurons become zero, chosen by norm or at random.

Idea: a neuron's row of weights goes as a whole, so that the matrix could be made smaller (Li et al. 2017, arXiv
1608.08710, filters by L1 norm). In each matrix round(fraction * rows) rows go, those of smallest L1 (`rows-l1`) or L2
norm (`rows-l2`), the first by position among equal ones, as torch.nn.utils.prune.ln_structured(n, dim=0) does; or a
seeded uniform draw (`random-rows`). Biases stay, as in torch. Of a GPT-2 Conv1D, stored as (inputs, outputs), the
columns are the rows.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from kc_utils.compression.chunks import row_blocks
from kc_utils.compression.outcome import Outcome
from kc_utils.compression.recipe import Step
from kc_utils.models.scopes import Matrix

ORDER = {"rows-l1": 1, "rows-l2": 2}


def run(model: torch.nn.Module, matrices: Sequence[Matrix], step: Step) -> Outcome:
    """Zero rows of each matrix as the step says."""
    asked = 0
    for m in matrices:
        k = round(step.amount * m.outputs)
        if step.method == "random-rows":
            rows = random_rows(m.outputs, k, step.options["seed"], m.name)
        else:
            rows = smallest_rows(m.rows, k, ORDER[step.method])
        m.rows[rows] = 0
        asked += k * m.inputs
    return Outcome(zeros_asked=asked)


def smallest_rows(weight: torch.Tensor, k: int, order: int) -> torch.Tensor:
    """Indices of the k rows of (outputs, inputs) with the smallest L-`order` norm, ties by position."""
    blocks = row_blocks(weight)
    norms = torch.empty(len(weight))
    for block, part in zip(blocks, norms.split(len(blocks[0])), strict=True):
        torch.linalg.vector_norm(block.float(), order, dim=1, out=part)
    return norms.argsort(stable=True)[:k]


def random_rows(n: int, k: int, seed: int, name: str) -> torch.Tensor:
    """Indices of k of n rows: a uniform draw that depends on the seed and the matrix's name alone."""
    words = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    keys = np.random.PCG64(np.random.SeedSequence([seed, words])).random_raw(n)
    return torch.from_numpy(np.argsort(keys, kind="stable")[:k].copy())
