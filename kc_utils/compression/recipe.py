"""A compression recipe as data, with one canonical short text that parses back.

    recipe  none | step + step + ...
    step    METHOD@SCOPE[=AMOUNT][,option=value ...]

`magnitude@attention.qkv[0-3]=0.5`, `rtn@feed_forward=4,group=32`, `magnitude@all=0.4+int8@all`,
`magnitude@feed_forward,weights=10M`. Methods, amounts and options are in `methods.py`, scopes in
`kc_utils/models/roles.py`. The canonical text sorts options, leaves defaults out and writes numbers as short as can be.
A recipe is checked as far as it can be without a model, and without importing torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kc_utils.compression.methods import Method, Value, method
from kc_utils.errors import BadRequest, listed
from kc_utils.models.roles import Scope


@dataclass(frozen=True)
class Step:
    """One operation: a method, the scope it touches, how much, and options (all of them, defaults filled in).

    Raises BadRequest for an unknown method, scope or option, and for an amount or option outside its range.
    """

    method: str
    scope: str
    amount: float | int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        kind = method(self.method)
        object.__setattr__(self, "scope", str(Scope.parse(self.scope)))
        object.__setattr__(self, "options", MappingProxyType(self._read_options(kind)))
        object.__setattr__(self, "amount", self._read_amount(kind))

    def _read_options(self, kind: Method) -> dict:
        values = {name: option.default for name, option in kind.options.items()}
        here = f"recipe step {self.method}@{self.scope}"
        for name, given in self.options.items():
            if name not in values:
                raise BadRequest(f"{here}: {self.method} has no option {name!r}; it has {listed(sorted(values))}")
            if given is not None or values[name] is not None:
                values[name] = _read(kind.options[name].kind, given, f"{here}: {name}={given}")
        return dict(sorted(values.items()))

    def _read_amount(self, kind: Method):
        here = f"recipe step {self.method}@{self.scope}"
        if kind.amount is None:
            if self.amount is not None:
                raise BadRequest(f"{here}={self.amount}: {self.method} takes no amount; leave ={self.amount} out")
            return None
        if self.options.get("weights") is not None:
            if self.amount is not None:
                raise BadRequest(f"{here}: an amount and weights= exclude each other; leave one out")
            if self.options.get("per", "model") != "model":
                raise BadRequest(f"{here}: weights= is a budget over the whole scope; leave per= out")
            return None
        if self.amount is None:
            other = ", or weights=10M" if "weights" in self.options else ""
            example = "4" if not kind.prunes else "0.5"
            raise BadRequest(f"{here}: how much? write {here.split()[-1]}={example}{other}")
        return _read(kind.amount, self.amount, f"{here}={self.amount}")

    @classmethod
    def parse(cls, text: str) -> "Step":
        head, *settings = [piece.strip() for piece in text.split(",")]
        name, at, target = head.partition("@")
        if not at:
            raise BadRequest(f"recipe step {text!r}: write METHOD@SCOPE[=AMOUNT], such as magnitude@all=0.5")
        scope, equals, amount = target.partition("=")
        options: dict[str, str] = {}
        for setting in settings:
            key, has_value, value = (piece.strip() for piece in setting.partition("="))
            if not has_value or not key or not value:
                raise BadRequest(f"recipe step {text!r}: {setting!r} is not option=value")
            if key in options:
                raise BadRequest(f"recipe step {text!r}: {key} is given twice; leave one out")
            options[key] = value
        if equals and not amount.strip():
            raise BadRequest(f"recipe step {text!r}: nothing follows =; write an amount or leave = out")
        return cls(name.strip(), scope.strip(), amount.strip() if equals else None, options)

    def __str__(self) -> str:
        kind = method(self.method)
        text = f"{self.method}@{self.scope}"
        if self.amount is not None:
            text += f"={kind.amount.write(self.amount)}"
        for name, value in self.options.items():
            if value != kind.options[name].default:
                text += f",{name}={kind.options[name].kind.write(value)}"
        return text

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self):  # a read-only mapping cannot be pickled
        return Step, (self.method, self.scope, self.amount, dict(self.options))


def _read(kind: Value, given: Any, where: str):
    try:
        return kind.read(given)
    except ValueError as error:
        raise BadRequest(f"{where}: {error}") from None


@dataclass(frozen=True)
class Recipe:
    """An ordered list of steps; `none` is the empty one. `Recipe.parse(str(r)) == r`."""

    steps: tuple[Step, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Recipe":
        """Read a recipe. Raises BadRequest, naming the step, for anything that no model can do."""
        if not isinstance(text, str) or not text.strip():
            raise BadRequest("a recipe is empty; write none for the uncompressed model")
        if text.strip() == "none":
            return cls()
        pieces = [piece.strip() for piece in text.split("+")]
        if not all(pieces):
            raise BadRequest(f"recipe {text!r}: a step is missing beside +")
        if "none" in pieces:
            raise BadRequest(f"recipe {text!r}: none stands alone; leave it out")
        return cls(tuple(Step.parse(piece) for piece in pieces))

    def __str__(self) -> str:
        return "+".join(map(str, self.steps)) or "none"


def modules_of(recipe: Recipe) -> tuple[str, ...]:
    """The modules of the methods that the recipe uses: what its result depends on besides apply.py."""
    return tuple(sorted({method(step.method).module for step in recipe.steps}))


def packages_of(recipe: Recipe) -> tuple[str, ...]:
    """The packages, besides torch and transformers, whose versions the recipe's result depends on."""
    return tuple(sorted({name for step in recipe.steps for name in method(step.method).packages}))
