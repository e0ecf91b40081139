"""The methods that a recipe may name: where each lives, and which amount and options it takes.

Recipes are read with this table alone, without torch and without the methods' own code; `apply.py` imports a method's
module when a recipe uses it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from kc_utils.errors import BadRequest, listed
from kc_utils.models.roles import PRESETS


class Value:
    """A kind of amount or option. `read` makes it of text or a Python value, `write` gives its shortest text.

    `read` raises ValueError with what was expected.
    """

    def read(self, given: Any) -> Any:
        raise NotImplementedError

    def write(self, value: Any) -> str:
        return str(value)


@dataclass(frozen=True)
class Fraction(Value):
    """A share in [0, 1)."""

    def read(self, given):
        try:
            number = float(given) if not isinstance(given, bool) and "_" not in str(given) else None
        except (TypeError, ValueError):
            number = None
        if number is None or not 0 <= number < 1:
            raise ValueError("a sparsity is a number from 0 to below 1, such as 0.5")
        return abs(number)

    def write(self, value):
        return repr(value).removesuffix(".0")


@dataclass(frozen=True)
class Whole(Value):
    """A whole number of at least `least`."""

    least: int = 0

    def read(self, given):
        if not re.fullmatch(r"\d{1,18}", str(given)) or isinstance(given, bool) or int(given) < self.least:
            raise ValueError(f"a whole number of at least {self.least} is wanted")
        return int(given)


@dataclass(frozen=True)
class OneOf(Value):
    """One of a few values, kept in their own type."""

    choices: tuple

    def read(self, given):
        for choice in self.choices:
            if not isinstance(given, bool) and str(given) == str(choice):
                return choice
        raise ValueError(f"it is one of {listed(self.choices)}")


@dataclass(frozen=True)
class Flag(Value):
    """true or false."""

    def read(self, given):
        if str(given).lower() not in ("true", "false"):
            raise ValueError("it is true or false")
        return str(given).lower() == "true"

    def write(self, value):
        return str(value).lower()


@dataclass(frozen=True)
class Count(Value):
    """A number of weights: 250000, 250k, 10M, 1.5B."""

    def read(self, given):
        match = None if isinstance(given, bool) else re.fullmatch(r"(\d{1,15}(?:\.\d{1,12})?)([kMB]?)", str(given))
        try:
            number = Decimal(match[1]) * {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}[match[2]] if match else None
        except InvalidOperation:
            number = None
        if number is None or number != int(number) or number < 1:
            raise ValueError("a number of weights is wanted, such as 250000, 250k, 10M or 1.5B")
        return int(number)

    def write(self, value):
        texts = [str(value)]
        for unit, size in (("k", 10**3), ("M", 10**6), ("B", 10**9)):
            texts.append(f"{(Decimal(value) / size).normalize():f}{unit}")
        return min(texts, key=len)


@dataclass(frozen=True)
class Group(Value):
    """`tensor`, `channel` (one output neuron), or how many inputs of a neuron share a scale."""

    names: tuple[str, ...] = ("tensor", "channel")

    def read(self, given):
        if given in self.names:
            return given
        try:
            return Whole(1).read(given)
        except ValueError:
            raise ValueError(f"a group is {', '.join(self.names)}, or a whole number of at least 1") from None


@dataclass(frozen=True)
class Option:
    kind: Value
    default: Any


@dataclass(frozen=True)
class Method:
    """A row of the table. `amount` is None where the method takes none, and an option `weights` may stand for it; `prunes`
    is False for quantization."""

    name: str
    module: str
    prunes: bool
    amount: Value | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    calibrates: bool = False  # its `run` and `check` take the tokenizer too, for calibration text
    last: bool = False  # a library keeps the weight from then on: no later step may touch the matrix
    packages: tuple[str, ...] = ()  # whose versions a result depends on, besides torch and transformers


_HERE = "kc_utils.compression."
_PRESET = {"preset": Option(OneOf(PRESETS), "consistent")}
_WEIGHTS = {"weights": Option(Count(), None)}
_SEED = {"seed": Option(Whole(), 0)}

METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method(
            "magnitude", _HERE + "magnitude", True, Fraction(),
            {**_PRESET, **_WEIGHTS, "per": Option(OneOf(("model", "layer", "row")), "model")},
        ),
        Method("random", _HERE + "pruning", True, Fraction(), {**_PRESET, **_WEIGHTS, **_SEED}),
        Method("rows-l1", _HERE + "pruning", True, Fraction(), _PRESET),
        Method("rows-l2", _HERE + "pruning", True, Fraction(), _PRESET),
        Method("random-rows", _HERE + "pruning", True, Fraction(), {**_PRESET, **_SEED}),
        Method(
            "rtn", _HERE + "rtn", False, OneOf((2, 3, 4, 8)),
            {**_PRESET, "group": Option(Group(), 64), "sym": Option(Flag(), False)},
        ),
        Method(
            "gptq", _HERE + "gptq", False, OneOf((2, 3, 4, 8)),
            {**_PRESET, **_SEED, "group": Option(Group(("channel",)), 128), "sym": Option(Flag(), True),
             "damp": Option(Fraction(), 0.1), "desc_act": Option(Flag(), False), "samples": Option(Whole(1), 120)},
            calibrates=True,
        ),
        Method(
            "int8", _HERE + "int8", False, None,
            {**_PRESET, "engine": Option(OneOf(("torchao", "torch")), "torchao"),
             "per": Option(OneOf(("channel", "tensor")), "channel")}, last=True, packages=("torchao",),
        ),
        Method(
            "int8-weight", _HERE + "int8", False, None,
            {**_PRESET, "group": Option(Group(), "channel")}, last=True, packages=("torchao",),
        ),
        Method(
            "int4-weight", _HERE + "int8", False, None,
            {**_PRESET, "group": Option(Group(("channel",)), 64), "sym": Option(Flag(), False)},
            last=True, packages=("torchao",),
        ),
        Method(
            "nf4", _HERE + "bitsandbytes_weights", False, None,
            {**_PRESET, "group": Option(OneOf((32, 64, 128, 256, 512, 1024)), 64), "double": Option(Flag(), False)},
            last=True, packages=("bitsandbytes",),
        ),
        Method(
            "llm-int8", _HERE + "bitsandbytes_weights", False, None,
            {**_PRESET, "threshold": Option(Whole(), 6)}, last=True, packages=("bitsandbytes",),
        ),
    )
}  # fmt: skip
_KEEP_N_OF_M = re.compile(r"([1-9]\d?):([1-9]\d?)")


@cache
def method(name: str) -> Method:
    """The method of that name; `N:M` (2:4, 4:8, ...) is a method for each N < M <= 32. Raises BadRequest."""
    if name in METHODS:
        return METHODS[name]
    match = _KEEP_N_OF_M.fullmatch(name)
    if match and int(match[1]) < int(match[2]) <= 32:
        return Method(name, _HERE + "pruning", True, None, _PRESET)
    raise BadRequest(f"unknown method {name!r}; write one of {listed([*METHODS, '2:4', '4:8'], 20)}")
