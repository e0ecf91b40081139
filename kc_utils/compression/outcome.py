"""What a method says about the step that it has just done; `apply.py` checks it against the weights."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Storage:
    """How a quantized matrix would be stored: bits of one weight, and bits of all its scales and zero points."""

    value_bits: int
    overhead_bits: int


@dataclass(frozen=True)
class Outcome:
    """zeros_asked: zeros that the touched matrices must hold now; storage: by matrix name, for what was quantized;
    levels: the largest number of distinct values in a group that shares a scale; groups: how many such groups.
    """

    zeros_asked: int = 0
    storage: dict[str, Storage] = field(default_factory=dict)
    levels: int | None = None
    groups: int | None = None
