"""Magnitude pruning: the weights of smallest absolute value become zero.

Idea: a small weight contributes little to a neuron's sum (Han et al. 2015, arXiv 1506.02626; global, over all layers
at once, in Frankle & Carbin 2019, arXiv 1803.03635). Exactly k = round(sparsity * n) weights are zeroed, n being the
weights of the scope (`per=model`), of each matrix (`per=layer`, torch's l1_unstructured), or of each output neuron
(`per=row`, as in Wanda, arXiv 2306.11695). Among equal magnitudes the first by position goes first: matrices in module
order, then the flat index of the stored weight. Masks equal those of torch.nn.utils.prune wherever no tie lies at the
cut; how the k smallest are found without sorting is in `selection.py`.

All functions work in place on float32, bfloat16 or float16 tensors on the CPU.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from kc_utils.compression.chunks import CHUNK, in_threads, row_blocks
from kc_utils.compression.outcome import Outcome
from kc_utils.compression.recipe import Step
from kc_utils.compression.selection import SHIFT, Cut, cut_near_sample, cuts, cuts_near_sample, histogram
from kc_utils.errors import BadModel, BadRequest
from kc_utils.models.scopes import Matrix

SAMPLE = 200_000  # weights looked at to guess where one cut lies
PIECE = 1 << 17  # elements
INFINITY = 0x7F800000  # bits of float32 infinity; NaNs are above it
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Threshold:
    """The k smallest magnitudes: those below `value`, and the first `take` of the `equal` ones that are equal to it.

    at: positions of those, counted over all tensors, in rising order, when known.
    """

    value: float
    take: int
    equal: int
    at: np.ndarray | None = field(default=None, compare=False, repr=False)


def run(model: torch.nn.Module, matrices: Sequence[Matrix], step: Step) -> Outcome:
    """Prune the matrices as the step says. Raises BadModel for NaN, infinity and dtypes other than DTYPES."""
    per = step.options["per"]
    if per == "row":
        asked = sum(prune_rows(m.rows, round(step.amount * m.inputs)) for m in matrices)
    else:
        asked = 0
        for group in [[m] for m in matrices] if per == "layer" else [matrices]:
            k = count_to_prune(step, sum(m.numel for m in group))
            tensors = [m.weight for m in group]
            zero_smallest(tensors, thresholds(tensors, [k])[0])
            asked += k
    return Outcome(zeros_asked=asked)


def count_to_prune(step: Step, n: int) -> int:
    """k of n weights: the step's `weights=`, or round(sparsity * n) as torch rounds. BadRequest when k > n."""
    k = step.options["weights"] if step.amount is None else round(step.amount * n)
    if k > n:
        raise BadRequest(f"recipe step {step}: the scope holds {n} weights only; ask for fewer")
    return k


def thresholds(tensors: Sequence[torch.Tensor], ks: Sequence[int]) -> list[Threshold | None]:
    """For each k, what separates the k smallest |w| of all tensors together; None for k = 0.

    tensors: any shapes, contiguous. One pass over the weights, a second one for few or often equal weights; at most
    4 MB of memory a thread and a k, and less than 15 % of the weights. Raises BadModel for NaN, infinity or another dtype;
    ValueError for a k above the number of weights.
    """
    for tensor in tensors:
        if tensor.dtype not in DTYPES:
            raise BadModel(f"weights of dtype {tensor.dtype} cannot be pruned; load the model in float32 or bfloat16")
    found = _near_sample(tensors, ks)
    if found is None:
        chunks = _pieces(tensors, CHUNK)
        high = histogram(chunks, float_keys)
        if high[INFINITY >> SHIFT :].any():
            raise BadModel(
                f"{int(high[INFINITY >> SHIFT :].sum())} weights are NaN or infinite; repair the model first"
            )
        found = cuts(chunks, float_keys, ks, high)
    return [cut and Threshold(float(np.int32(cut.key).view(np.float32)), cut.take, cut.equal, cut.at) for cut in found]


def _near_sample(tensors: Sequence[torch.Tensor], ks: Sequence[int]) -> list[Cut | None] | None:
    """The cuts in many weights in one pass, after a look at a sample; None where that does not apply or work."""
    total = sum(t.numel() for t in tensors)
    wanted = sorted({k for k in ks if k})
    if not wanted or wanted[0] < 0 or wanted[-1] > total or total < SAMPLE:
        return None
    size = SAMPLE if len(wanted) == 1 else min(total, 4 * SAMPLE)  # the finer, the less is kept for each k
    step = total // size | 1  # odd: weights that were rounded in groups of 32 would not be met evenly by an even one
    sample = np.sort(np.concatenate([float_keys(_flat(t)[::step]) for t in tensors]))
    if len(wanted) == 1:
        found = [cut_near_sample(_pieces(tensors, PIECE), float_keys, wanted[0], sample, INFINITY)]
    else:
        found = cuts_near_sample(_pieces(tensors, CHUNK), float_keys, wanted, sample, INFINITY) or [None]
    if None in found:
        return None
    by_k = {0: None} | dict(zip(wanted, found, strict=True))
    return [by_k[k] for k in ks]


