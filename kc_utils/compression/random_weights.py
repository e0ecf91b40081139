"""Random pruning: a seeded, uniformly drawn set of exactly k weights becomes zero.

The control for magnitude pruning: what is lost when as many weights go regardless of their size. Each weight gets a
random 31-bit key from PCG64, seeded by (seed, matrix name, chunk), and the k smallest keys of the scope go; so the
draw does not depend on the order in which matrices are met, and keys are made again instead of kept.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kc_utils.compression.chunks import CHUNK, in_threads
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


@dataclass(frozen=True)
class Draw:
    """The weights that go: those whose key is below `limit`, and a few at the limit by name and flat position."""

    seed: int
    limit: int
    ties: dict[str, np.ndarray]


def draw(sizes: Mapping[str, int], k: int, seed: int) -> Draw:
    """Draw k of all weights uniformly; sizes: how many weights each matrix has, by name.

    The same seed, names, sizes and k give the same weights, and a larger k a superset of them.
    """
    pieces = [(seed, name, *piece) for name in sorted(sizes) for piece in _pieces(sizes[name])]
    cut = cuts(pieces, _keys, [k])[0]
    if cut is None or cut.take == cut.equal:
        return Draw(seed, cut.key + 1 if cut else 0, {})

    def at_limit(part: Sequence[Piece]) -> list[tuple[Piece, np.ndarray]]:
        found = ((piece, np.flatnonzero(_keys(piece) == cut.key)) for piece in part)
        return [(piece, at) for piece, at in found if at.size]

    found = sorted((pair for part in in_threads(at_limit, pieces) for pair in part), key=lambda pair: pair[0])
    first = [(name, number * CHUNK + i) for (_, name, number, _), at in found for i in at][: cut.take]
    return Draw(seed, cut.key, {n: np.array([at for name, at in first if name == n]) for n in dict(first)})


def zero_drawn(tensor: torch.Tensor, name: str, drawn: Draw) -> None:
    """Zero, in place, the weights of one matrix (contiguous, any shape) that were drawn."""
    flat = tensor.view(-1)

    def zero(part: Sequence[Piece]) -> None:
        for piece in part:
            start = piece[2] * CHUNK
            flat[start : start + piece[3]].masked_fill_(torch.from_numpy(_keys(piece) < drawn.limit), 0)

    in_threads(zero, [(drawn.seed, name, *piece) for piece in _pieces(flat.numel())])
    if name in drawn.ties:
        flat[torch.from_numpy(drawn.ties[name])] = 0


def zero_random(tensors: Mapping[str, torch.Tensor], k: int, seed: int) -> None:
    """Zero, in place, k weights of all tensors (contiguous, any shape) together, drawn as `draw` says."""
    drawn = draw({name: tensor.numel() for name, tensor in tensors.items()}, k, seed)
    for name, tensor in tensors.items():
        zero_drawn(tensor, name, drawn)


def _pieces(n: int) -> list[tuple[int, int]]:
    return [(i, min(CHUNK, n - i * CHUNK)) for i in range(-(-n // CHUNK))]


def _keys(piece: Piece) -> np.ndarray:
    """Random int32 keys in [0, 2**31) of one chunk. A bit generator's raw stream is the same in every numpy version."""
    seed, name, number, length = piece
    words = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    generator = np.random.PCG64(np.random.SeedSequence([seed, words, number]))
    return (generator.random_raw(-(-length // 2)).view(np.uint32)[:length] >> 1).astype(np.int32)
