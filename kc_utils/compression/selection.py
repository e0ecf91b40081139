"""Which elements hold the k smallest keys: exactly k of them, in two passes and a fixed amount of memory.

The absolute value of a float32, read as an integer, orders as the float does. So a histogram over the upper half of
that integer finds the bucket that holds the k-th smallest, and a second histogram over the lower half of the bucket's
members finds it exactly. Any number of ks share both passes, and nothing is sorted or copied as a whole
(torch.nn.utils.prune concatenates all weights and sorts them: about 50 bytes a weight).

Keys are int32 and not negative. Elements with equal keys are taken in order of position.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch

from kc_utils.compression.chunks import in_threads

SHIFT = 17  # a 31-bit key is 14 upper bits, the first histogram, and 17 lower bits, the second
HIGH = 1 << (31 - SHIFT)
LOW = 1 << SHIFT
NEAR = 0.15  # of all keys may be kept in one pass
FLUSH = 1 << 19  # members of buckets that wait before they are counted

T = TypeVar("T")


@dataclass(frozen=True)
class Cut:
    """The k smallest keys are those below `key`, and the first `take` of the `equal` keys that are equal to it.

    at: positions of those, counted over all pieces, in rising order, when they were met on the way.
    """

    key: int
    take: int
    equal: int
    at: np.ndarray | None = field(default=None, compare=False, repr=False)


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
    """The cut for one k > 0 in a single pass, or None: the sample misled, too many keys are equal, one reaches `limit`.

    Idea: a sorted sample of the keys says between which two values the k-th smallest lies, all but surely; one pass
    counts the keys below the lower value and keeps the few between, and the exact cut is selected among those (Floyd &
    Rivest 1975, SELECT). The count decides whether the sample was right, so a cut that is given back is exact.

    chunks, keys: as in `cuts`, except that pieces may be larger; sample: sorted int32.
    """
    low, high = _bracket(sample, k / sum(len(chunk) for chunk in chunks))
    if _share(sample, low, high) > NEAR:
        return None
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
    if max(top for _, top, _ in found) >= limit:
        return None
    pieces = sorted((piece for _, _, near in found for piece in near), key=lambda piece: piece[0])
    cut = _cut_among(np.concatenate([values for _, _, values in pieces]), k - sum(below for below, _, _ in found))
    if cut is None:
        return None
    at, left, start = [], cut.take, 0
    for (_, where, values), chunk in zip(pieces, chunks, strict=True):
        at.append(where[values == cut.key][:left] + start)
        left -= at[-1].size
        start += len(chunk)
        if not left:
            break
    return Cut(cut.key + int(low), cut.take, cut.equal, np.concatenate(at))


def cuts_near_sample(
    chunks: Sequence[T], keys: Callable[[T], np.ndarray], ks: Sequence[int], sample: np.ndarray, limit: int
) -> list[Cut] | None:
    """The cuts for several ks > 0 in a single pass, or None as `cut_near_sample`.

    Each piece is sorted in the cache: for several ks that is faster than counting below and between for each of them.
    """
    brackets = [_bracket(sample, k / sum(len(chunk) for chunk in chunks)) for k in ks]
    lows, highs = (np.array(side, sample.dtype) for side in zip(*brackets, strict=True))
    if _share(sample, lows, highs).sum() > NEAR:
        return None

    def look(part: Sequence[tuple[int, T]]) -> tuple[np.ndarray, int, list[tuple[int, list[np.ndarray]]]]:
        below, top, near = np.zeros(len(ks), np.int64), 0, []
        for number, chunk in part:
            key = keys(chunk)
            key.sort()
            top = max(top, int(key[-1]))
            first, last = np.searchsorted(key, lows), np.searchsorted(key, highs, "right")
            below += first
            near.append((number, [key[a:b].copy() for a, b in zip(first, last, strict=True)]))
        return below, top, near

    found = in_threads(look, list(enumerate(chunks)))
    if max(top for _, top, _ in found) >= limit:
        return None
    pieces = [near for _, near in sorted((p for _, _, near in found for p in near), key=lambda piece: piece[0])]
    cuts_found, tied = [], {}  # tied: number of a piece -> the cuts some of whose ties are in it
    for i, k in enumerate(ks):
        members = np.concatenate([near[i] for near in pieces])
        cut = _cut_among(members, k - int(sum(below[i] for below, _, _ in found)))
        if cut is None:
            return None
        cuts_found.append(cut)
        ties = np.flatnonzero(members == cut.key)[: cut.take]
        for owner in np.unique(np.searchsorted(np.cumsum([near[i].size for near in pieces]), ties, "right")):
            tied.setdefault(int(owner), []).append(i)
    starts = np.cumsum([0] + [len(chunk) for chunk in chunks])

    def find(part: Sequence[int]) -> list[tuple[int, int, np.ndarray]]:
        places = []
        for number in part:
            key = keys(chunks[number])
            places += [(i, number, starts[number] + np.flatnonzero(key == cuts_found[i].key)) for i in tied[number]]
        return places

    places = sorted((p for part in in_threads(find, sorted(tied)) for p in part), key=lambda place: place[:2])
    at = [np.concatenate([where for j, _, where in places if j == i]) for i in range(len(ks))]
    return [replace(cut, at=where[: cut.take]) for cut, where in zip(cuts_found, at, strict=True)]


def _bracket(sample: np.ndarray, share: float) -> tuple[np.int32, np.int32]:
    """Two keys of a sorted sample between which that share of all keys ends, all but surely."""
    place, margin = share * sample.size, 2.5 * math.sqrt(sample.size) + 8  # five standard deviations, or more
    return sample[max(0, int(place - margin))], sample[min(sample.size - 1, int(place + margin))]


def _share(sample: np.ndarray, low, high):
    """The share of the sorted sample that lies between, both included."""
    return (np.searchsorted(sample, high, "right") - np.searchsorted(sample, low)) / sample.size


def _cut_among(members: np.ndarray, inside: int) -> Cut | None:
    """The cut at the `inside`-th smallest of the members, None when there is none."""
    if not 0 < inside <= members.size:
        return None
    value = np.partition(members, inside - 1)[inside - 1]
    return Cut(int(value), inside - int((members < value).sum()), int((members == value).sum()))


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
