"""The recipes of each technique, from the parameters of its notebook. A notebook and the planner read the same list."""

from __future__ import annotations

import ast
from typing import Literal

from pydantic import BaseModel, ValidationError, model_validator

from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, listed
from kc_utils.knowledge.probe import Probe
from kc_utils.models.registry import resolve
from kc_utils.study.cells import Cell


class Parameters(Probe):
    """What every notebook takes: a model, and the fields of a probe."""

    model: str

    @model_validator(mode="before")
    @classmethod
    def _lists_as_text(cls, values):
        """`papermill -p sparsities "[0.1, 0.5]"` hands a list over as text: read it, literals alone."""
        return {name: _list_of(value) for name, value in values.items()} if isinstance(values, dict) else values

    @property
    def probe(self) -> Probe:
        return Probe(**{name: getattr(self, name) for name in Probe.model_fields})

    def recipes(self) -> list[str]:
        raise NotImplementedError

    def cells(self) -> list[Cell]:
        """The uncompressed model, then every recipe once."""
        recipes = ["none", *(str(Recipe.parse(r)) for r in self.recipes())]
        return [Cell.of(self.model, r, self.probe) for r in dict.fromkeys(recipes)]


def _list_of(value):
    if not (isinstance(value, str) and value.strip().startswith("[")):
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return value  # refused with its name by the field's own check


class Pruning(Parameters):
    """method: `magnitude` or `random`; per: `model`, `layer` or `row`, what a fraction of weights is counted over."""

    scopes: tuple[str, ...] = ("all", "attention", "feed_forward")
    sparsities: tuple[float, ...]
    method: Literal["magnitude", "random"] = "magnitude"
    per: Literal["model", "layer", "row"] = "model"

    def recipes(self) -> list[str]:
        per = "" if self.method == "random" or self.per == "model" else f",per={self.per}"
        return [f"{self.method}@{scope}={amount}{per}" for scope in self.scopes for amount in self.sparsities]


class Quantization(Parameters):
    """int8: also dynamic int8; bits: of round-to-nearest with `group` weights a scale."""

    scopes: tuple[str, ...] = ("all", "attention", "feed_forward")
    int8: bool = True
    bits: tuple[int, ...] = (8, 4, 3, 2)
    group: int = 64

    def recipes(self) -> list[str]:
        dynamic = [f"int8@{scope}" for scope in self.scopes] if self.int8 else []
        return dynamic + [f"rtn@{scope}={bits},group={self.group}" for scope in self.scopes for bits in self.bits]


class PruningThenQuantization(Parameters):
    """quantizations: second steps, each a method and, where it takes one, an amount: `int8`, `rtn 4`."""

    scopes: tuple[str, ...] = ("all", "attention", "feed_forward")
    sparsities: tuple[float, ...] = (0.2, 0.4)
    quantizations: tuple[str, ...] = ("int8", "rtn 4")

    def recipes(self) -> list[str]:
        """Each step alone, so that the pair can be read against its parts, then the pairs."""
        parts, pairs = [], []
        for scope in self.scopes:
            first = [f"magnitude@{scope}={amount}" for amount in self.sparsities]
            second = [_with_scope(q, scope) for q in self.quantizations]
            parts += first + second
            pairs += [f"{p}+{q}" for q in second for p in first]
        return parts + pairs


def _with_scope(quantization: str, scope: str) -> str:
    method, _, amount = quantization.strip().partition(" ")
    return f"{method}@{scope}" + (f"={amount.strip()}" if amount else "")


class FinalLayer(Parameters):
    """methods: of pruning, applied to the output matrix alone."""

    methods: tuple[Literal["magnitude", "random", "random-rows", "rows-l1", "rows-l2"], ...] = (
        "magnitude",
        "random",
        "rows-l1",
        "random-rows",
    )
    sparsities: tuple[float, ...]

    def recipes(self) -> list[str]:
        return [f"{method}@head={amount}" for method in self.methods for amount in self.sparsities]


TECHNIQUES: dict[str, type[Parameters]] = {
    "pruning": Pruning,
    "quantization": Quantization,
    "pruning_then_quantization": PruningThenQuantization,
    "final_layer": FinalLayer,
}
FAMILY_PREFIXES = {"encoder_decoder": "encoder-decoder", "encoder": "encoder", "decoder": "decoder"}


def split_template(template: str) -> tuple[str, str]:
    """Family and technique of a notebook's name, e.g. `decoder_pruning`."""
    for prefix, family in FAMILY_PREFIXES.items():
        technique = template.removeprefix(prefix + "_")
        if technique != template and technique in TECHNIQUES:
            return family, technique
    raise BadRequest(
        f"unknown notebook {template!r}: its name is one of {listed(FAMILY_PREFIXES)} and one of {listed(TECHNIQUES)}, "
        "such as decoder_pruning"
    )


def parameters(template: str, **values) -> Parameters:
    """The checked parameters of a notebook.

    Raises BadRequest for an unknown parameter or value, relations and facts among them, for a grid without a recipe, and
    for a model of another family than the notebook's.
    """
    family, technique = split_template(template)
    try:
        checked = TECHNIQUES[technique](**values)
    except ValidationError as error:
        raise BadRequest(f"{template}: {explain(error, TECHNIQUES[technique])}") from error
    entry = resolve(checked.model)
    if entry.family != family:
        raise BadRequest(f"{template} is for models of family {family}; {checked.model} is of family {entry.family}")
    if len(checked.cells()) < 2:
        raise BadRequest(
            f"{template}: these parameters name no recipe beside the uncompressed model; fill in its lists"
        )
    checked.probe.factset()
    return checked


def explain(error: ValidationError, of: type[BaseModel]) -> str:
    """The first complaint of pydantic in one line: where, what, and what was given."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "value"
    if first["type"] == "extra_forbidden":
        return f"unknown parameter {where!r}; it takes {listed(of.model_fields, 30)}"
    if first["type"] == "missing":
        return f"parameter {where!r} is missing"
    return f"{where}: {first['msg']} (got {first.get('input')!r})"
