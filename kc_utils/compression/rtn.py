"""Round to nearest: weights are put on a grid of 2**bits values, with no data and no correction of the error.

The grid is that of GPTQ (Frantar et al. 2023, arXiv 2210.17323), so that the two methods differ in the rounding only:
for each group of weights that shares a scale,

    scale = (max(w, 0) - min(w, 0)) / (2**bits - 1),  zero = round(-min(w, 0) / scale)
    q = clamp(round(w / scale) + zero, 0, 2**bits - 1),  stored weight = scale * (q - zero)

The zero point is a whole number, so a pruned weight stays exactly zero. `sym=true` sets max = -min = max |w| and zero
to the middle. Rounding is half to even. The scale is kept to 16 bits (float16), the zero point to `bits` bits, and
both count in the bits per weight. A group is `group` consecutive inputs of one neuron (the last one shorter where it
does not divide them), all inputs of a neuron (`channel`), or the matrix (`tensor`). Weights stay in the
model's dtype: this measures what rounding does to a model, not how fast it runs.
"""

from collections.abc import Sequence

import torch

from kc_utils.compression.recipe import Step
from kc_utils.compression.report import Grid, Outcome
from kc_utils.models.scopes import Matrix

SMALLEST_SCALE = 2.0**-24  # the smallest positive float16: a group of zeros stays zero


def run(model: torch.nn.Module, matrices: Sequence[Matrix], step: Step) -> Outcome:
    """Round each matrix in place."""
    group, sym = step.options["group"], step.options["sym"]
    return Outcome(storage={m.name: quantize_(m.rows, step.amount, group, sym) for m in matrices})


def quantize_(weight: torch.Tensor, bits: int, group: int | str = 64, sym: bool = False) -> Grid:
    """Round (outputs, inputs) in place; returns the grid."""
    outputs, inputs = weight.shape
    if group == "tensor":
        rounded, scale, zero = round_groups(weight.reshape(1, -1), bits, sym)
        weight.copy_(rounded.view(outputs, inputs))
        return Grid(bits, scale, zero.to(torch.uint8), torch.zeros(inputs, dtype=torch.int32), sym)
    width = inputs if group == "channel" else min(group, inputs)
    whole = inputs // width * width
    scales, zeros = [], []
    for part in (weight[:, :whole], weight[:, whole:]):  # the last group may be shorter
        if part.shape[1]:
            rounded, scale, zero = round_groups(part.reshape(-1, min(width, part.shape[1])), bits, sym)
            part.copy_(rounded.view(part.shape))
            scales.append(scale.view(outputs, -1))
            zeros.append(zero.view(outputs, -1).to(torch.uint8))
    group_of = torch.arange(inputs, dtype=torch.int32) // width
    return Grid(bits, torch.cat(scales, 1), torch.cat(zeros, 1), group_of, sym)


def round_groups(groups: torch.Tensor, bits: int, sym: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each row of (groups, width) on its own grid, as float32; scales and zero points, both float32 (groups, 1)."""
    w = groups.float()
    scale, zero = grid_of(w, bits, sym)
    q = (w / scale).round_().add_(zero).clamp_(0, 2**bits - 1)
    return q.sub_(zero).mul_(scale), scale, zero


def grid_of(w: torch.Tensor, bits: int, sym: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and zero point, both float32 (groups, 1), of the smallest grid that spans each row of (groups, width)."""
    top = 2**bits - 1
    low, high = w.amin(1, keepdim=True).clamp(max=0), w.amax(1, keepdim=True).clamp(min=0)
    if sym:
        high = torch.maximum(-low, high)
        low = -high
    scale = ((high - low) / top).clamp(SMALLEST_SCALE, torch.finfo(torch.float16).max).half().float()
    zero = torch.full_like(scale, (top + 1) // 2) if sym else (-low / scale).round_().clamp_(0, top)
    return scale, zero
