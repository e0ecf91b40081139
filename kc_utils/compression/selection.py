"""Which elements hold the k smallest keys: exactly k of them, in two passes and a fixed amount of memory.

The absolute value of a float32, read as an integer, orders as the float does. So a histogram over the upper half of
that integer finds the bucket that holds the k-th smallest, and a second histogram over the lower half of the bucket's
members finds it exactly. Any number of ks share both passes, and nothing is sorted or copied as a whole
(torch.nn.utils.prune concatenates all weights and sorts them: about 50 bytes a weight).

Keys are int32 and not negative. Elements with equal keys are taken in order of position.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch

from kc_utils.compression.chunks import in_threads

SHIFT = 17  # a 31-bit key is 14 upper bits, the first histogram, and 17 lower bits, the second
HIGH = 1 << (31 - SHIFT)
LOW = 1 << SHIFT
FLUSH = 1 << 19  # members of buckets that wait before they are counted

T = TypeVar("T")


@dataclass(frozen=True)
class Cut:
    """The k smallest keys are those below `key`, and the first `take` of the `equal` keys that are equal to it.

    at: where those are, as (number of the piece, positions in it), when they were met on the way.
    """

    key: int
    take: int
    equal: int
    at: tuple[tuple[int, np.ndarray], ...] | None = field(default=None, compare=False, repr=False)


def histogram(chunks: Sequence[T], keys: Callable[[T], np.ndarray]) -> np.ndarray:
    """How many keys fall into each bucket of their upper 14 bits: int64 (HIGH,). `keys(chunk)` is int32."""

    def count(part: Sequence[T]) -> np.ndarray:
        total = np.zeros(HIGH, np.int64)
        for chunk in part:
            total += _bincount(keys(chunk) >> SHIFT, HIGH)
        return total

    return sum(in_threads(count, chunks), np.zeros(HIGH, np.int64))


def cuts(
    chunks: Sequence[T], keys: Callable[[T], np.ndarray], ks: Sequence[int], high: np.ndarray | None = None
) -> list[Cut | None]:
    """The cut for each k, None for k = 0.

    chunks: pieces of about chunks.CHUNK keys, in order of position; keys: makes a piece's int32 keys, called twice a
    piece, from several threads; high: their `histogram`, when the caller has it already. Raises ValueError when a k
    is negative or above the number of keys.
    """
    high = histogram(chunks, keys) if high is None else high
    total = np.cumsum(high)
    if any(not 0 <= k <= total[-1] for k in ks):
        raise ValueError(f"k has to lie between 0 and the number of keys, {total[-1]}: {list(ks)}")
    bucket_of = {k: int(np.searchsorted(total, k)) for k in ks if k > 0}
    low = _low_histograms(chunks, keys, sorted(set(bucket_of.values())))
    found: list[Cut | None] = []
    for k in ks:
        if k == 0:
            found.append(None)
            continue
        bucket = bucket_of[k]
        found.append(_cut_in(bucket, k - int(total[bucket] - high[bucket]), low[bucket]))
    return found


def _cut_in(bucket: int, inside: int, low: np.ndarray) -> Cut:
    """The cut where the k-th smallest key is the `inside`-th of a bucket; low: the bucket's lower histogram."""
    running = np.cumsum(low)
    value = int(np.searchsorted(running, inside))
    equal = int(low[value])
    return Cut((bucket << SHIFT) | value, inside - int(running[value] - equal), equal)


def cut_in_parts(parts: Callable[[], Iterable[Sequence[T]]], keys: Callable[[T], np.ndarray], k: int) -> Cut:
    """The cut for one k > 0 of keys that do not fit into memory together.

    parts: called twice; gives the pieces part by part, each of which may be gone when the next one comes.
    """
    high = sum((histogram(part, keys) for part in parts()), np.zeros(HIGH, np.int64))
    total = np.cumsum(high)
    bucket = int(np.searchsorted(total, k))
    low = sum((_low_histograms(part, keys, [bucket])[bucket] for part in parts()), np.zeros(LOW, np.int64))
    return _cut_in(bucket, k - int(total[bucket] - high[bucket]), low)


def cut_near_sample(
    chunks: Sequence[T], keys: Callable[[T], np.ndarray], k: int, sample: np.ndarray, limit: int
) -> Cut | None:
    """The cut for one k > 0 in a single pass, or None when the sample misled or a key reaches `limit`.

    Idea: a sorted sample of the keys says between which two values the k-th smallest lies, all but surely; one pass
    counts the keys below the lower value and keeps the few between, and the exact cut is selected among those (Floyd &
    Rivest 1975, SELECT). The count decides whether the sample was right, so a cut that is given back is exact.

    chunks, keys: as in `cuts`, except that pieces may be larger; sample: sorted int32.
    """
    total = sum(len(chunk) for chunk in chunks)
    place, margin = k / total * sample.size, 4 * math.sqrt(sample.size) + 8
    low = sample[max(0, int(place - margin))]
    high = sample[min(sample.size - 1, int(place + margin))]
    span = np.uint32(high - low)

    def look(part: Sequence[tuple[int, T]]) -> tuple[int, int, list[tuple[int, np.ndarray, np.ndarray]]]:
        below, top, near = 0, 0, []
        for number, chunk in part:
            key = keys(chunk)
            top = max(top, int(key.max()))
            key -= low
            below += np.count_nonzero(key < 0)
            above_low = key.view(np.uint32)  # a negative difference becomes larger than any span
            where = np.flatnonzero(above_low <= span)
            near.append((number, where, above_low[where]))
        return below, top, near

    found = in_threads(look, list(enumerate(chunks)))
    pieces = sorted((piece for _, _, near in found for piece in near), key=lambda piece: piece[0])
    members = np.concatenate([values for _, _, values in pieces])
    inside = k - sum(below for below, _, _ in found)
    if max(top for _, top, _ in found) >= limit or not 0 < inside <= members.size:
        return None
    value = np.partition(members, inside - 1)[inside - 1]
    take, equal = inside - int((members < value).sum()), int((members == value).sum())
    at, left = [], take
    for number, where, values in pieces:
        ties = where[values == value][:left]
        if ties.size:
            at.append((number, ties))
            left -= ties.size
        if not left:
            break
    return Cut(int(value) + int(low), take, equal, tuple(at))


def _low_histograms(chunks, keys, buckets: list[int]) -> dict[int, np.ndarray]:
    def count(part: Sequence) -> dict[int, np.ndarray]:
        counts = {bucket: np.zeros(LOW, np.int64) for bucket in buckets}
        waiting: list[np.ndarray] = []

        def flush() -> None:
            members = np.concatenate(waiting)
            waiting.clear()
            upper = members >> SHIFT
            for bucket in buckets:
                counts[bucket] += _bincount(members[upper == bucket] & (LOW - 1), LOW)

        for chunk in part:
            key = keys(chunk)
            upper = (key >> SHIFT).astype(np.int16)
            wanted = upper == buckets[0]
            for bucket in buckets[1:]:
                wanted |= upper == bucket
            waiting.append(key[np.flatnonzero(wanted)])
            if len(waiting) >= 1024 or waiting[-1].size * len(waiting) >= FLUSH:
                flush()
        if waiting:
            flush()
        return counts

    totals = {bucket: np.zeros(LOW, np.int64) for bucket in buckets}
    for counts in in_threads(count, chunks) if buckets else ():
        for bucket in buckets:
            totals[bucket] += counts[bucket]
    return totals


def _bincount(values: np.ndarray, size: int) -> np.ndarray:
    return torch.bincount(torch.from_numpy(values), minlength=size).numpy()  # numpy's own converts to int64 first
