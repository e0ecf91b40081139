"""Pruning steps that meet their matrices one at a time, in module order.

Rows, N:M patterns and magnitudes within a layer or a row need nothing but the matrix, and the methods' own `run` does
it. The others decide something over the whole scope first: where the cut of global magnitude pruning lies, and which
weights a random draw hits. What they decide, and what they zero, is what they do to a whole model in memory.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib import import_module

import numpy as np
import torch
from torch import nn

from kc_utils.compression import magnitude, random_weights
from kc_utils.compression.chunks import CHUNK, in_threads
from kc_utils.compression.magnitude import Threshold, float_keys
from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Step
from kc_utils.compression.selection import cut_in_parts
from kc_utils.models.scopes import Matrix

HALVES = (torch.float16, torch.bfloat16)


def holding(matrix: Matrix, tensor: torch.Tensor) -> Matrix:
    """The matrix with these weights (shared, not copied) instead of those of its module."""
    module = nn.Module()
    module.register_parameter(matrix.name.rpartition(".")[2], nn.Parameter(tensor, requires_grad=False))
    return replace(matrix, module=module)


class Work:
    """One step. Call `decide` once, then for each walk over the model `begin`, and `prune` for each of its matrices.

    ordered: whether what happens to a matrix depends on those before it, so that none may be left out of a walk.
    """

    ordered = False

    def __init__(self, step: Step, matrices: Sequence[Matrix]):
        """matrices: of the step's scope, in module order; they may be on the meta device."""
        self.step, self.names = step, {m.name for m in matrices}
        self.sizes = {m.name: m.numel for m in matrices}

    def decide(self, tensors: Callable[[], Iterable[torch.Tensor]], dtypes: set[torch.dtype]) -> None:
        """tensors: called as often as needed; gives the scope's weights as the step finds them, one at a time."""

    def begin(self) -> None:
        """A walk over the model begins."""

    def prune(self, matrix: Matrix) -> int:
        """Prune one matrix in place; how many zeros that asks for in it, 0 where the scope as a whole is asked."""
        return import_module(method(self.step.method).module).run(None, [matrix], self.step).zeros_asked

    @property
    def asked(self) -> int:
        """Zeros asked for over the whole scope, beyond those of `prune`."""
        return 0


class GlobalCut(Work):
    """Magnitude pruning over the whole scope."""

    ordered = True  # of the weights equal to the cut the first go

    def __init__(self, step: Step, matrices: Sequence[Matrix]):
        super().__init__(step, matrices)
        self.k = magnitude.count_to_prune(step, sum(self.sizes.values()))
        self.threshold: Threshold | None = None
        self.left = 0  # weights equal to the cut that are still to go in this walk

    @property
    def asked(self) -> int:
        return self.k

    def decide(self, tensors, dtypes) -> None:
        if self.k == 0:
            return
        if len(dtypes) == 1 and dtypes < set(HALVES):
            self.threshold = _cut_of_halves(tensors, *dtypes, self.k)
            return
        cut = cut_in_parts(lambda: (_pieces(t) for t in tensors()), float_keys, self.k)
        self.threshold = Threshold(float(np.int32(cut.key).view(np.float32)), cut.take, cut.equal)

    def begin(self) -> None:
        self.left = self.threshold.take if self.threshold else 0

    def prune(self, matrix: Matrix) -> int:
        here = self.threshold
        if here and here.take != here.equal:
            here = replace(here, take=self.left)
            self.left -= magnitude.zero_smallest([matrix.weight], here)
        else:
            magnitude.zero_smallest([matrix.weight], here)
        return 0


class GlobalDraw(Work):
    """Random pruning over the whole scope: drawn without a look at the weights."""

    def __init__(self, step: Step, matrices: Sequence[Matrix]):
        super().__init__(step, matrices)
        self.k = magnitude.count_to_prune(step, sum(self.sizes.values()))

    @property
    def asked(self) -> int:
        return self.k

    def decide(self, tensors, dtypes) -> None:
        self.drawn = random_weights.draw(self.sizes, self.k, self.step.options["seed"])

    def prune(self, matrix: Matrix) -> int:
        random_weights.zero_drawn(matrix.weight, matrix.name, self.drawn)
        return 0


def work_of(step: Step, matrices: Sequence[Matrix]) -> Work:
    """The step as work. BadRequest when it asks for more weights than the scope holds."""
    if step.method == "magnitude" and step.options["per"] == "model":
        return GlobalCut(step, matrices)
    if step.method == "random":
        return GlobalDraw(step, matrices)
    return Work(step, matrices)


def count_zeros(tensor: torch.Tensor) -> int:
    """Zeros, positive or negative, of a contiguous tensor."""
    if tensor.dtype in HALVES:  # numpy counts whole numbers faster than torch compares half precision floats
        tensor = tensor.view(torch.int16)
        return tensor.numel() - _count(lambda piece: np.count_nonzero(piece.numpy() & 0x7FFF), tensor)
    return tensor.numel() - _count(lambda piece: np.count_nonzero((piece != 0).numpy()), tensor)


def count_not_finite(tensor: torch.Tensor) -> int:
    """NaNs and infinities of a contiguous tensor."""
    if not tensor.is_floating_point():
        return 0

    def bad(piece: torch.Tensor) -> int:  # a finite sum has finite terms; only one that is not needs a second look
        return 0 if piece.sum(dtype=torch.float32).isfinite() else int((~piece.isfinite()).sum())

    return _count(bad, tensor)


def _cut_of_halves(tensors: Callable[[], Iterable[torch.Tensor]], dtype: torch.dtype, k: int) -> Threshold:
    """There are 32,768 magnitudes of 16 bits: all are counted in one round."""
    counts = np.zeros(1 << 15, np.int64)

    def count(part: Sequence[torch.Tensor]) -> np.ndarray:
        total = np.zeros(1 << 15, np.int64)
        for piece in part:
            found = torch.bincount(piece & 0x7FFF).numpy()
            total[: found.size] += found
        return total

    for tensor in tensors():
        counts += sum(in_threads(count, _pieces(tensor.view(torch.int16))))
    running = np.cumsum(counts)
    bits = int(np.searchsorted(running, k))
    value = float(torch.tensor(bits, dtype=torch.int16).view(dtype))
    return Threshold(value, k - int(running[bits] - counts[bits]), int(counts[bits]))


def _count(of: Callable[[torch.Tensor], int], tensor: torch.Tensor) -> int:
    return int(sum(in_threads(lambda part: sum(of(piece) for piece in part), _pieces(tensor))))


def _pieces(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    return tensor.reshape(-1).split(CHUNK)
