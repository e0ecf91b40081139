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
from kc_utils.compression.selection import SHIFT, Cut, cut_near_sample, cuts, histogram
from kc_utils.errors import BadModel, BadRequest
from kc_utils.models.scopes import Matrix

SAMPLE = 200_000  # weights looked at to guess where one cut lies
PIECE = 1 << 17  # elements
INFINITY = 0x7F800000  # bits of float32 infinity; NaNs are above it
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Threshold:
    """The k smallest magnitudes: those below `value`, and the first `take` of the `equal` ones that are equal to it.

    at: where those are, as (number of the piece of PIECE weights, positions in it), when known.
    """

    value: float
    take: int
    equal: int
    at: tuple[tuple[int, np.ndarray], ...] | None = field(default=None, compare=False, repr=False)


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

    tensors: any shapes, contiguous. One pass over the weights for a single k, two for any number of ks; at most 4 MB
    of memory a thread and a k, and about 4 % of the weights. Raises BadModel for NaN, infinity or another dtype;
    ValueError for a k above the number of weights.
    """
    for tensor in tensors:
        if tensor.dtype not in DTYPES:
            raise BadModel(f"weights of dtype {tensor.dtype} cannot be pruned; load the model in float32 or bfloat16")
    found = _one_cut(tensors, ks)
    if found is None:
        chunks = _pieces(tensors, CHUNK)
        high = histogram(chunks, float_keys)
        if high[INFINITY >> SHIFT :].any():
            raise BadModel(
                f"{int(high[INFINITY >> SHIFT :].sum())} weights are NaN or infinite; repair the model first"
            )
        found = cuts(chunks, float_keys, ks, high)
    return [cut and Threshold(float(np.int32(cut.key).view(np.float32)), cut.take, cut.equal, cut.at) for cut in found]


def _one_cut(tensors: Sequence[torch.Tensor], ks: Sequence[int]) -> list[Cut | None] | None:
    """The cut where one k alone is asked of many weights, in one pass; None where that does not apply or work."""
    total = sum(t.numel() for t in tensors)
    if len(ks) != 1 or not 0 < ks[0] <= total or total < SAMPLE:
        return None
    step = total // SAMPLE
    sample = np.sort(np.concatenate([float_keys(_flat(t)[::step]) for t in tensors]))
    cut = cut_near_sample(_pieces(tensors, PIECE), float_keys, ks[0], sample, INFINITY)
    return None if cut is None else [cut]


def zero_smallest(tensors: Sequence[torch.Tensor], threshold: Threshold | None) -> None:
    """Zero, in place, the weights that the threshold separates. One pass over the weights, no extra memory.

    tensors: those that the threshold was found on, in the same order.
    """
    if threshold is None or threshold.value == 0:
        return  # what is asked for is zero already
    all_equal_go = threshold.take == threshold.equal
    chunks = _pieces(tensors, CHUNK)
    limits = {t.dtype: _limit(threshold.value, t.dtype, all_equal_go) for t in tensors}

    def shrink(part: Sequence[torch.Tensor]) -> None:
        for chunk in part:  # |w| <= limit becomes zero and the rest stays, bit by bit, in place
            torch.ops.aten.hardshrink.out(chunk, limits[chunk.dtype], out=chunk)

    in_threads(shrink, chunks)
    if all_equal_go:
        return
    for piece, ties in _first_ties(_pieces(tensors, PIECE), threshold):
        piece[torch.from_numpy(ties)] = 0


def first_ties(tensor: torch.Tensor, value: float, most: int) -> Threshold:
    """The threshold that separates the weights of one tensor below `value`, and at most the first `most` equal to it."""
    if most == 0:
        return Threshold(value, 0, 1)

    def look(part: Sequence[tuple[int, torch.Tensor]]) -> list[tuple[int, np.ndarray]]:
        return [(number, np.flatnonzero(_equal(piece, value))) for number, piece in part]

    parts = in_threads(look, list(enumerate(_pieces([tensor], PIECE))))
    at, equal = [], 0
    for number, ties in sorted((found for part in parts for found in part), key=lambda found: found[0]):
        at.append((number, ties[: max(0, most - equal)]))
        equal += ties.size
    return Threshold(value, min(most, equal), equal, tuple((number, ties) for number, ties in at if ties.size))


def _first_ties(pieces: list[torch.Tensor], threshold: Threshold) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
    """The pieces that hold some of the first `take` weights of magnitude `value`, and their positions."""
    if threshold.at is not None:
        yield from ((pieces[number], ties) for number, ties in threshold.at)
        return
    left = threshold.take
    for piece in pieces:
        ties = np.flatnonzero(_equal(piece, threshold.value))[:left]
        if ties.size:
            yield piece, ties
            left -= ties.size
        if not left:
            return


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
            now = Threshold(threshold.value, threshold.take - before.take, threshold.equal - before.take)
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
