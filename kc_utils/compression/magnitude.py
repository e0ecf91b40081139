"""Magnitude pruning: set the weights of smallest absolute value to zero.

Idea: a small weight contributes little to a neuron's sum (Han et al. 2015, arXiv 1506.02626; global, over all layers
at once, in Frankle & Carbin 2019, arXiv 1803.03635). Exactly k = round(sparsity * n) weights go, n being the weights
of the scope (`per=model`), of each matrix (`per=layer`, torch's l1_unstructured) or of each output neuron (`per=row`,
as in Wanda, arXiv 2306.11695). Among equal magnitudes the first by position go first: matrices in module order, then
the flat index of the stored weight. Masks equal those of torch.nn.utils.prune wherever no tie lies at the cut.

The weights are not sorted. The bits of a float32, without its sign, read as a whole number order as the magnitudes do
(half precisions are exact in float32). A sample shows between which two of these numbers the k-th smallest lies. One
pass over all counts what is below and keeps what lies between, about one weight in a hundred; the k-th smallest is among
these. A piece of the weights is copied at a time, so that little memory is needed beside the model.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from kc_utils.compression.recipe import Step
from kc_utils.compression.report import Outcome
from kc_utils.errors import BadModel, BadRequest
from kc_utils.models.scopes import Matrix

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PIECE = 1 << 16  # weights looked at at once
STRIDE = 251  # one key in so many is in the sample; a prime, so that rows and columns of a matrix are met alike
LARGEST = 2**31 - 1


def run(model: torch.nn.Module, matrices: Sequence[Matrix], step: Step) -> Outcome:
    """Prune the matrices in place. Raises BadModel for NaN, infinity and dtypes other than DTYPES."""
    if step.options["per"] == "row":
        return Outcome(zeros_expected=sum(prune_rows(m.rows, round(step.amount * m.inputs)) for m in matrices))
    groups = [[m] for m in matrices] if step.options["per"] == "layer" else [matrices]
    ks = [count_to_prune(step, sum(m.numel for m in group)) for group in groups]
    for group, k in zip(groups, ks, strict=True):
        prune_smallest([m.weight for m in group], k)
    return Outcome(zeros_expected=sum(ks))


def count_to_prune(step: Step, n: int) -> int:
    """Number of weights that a step prunes of n: its `weights=`, or round(sparsity * n). BadRequest when above n."""
    k = step.options["weights"] if step.amount is None else round(step.amount * n)
    if k > n:
        raise BadRequest(f"recipe step {step}: the scope holds {n} weights only; ask for fewer")
    return k


def prune_smallest(tensors: Sequence[torch.Tensor], k: int) -> None:
    """Zero, in place, the k weights of smallest |w| of all tensors together, ties by position.

    tensors: contiguous, of any shapes and DTYPES. Raises BadModel for NaN, infinity and other dtypes.
    """
    for tensor in tensors:
        if tensor.dtype not in DTYPES:
            raise BadModel(f"weights of dtype {tensor.dtype} cannot be pruned; load the model in float32 or bfloat16")
        if not tensor.sum(dtype=torch.float32).isfinite() and (bad := int((~tensor.isfinite()).sum())):
            raise BadModel(f"{bad} weights are NaN or infinite; repair the model first")
    pieces = [piece for tensor in tensors for piece in tensor.detach().view(-1).split(PIECE)]
    zero_smallest(pieces, [lambda piece=piece: magnitude_bits(piece) for piece in pieces], k)


def magnitude_bits(weights: torch.Tensor) -> np.ndarray:
    """|w| as int32 that order as the magnitudes do; the weights are finite."""
    return weights.float().numpy().view(np.int32) & 0x7FFFFFFF


def zero_smallest(pieces: Sequence[torch.Tensor], keys: Sequence[Callable[[], np.ndarray]], k: int) -> None:
    """Zero, in place, the weights of the k smallest keys, ties by position; keys: of each piece, made when called."""
    if k == 0:
        return
    cut, ties = kth_smallest(keys, k)
    for piece, make in zip(pieces, keys, strict=True):
        key = make()
        kept = key >= cut
        if ties:
            equal = np.flatnonzero(key == cut)[:ties]
            kept[equal] = False
            ties -= equal.size
        words = piece.view(torch.int32 if piece.element_size() == 4 else torch.int16).numpy()
        words *= kept  # several times as fast as filling by a mask


def kth_smallest(keys: Sequence[Callable[[], np.ndarray]], k: int) -> tuple[int, int]:
    """The k-th smallest of all keys, and how many keys equal to it are among the k smallest.

    keys: int32 arrays of numbers that are not negative, made when called; each is called twice. 1 <= k <= their number.
    """
    low, high = bracket(keys, k)
    while True:
        below, equal, between = 0, np.zeros(2, np.int64), []  # of many weights equal to low or high, none is kept
        for make in keys:
            key = make()
            below += np.count_nonzero(key < low)
            near = key[(key >= low) & (key <= high)]
            equal += np.count_nonzero(near == low), np.count_nonzero(near == high) * (high > low)
            between.append(near[(near > low) & (near < high)])
        values = np.concatenate([[low], np.sort(np.concatenate(between)), [high]])
        counts = np.concatenate([equal[:1], np.ones(values.size - 2, np.int64), equal[1:]])
        if below < k <= below + counts.sum():
            cut = int(values[np.searchsorted(counts.cumsum(), k - below)])
            return cut, k - below - int(counts[values < cut].sum())
        low, high = 0, LARGEST  # the sample misled


def bracket(keys: Sequence[Callable[[], np.ndarray]], k: int) -> tuple[int, int]:
    """Two numbers between which the k-th smallest key lies almost surely, from every STRIDE-th key."""
    n, sample = 0, []
    for make in keys:
        key = make()
        n += key.size
        sample.append(key[::STRIDE].copy())
    sample = np.sort(np.concatenate(sample))
    place, margin = k / n * sample.size, 2 * math.sqrt(sample.size) + 2  # four standard errors at least
    low, high = math.floor(place - margin), math.ceil(place + margin)
    return int(sample[low]) if low >= 0 else 0, int(sample[high]) if high < sample.size else LARGEST


def prune_rows(weight: torch.Tensor, k: int) -> int:
    """Zero, in place, the k smallest |w| of each row of (outputs, inputs); returns the number of these weights."""
    for rows in weight.split(max(1, PIECE // weight.shape[1])):
        rows.masked_fill_(smallest_in_rows(rows.abs().float(), k), 0)
    return k * weight.shape[0]


def smallest_in_rows(magnitudes: torch.Tensor, k: int) -> torch.Tensor:
    """Boolean mask of the k smallest in each row of (rows, columns), ties by position: exactly k in each row."""
    if k == 0:
        return torch.zeros_like(magnitudes, dtype=torch.bool)
    value = magnitudes.kthvalue(k, dim=1, keepdim=True).values
    smallest = magnitudes <= value
    if int(smallest.sum()) == k * len(magnitudes):
        return smallest
    below, equal = magnitudes < value, magnitudes == value
    return below | (equal & (equal.cumsum(1) <= k - below.sum(1, keepdim=True)))
