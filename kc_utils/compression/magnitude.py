"""Magnitude pruning: the weights of smallest absolute value become zero.

Idea: a small weight contributes little to a neuron's sum (Han et al. 2015, arXiv 1506.02626; global, over all layers
at once, in Frankle & Carbin 2019, arXiv 1803.03635). Exactly k = round(sparsity * n) weights are zeroed, n being the
weights of the scope (`per=model`), of each matrix (`per=layer`, torch's l1_unstructured), or of each output neuron
(`per=row`, as in Wanda, arXiv 2306.11695). Among equal magnitudes the first by position goes first: matrices in module
order, then the flat index of the stored weight. Masks equal those of torch.nn.utils.prune wherever no tie lies at the
cut; how the k smallest are found without sorting is in `selection.py`.

All functions work in place on float32, bfloat16 or float16 tensors on the CPU.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np
import torch

from kc_utils.compression.chunks import CHUNK, each_in_threads, in_threads, row_blocks
from kc_utils.compression.outcome import Outcome
from kc_utils.compression.recipe import Step
from kc_utils.compression.selection import SHIFT, Cut, cut_near_sample, cuts, histogram
from kc_utils.errors import BadModel, BadRequest
from kc_utils.models.scopes import Matrix

SAMPLE = 200_000  # weights looked at to guess where one cut lies
PIECE = 4 * CHUNK  # elements at once for numpy, which has no threads of its own
INFINITY = 0x7F800000  # bits of float32 infinity; NaNs are above it
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Threshold:
    """The k smallest magnitudes: those below `value`, and the first `take` of the `equal` ones that are equal to it.

    end: how many weights there are up to the last of those, counted over all tensors, when known.
    """

    value: float
    take: int
    equal: int
    end: int | None = field(default=None, compare=False)


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

    tensors: any shapes, contiguous. One pass over many weights for one k, else two; a third where so many weights equal
    a cut that they are counted and not kept. Extra memory: less than 10 % of float32 weights, or 1 MB a thread and a k.
    Raises BadModel for NaN, infinity or another dtype; ValueError for a k above the number of weights.
    """
    for tensor in tensors:
        if tensor.dtype not in DTYPES:
            raise BadModel(f"weights of dtype {tensor.dtype} cannot be pruned; load the model in float32 or bfloat16")
    pieces = _pieces(tensors, PIECE)
    found = _near_sample(tensors, pieces, *ks) if len(ks) == 1 else None
    if found is None:
        high = histogram(pieces, float_keys)
        if bad := int(high[INFINITY >> SHIFT :].sum()):
            raise BadModel(f"{bad} weights are NaN or infinite; repair the model first")
        found = cuts(pieces, float_keys, ks, high)
    return [cut and _placed(pieces, Threshold(_magnitude(cut.key), cut.take, cut.equal, cut.end)) for cut in found]


def _near_sample(tensors: Sequence[torch.Tensor], pieces: Sequence[torch.Tensor], k: int) -> list[Cut] | None:
    """The cut in many weights in one pass, after a look at a sample; None where that does not apply or work."""
    total = sum(t.numel() for t in tensors)
    if not 0 < k <= total or total < SAMPLE:
        return None
    step = total // SAMPLE | 1  # odd: weights that were rounded in groups of 32 would not be met evenly by an even one
    sample = np.sort(np.concatenate([float_keys(_flat(t)[::step]) for t in tensors]))
    cut = cut_near_sample(pieces, float_keys, k, sample, INFINITY)
    return cut and [cut]


def zero_smallest(tensors: Sequence[torch.Tensor], threshold: Threshold | None) -> int:
    """Zero, in place, the weights that the threshold separates. One pass over the weights, no extra memory.

    tensors: those that the threshold was found on, in the same order; or one of them, with a `take` that is left over
    from those before it and no `end`, which is looked for in a pass more. Gives back how many of the weights equal to
    `value` it took.
    """
    if threshold is None or threshold.value == 0:
        return 0  # what is asked for is zero already
    pieces = _pieces(tensors, CHUNK)
    here = _placed(pieces, threshold)
    _shrink(pieces, here)
    return here.take


def _placed(pieces: Sequence[torch.Tensor], threshold: Threshold) -> Threshold:
    """The threshold with its `end` where it has none but needs it; `take` all of them where there are fewer ties."""
    if threshold.end is not None or threshold.value == 0 or threshold.take == threshold.equal:
        return threshold
    ties = each_in_threads(lambda piece: np.count_nonzero(_equal(piece, threshold.value)), pieces)
    end, left = 0, threshold.take
    for piece, here in zip(pieces, ties, strict=True):
        if here >= left:
            end += int(np.flatnonzero(_equal(piece, threshold.value))[left - 1]) + 1 if left else 0
            return replace(threshold, end=end)
        end, left = end + len(piece), left - here
    return replace(threshold, take=threshold.take - left, end=end)


def _shrink(pieces: Sequence[torch.Tensor], threshold: Threshold) -> None:
    """Zero what is below the value everywhere, and what equals it up to the threshold's end. One pass, in place.

    pieces: of at most CHUNK elements.
    """
    ties_go, ties_stay = (pieces, []) if threshold.take == threshold.equal else _split(pieces, threshold.end)
    work = []
    for side, inclusive in ((ties_go, True), (ties_stay, False)):
        limits = {dtype: _limit(threshold.value, dtype, inclusive) for dtype in {piece.dtype for piece in side}}
        work += [(piece, limits[piece.dtype]) for piece in side]
    hardshrink = torch.ops.aten.hardshrink.out

    def shrink(part: Sequence[tuple[torch.Tensor, float]]) -> None:
        for piece, limit in part:  # |w| <= limit becomes zero and the rest stays, bit by bit
            hardshrink(piece, limit, out=piece)

    in_threads(shrink, work)


def _split(pieces: Sequence[torch.Tensor], end: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The first `end` elements of all pieces, and the others."""
    ends = list(accumulate(piece.numel() for piece in pieces))
    number = bisect_right(ends, end)
    if number == len(pieces):
        return list(pieces), []
    first, second = pieces[number].tensor_split([end - ends[number]])  # a negative place counts from the back
    return [*pieces[:number], first], [second, *pieces[number + 1 :]]


def sweep(matrices: Sequence[Matrix], sparsities: Sequence[float]) -> Iterator[tuple[float, int]]:
    """Prune the matrices to one sparsity after the other, in rising order, in place; yields (sparsity, k) after each.

    All cuts are found before the first state. Each state equals pruning the original model to that sparsity at once,
    as the k smallest weights hold those of every smaller k, and takes one pass.
    """
    tensors = [m.weight for m in matrices]
    pieces = _pieces(tensors, CHUNK)
    n = sum(t.numel() for t in tensors)
    ordered = sorted(sparsities)
    ks = [round(s * n) for s in ordered]
    for sparsity, k, threshold in zip(ordered, ks, thresholds(tensors, ks), strict=True):
        if threshold and threshold.value:
            _shrink(pieces, threshold)
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


def _magnitude(key: int) -> float:
    return float(np.int32(key).view(np.float32))


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
