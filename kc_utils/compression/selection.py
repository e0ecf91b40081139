"""Which elements hold the k smallest keys: exactly k of them, in two passes and a fixed amount of memory.

The absolute value of a float32, read as an integer, orders as the float does. So a histogram over the upper half of
that integer finds the bucket that holds the k-th smallest, and a second pass keeps the members of that bucket, a few
in a thousand of all keys, among which the k-th smallest is found exactly. Any number of ks share both passes, and
nothing is sorted or copied as a whole (torch.nn.utils.prune concatenates all weights and sorts them: about 50 bytes a
weight). Where many keys are equal, the members are counted by a histogram over the lower half instead of kept.

Keys are int32 and not negative. Elements with equal keys are taken in order of position.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch

from kc_utils.compression.chunks import CHUNK, each_in_threads, in_threads

SHIFT = 16  # a 31-bit key is 15 upper bits, the first histogram, and 16 lower bits, the second
HIGH = 1 << (31 - SHIFT)
LOW = 1 << SHIFT
NEAR = 0.05  # of all keys may be kept; with their sorted copy 0.4 bytes a key of all
FEW = 1 << 19  # keys may be kept in any case
FLUSH = 1 << 19  # members of buckets that wait before they are counted

T = TypeVar("T")


@dataclass(frozen=True)
class Cut:
    """The k smallest keys are those below `key`, and the first `take` of the `equal` keys that are equal to it.

    end: how many keys there are up to the last of those, that one included, where it was met on the way.
    """

    key: int
    take: int
    equal: int
    end: int | None = field(default=None, compare=False)


def histogram(chunks: Sequence[T], keys: Callable[[T], np.ndarray]) -> np.ndarray:
    """How many keys fall into each bucket of their upper 15 bits: int64 (HIGH,). `keys(chunk)` is int32."""

    def count(part: Sequence[T]) -> np.ndarray:
        total = np.zeros(HIGH, np.int64)
        for chunk in part:
            upper = keys(chunk)
            upper >>= SHIFT
            for some in torch.from_numpy(upper).split(CHUNK):  # torch shares what is longer among its own threads
                counts = torch.bincount(some).numpy()
                total[: counts.size] += counts
        return total

    return sum(in_threads(count, chunks), np.zeros(HIGH, np.int64))


def cuts(
    chunks: Sequence[T], keys: Callable[[T], np.ndarray], ks: Sequence[int], high: np.ndarray | None = None
) -> list[Cut | None]:
    """The cut for each k, None for k = 0.

    chunks: pieces of some ten thousand keys, in order of position; keys: makes a piece's int32 keys anew, called
    twice a piece, from several threads; high: their `histogram`, when the caller has it already. Raises ValueError when a k
    is negative or above the number of keys.
    """
    high = histogram(chunks, keys) if high is None else high
    total = np.cumsum(high)
    if any(not 0 <= k <= total[-1] for k in ks):
        raise ValueError(f"k has to lie between 0 and the number of keys, {total[-1]}: {list(ks)}")
    bucket_of = {k: int(np.searchsorted(total, k)) for k in ks if k > 0}
    buckets = sorted(set(bucket_of.values()))
    kept = high[buckets]
    if kept.sum() > max(FEW, NEAR * total[-1]):
        low = _low_histograms(chunks, keys, buckets)
        found = [_cut_in(b, k - int(total[b] - high[b]), low[b]) for k, b in bucket_of.items()]
    else:
        left_out = dict(zip(buckets, total[buckets] - np.cumsum(kept), strict=True))  # smaller keys that are not kept
        found = _cuts_in_buckets(chunks, keys, buckets, [k - int(left_out[b]) for k, b in bucket_of.items()])
    by_k = {0: None} | dict(zip(bucket_of, found, strict=True))
    return [by_k[k] for k in ks]


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

    chunks, keys: as in `cuts`; sample: sorted int32.
    """
    low, high = _bracket(sample, k / sum(len(chunk) for chunk in chunks))
    share = (np.searchsorted(sample, high, "right") - np.searchsorted(sample, low)) / sample.size
    if share > NEAR:
        return None
    span = np.uint32(high - low)

    def look(chunk: T) -> tuple[int, int, tuple[int, np.ndarray]]:
        key = keys(chunk)
        top = int(key.max())
        key -= low
        near = key[np.flatnonzero(key.view(np.uint32) <= span)]  # a negative difference is larger than any span
        near += low
        return top, np.count_nonzero(key < 0), (key.size, near)

    tops, below, near = zip(*each_in_threads(look, chunks), strict=True)
    place = k - sum(below)
    if max(tops) >= limit or not 0 < place <= sum(kept.size for _, kept in near):
        return None
    return _cuts_among(chunks, keys, near, [place])[0]


