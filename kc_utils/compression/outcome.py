"""What a method says about the step that it has just done; `apply.py` checks it against the weights."""

from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Grid:
    """The grid that a matrix (outputs, inputs) was rounded to: weight = scale * (q - zero), 0 <= q < 2**bits.

    scale: float32 (outputs, groups), each value exact in float16; zero: uint8 (outputs, groups), whole numbers below
    2**bits; group_of: int32 (inputs,), the column of `scale` and `zero` that an input belongs to; sym: zero is
    2**(bits - 1) everywhere and need not be stored. One row of scales stands for all outputs where the whole matrix
    shares a scale: (1, 1).
    """

    bits: int
    scale: torch.Tensor
    zero: torch.Tensor
    group_of: torch.Tensor
    sym: bool

    def integers(self, weight: torch.Tensor) -> torch.Tensor:
        """q as uint8 (outputs, inputs), from a weight that lies on the grid."""
        scale, zero = self.scale[:, self.group_of], self.zero[:, self.group_of].float()
        return (weight.float() / scale).round_().add_(zero).clamp_(0, 2**self.bits - 1).to(torch.uint8)

    def weight(self, integers: torch.Tensor) -> torch.Tensor:
        """The float32 weight of whole numbers q (outputs, inputs)."""
        return (integers.float() - self.zero[:, self.group_of].float()) * self.scale[:, self.group_of]


@dataclass(frozen=True)
class Storage:
    """How a quantized matrix would be stored: bits of one weight, bits of all its scales and zero points, its grid."""

    value_bits: int
    overhead_bits: int
    grid: Grid | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Outcome:
    """zeros_asked: zeros that the touched matrices must hold now; storage: by matrix name, for what was quantized;
    levels: the largest number of distinct values in a group that shares a scale; groups: how many such groups;
    calibration: hash of the text that the method read.
    """

    zeros_asked: int = 0
    storage: dict[str, Storage] = field(default_factory=dict)
    levels: int | None = None
    groups: int | None = None
    calibration: str | None = None