def zero_smallest(tensors: Sequence[torch.Tensor], threshold: Threshold | None) -> int:
    """Zero, in place, the weights that the threshold separates. One pass over the weights, no extra memory.

    tensors: those that the threshold was found on, in the same order; or one of them, with a `take` that is left over
    from those before it and no `at`. Gives back how many of the weights equal to `value` it took.
    """
    if threshold is None or threshold.value == 0:
        return 0  # what is asked for is zero already
    value, all_equal_go = threshold.value, threshold.take == threshold.equal
    some_equal_go = threshold.take > 0 and not all_equal_go
    chunks = _pieces(tensors, CHUNK)
    limits = {t.dtype: _limit(value, t.dtype, all_equal_go) for t in tensors}

    def shrink(part: Sequence[tuple[int, torch.Tensor]]) -> list[tuple[int, int]]:
        ties = []
        for number, chunk in part:  # |w| <= limit becomes zero and the rest stays, bit by bit, in place
            torch.ops.aten.hardshrink.out(chunk, limits[chunk.dtype], out=chunk)
            if some_equal_go and threshold.at is None:
                ties.append((number, np.count_nonzero(_equal(chunk, value))))
        return ties

    parts = in_threads(shrink, list(enumerate(chunks)))
    if not some_equal_go:
        return threshold.take
    if threshold.at is not None:
        _zero_at(tensors, threshold.at)
        return threshold.take
    left = threshold.take
    for number, ties in sorted(pair for part in parts for pair in part):
        if ties and left:
            first = np.flatnonzero(_equal(chunks[number], value))[:left]
            chunks[number][torch.from_numpy(first)] = 0
            left -= first.size
    return threshold.take - left


def _zero_at(tensors: Sequence[torch.Tensor], positions: np.ndarray) -> None:
    ends = np.cumsum([t.numel() for t in tensors])
    owners = np.searchsorted(ends, positions, "right")
    for owner in np.unique(owners):
        here = positions[owners == owner] - (ends[owner] - tensors[owner].numel())
        _flat(tensors[owner])[torch.from_numpy(here)] = 0


def sweep(matrices: Sequence[Matrix], sparsities: Sequence[float]) -> Iterator[tuple[float, int]]:
    """Prune the matrices to one sparsity after the other, in rising order, in place; yields (sparsity, k) after each.

    All cuts come from one pass, and each state equals pruning the original model to that sparsity at once: the k
    smallest weights hold those of every smaller k.
    """
    tensors = [m.weight for m in matrices]
    n = sum(t.numel() for t in tensors)
    ordered = sorted(sparsities)
    ks = [round(s * n) for s in ordered]
    before: Threshold | None = None
    for sparsity, k, threshold in zip(ordered, ks, thresholds(tensors, ks), strict=True):
        now = threshold
        if before and threshold and before.value == threshold.value:  # some of these ties are zero by now
            at = None if threshold.at is None else threshold.at[before.take :]
            now = Threshold(threshold.value, threshold.take - before.take, threshold.equal - before.take, at)
        if now is None or now.take:
            zero_smallest(tensors, now)
        before = threshold
        yield sparsity, k


def smallest_in_rows(magnitudes: torch.Tensor, k: int) -> torch.Tensor:
    """Boolean mask of the k smallest in each row of (rows, columns), ties by position; exactly k a row."""
    if k == 0:
        return torch.zeros_like(magnitudes, dtype=torch.bool)
    value = magnitudes.kthvalue(k, dim=1, keepdim=True).values
    smallest = magnitudes <= value
    if int(smallest.sum()) == k * len(magnitudes):
        return smallest
    below, equal = magnitudes < value, magnitudes == value
    return below | (equal & (equal.cumsum(1) <= k - below.sum(1, keepdim=True)))


def prune_rows(weight: torch.Tensor, k: int) -> int:
    """Zero the k smallest |w| of each row of (outputs, inputs) in place; gives back how many that are."""

    def prune(part: Sequence[torch.Tensor]) -> None:
        for rows in part:
            rows.masked_fill_(smallest_in_rows(rows.abs().float(), k), 0)

    in_threads(prune, row_blocks(weight))
    return k * weight.shape[0]


def _pieces(tensors: Sequence[torch.Tensor], size: int) -> list[torch.Tensor]:
    """Flat views of at most `size` elements, in order of position."""
    return [piece for tensor in tensors for piece in _flat(tensor).split(size)]


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().view(-1)


def float_keys(chunk: torch.Tensor) -> np.ndarray:
    """|w| as int32 that order as the magnitudes do; half precisions are exact in float32."""
    return chunk.float().numpy().view(np.int32) & 0x7FFFFFFF


def _equal(piece: torch.Tensor, value: float) -> np.ndarray:
    """Which |w| are `value`: bool."""
    number = torch.tensor(value, dtype=piece.dtype)
    if float(number) != value:  # a cut among weights of another dtype
        return np.zeros(piece.numel(), bool)
    bits, sign = (torch.int32, 0x7FFFFFFF) if piece.dtype == torch.float32 else (torch.int16, 0x7FFF)
    return piece.view(bits).numpy() & sign == int(number.view(bits))


def _limit(value: float, dtype: torch.dtype, inclusive: bool) -> float:
    """The largest number of the dtype that is at most `value` (a positive float32), or below it if not inclusive."""
    number = torch.tensor(value, dtype=dtype)
    if float(number) > value or (float(number) == value and not inclusive):
        bits = torch.int32 if dtype == torch.float32 else torch.int16
        number = (number.view(bits) - 1).view(dtype)
    return float(number)