def _bracket(sample: np.ndarray, share: float) -> tuple[np.int32, np.int32]:
    """Two keys of a sorted sample between which that share of all keys ends, all but surely."""
    place, margin = share * sample.size, 2.5 * math.sqrt(sample.size) + 8  # five standard deviations, or more
    return sample[max(0, int(place - margin))], sample[min(sample.size - 1, int(place + margin))]


def _members(buckets: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
    """What picks, of a piece's keys, those in any of the buckets, in order of position."""
    if len(buckets) == 1:
        return lambda key: key[np.flatnonzero(key >> SHIFT == buckets[0])]
    table = torch.zeros(HIGH, dtype=torch.bool)  # torch looks up by int32, of which numpy would make int64 first
    table[buckets] = True
    return lambda key: key[np.flatnonzero(table.index_select(0, torch.from_numpy(key >> SHIFT)).numpy())]


def _cuts_in_buckets(chunks, keys, buckets: list[int], places: Sequence[int]) -> list[Cut]:
    """The cuts at places in the order of all members of the buckets; a second pass."""
    if not places:
        return []
    members = _members(buckets)

    def look(chunk: T) -> tuple[int, np.ndarray]:
        key = keys(chunk)
        return key.size, members(key)

    return _cuts_among(chunks, keys, each_in_threads(look, chunks), places)


def _cuts_among(chunks, keys, near: Sequence[tuple[int, np.ndarray]], places: Sequence[int]) -> list[Cut]:
    """The cuts at places in the order of the keys that were kept, 1 being the smallest.

    near: of each piece, how many keys it has, and those that were kept, in order of position.
    """
    kept = np.concatenate([some for _, some in near])
    kept.sort()
    found = []
    for place in places:
        key = kept[place - 1]
        first, behind = (int(np.searchsorted(kept, key, side)) for side in ("left", "right"))
        take = place - first
        found.append(Cut(int(key), take, behind - first, _end(chunks, keys, near, key, take)))
    return found


def _end(chunks, keys, near: Sequence[tuple[int, np.ndarray]], key: np.int32, take: int) -> int:
    """How many keys there are up to the `take`-th of those equal to `key`; near: as above."""
    start, left = 0, take
    for chunk, (size, some) in zip(chunks, near, strict=True):
        ties = np.count_nonzero(some == key)
        if ties >= left:
            return start + int(np.flatnonzero(keys(chunk) == key)[left - 1]) + 1
        start, left = start + size, left - ties
    raise ValueError(f"fewer than {take} keys are {key}")


def _low_histograms(chunks, keys, buckets: list[int]) -> dict[int, np.ndarray]:
    def count(part: Sequence) -> dict[int, np.ndarray]:
        counts, members = {bucket: np.zeros(LOW, np.int64) for bucket in buckets}, _members(buckets)
        waiting: list[np.ndarray] = []

        def flush() -> None:
            key = np.concatenate(waiting)
            waiting.clear()
            upper = key >> SHIFT
            for bucket in buckets:
                counts[bucket] += _bincount(key[upper == bucket] & (LOW - 1), LOW)

        for chunk in part:
            waiting.append(members(keys(chunk)))
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
