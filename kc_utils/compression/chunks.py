"""Work on weights in pieces that stay in the cache, on all cores.

torch shares a loop over 32,768 elements or more among its own threads; on a machine that others use too, each such
loop waits for the slowest thread (a histogram of 106 M weights took 6 s of processor time instead of 0.3). Pieces below
that size run in the thread that asks, and threads here take whole pieces. numpy and torch let go of the interpreter
lock inside their loops.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

CHUNK = (1 << 15) - (1 << 6)  # elements

T = TypeVar("T")
R = TypeVar("R")


def in_threads(work: Callable[[Sequence[T]], R], pieces: Sequence[T]) -> list[R]:
    """work(part) for interleaved parts of the pieces, one part a thread, as many threads as torch uses."""
    threads = max(1, min(torch.get_num_threads(), len(pieces)))
    if threads == 1:
        return [work(pieces)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, [pieces[i::threads] for i in range(threads)]))


def each_in_threads(work: Callable[[T], R], pieces: Sequence[T]) -> list[R]:
    """work(piece) for each piece, in their order; done as `in_threads` does."""
    parts = in_threads(lambda part: [work(piece) for piece in part], pieces)
    return [parts[i % len(parts)][i // len(parts)] for i in range(len(pieces))]


def row_blocks(weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Views of whole rows of (outputs, inputs), about CHUNK elements each, at least one row."""
    return weight.split(max(1, CHUNK // weight.shape[1]))
