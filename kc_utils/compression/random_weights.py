"""Random pruning: a seeded, uniformly drawn set of exactly k weights becomes zero.

The control for magnitude pruning: what is lost when as many weights go regardless of their size. Each weight gets a
random 31-bit key from PCG64, seeded by (seed, matrix name, chunk), and the k smallest keys of the scope go; so the
draw does not depend on the order in which matrices are met, and keys are made again instead of kept.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from kc_utils.compression.chunks import CHUNK
from kc_utils.compression.magnitude import count_to_prune
from kc_utils.compression.outcome import Outcome
from kc_utils.compression.recipe import Step
from kc_utils.compression.selection import cuts
from kc_utils.models.scopes import Matrix

Piece = tuple[int, str, int, int]  # seed, matrix name, number of the chunk, its length


def run(model: torch.nn.Module, matrices: Sequence[Matrix], step: Step) -> Outcome:
    """Zero exactly k weights of the scope, drawn with the step's seed."""
    k = count_to_prune(step, sum(m.numel for m in matrices))
    zero_random({m.name: m.weight for m in matrices}, k, step.options["seed"])
    return Outcome(zeros_asked=k)


def zero_random(tensors: dict[str, torch.Tensor], k: int, seed: int) -> None:
    """Zero, in place, k weights of all tensors (contiguous, any shape) together, drawn uniformly.

    The same seed, names, shapes and k give the same weights, and a larger k a superset of them.
    """
    pieces = [(seed, name, *piece) for name in sorted(tensors) for piece in _pieces(tensors[name].numel())]
    cut = cuts(pieces, _keys, [k])[0]
    if cut is None:
        return
    left = cut.take
    for piece in pieces:
        keys = _keys(piece)
        gone = keys < cut.key
        if left:
            ties = np.flatnonzero(keys == cut.key)[:left]
            gone[ties] = True
            left -= len(ties)
        start = piece[2] * CHUNK
        tensors[piece[1]].view(-1)[start : start + piece[3]].masked_fill_(torch.from_numpy(gone), 0)


def _pieces(n: int) -> list[tuple[int, int]]:
    return [(i, min(CHUNK, n - i * CHUNK)) for i in range(-(-n // CHUNK))]


def _keys(piece: Piece) -> np.ndarray:
    """Random int32 keys in [0, 2**31) of one chunk. A bit generator's raw stream is the same in every numpy version."""
    seed, name, number, length = piece
    words = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    generator = np.random.PCG64(np.random.SeedSequence([seed, words, number]))
    return (generator.random_raw(-(-length // 2)).view(np.uint32)[:length] >> 1).astype(np.int32)
