"""The recipes of each technique, from the parameters of its notebook. A notebook and the planner read the same list."""

from __future__ import annotations

import ast
from typing import Literal

from pydantic import BaseModel, ValidationError, model_validator

from kc_utils.compression.recipe import Recipe, Step
from kc_utils.errors import BadRequest, listed
from kc_utils.knowledge.probe import Probe
from kc_utils.models.registry import resolve
from kc_utils.models.roles import PRESETS
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


Scopes = tuple[str, ...]
Preset = Literal[PRESETS]


class Pruning(Parameters):
    """method: `magnitude` or `random`; per: `model`, `layer` or `row`, what a fraction of weights is counted over; preset:
    whose sets of matrices a scope names, this study's (`consistent`) or the paper's."""

    scopes: Scopes = ("all", "attention", "feed_forward")
    sparsities: tuple[float, ...]
    method: Literal["magnitude", "random"] = "magnitude"
    per: Literal["model", "layer", "row"] = "model"
    preset: Preset = "consistent"

    def recipes(self) -> list[str]:
        options = {"preset": self.preset} | ({"per": self.per} if self.method == "magnitude" else {})
        return [written(self.method, scope, amount, **options) for scope in self.scopes for amount in self.sparsities]


class Quantization(Parameters):
    """methods: ways to store weights; bits: of `rtn`; group: weights that share a scale, under `rtn`, `int4-weight` and
    `nf4`; int8_engine: the library of `int8`; preset: as in Pruning."""

    scopes: Scopes = ("all", "attention", "feed_forward")
    methods: tuple[Literal["int8", "rtn", "int8-weight", "int4-weight", "nf4", "llm-int8"], ...] = ("int8", "rtn")
    bits: tuple[int, ...] = (8, 4, 3, 2)
    group: int = 64
    int8_engine: Literal["torchao", "torch"] = "torchao"
    preset: Preset = "consistent"

    def recipes(self) -> list[str]:
        options = {"int8": {"engine": self.int8_engine}}
        options |= {name: {"group": self.group} for name in ("rtn", "int4-weight", "nf4")}
        return [
            written(name, scope, amount, preset=self.preset, **options.get(name, {}))
            for scope in self.scopes
            for name in self.methods
            for amount in (self.bits if name == "rtn" else (None,))
        ]


class Gptq(Parameters):
    """bits: of GPTQ, and of rounding to nearest on the same grid: groups of `group` weights, symmetric or not; samples:
    pieces of calibration text."""

    scopes: Scopes = ("all",)
    bits: tuple[int, ...] = (4, 3)
    group: int = 128
    sym: bool = True
    samples: int = 32

    def recipes(self) -> list[str]:
        return [recipe for pair in self.pairs() for recipe in pair]

    def pairs(self) -> list[tuple[str, str]]:
        """GPTQ, and what it is compared with."""
        grid = {"group": self.group, "sym": self.sym}
        return [
            (written("gptq", scope, bits, samples=self.samples, **grid), written("rtn", scope, bits, **grid))
            for scope in self.scopes
            for bits in self.bits
        ]


class PruningThenQuantization(Parameters):
    """quantizations: second steps, each a method, where it takes one an amount, and options: `int8`, `rtn 4`, `nf4`,
    `rtn 4,group=32`; preset: as in Pruning, of both steps."""

    scopes: Scopes = ("all", "attention", "feed_forward")
    sparsities: tuple[float, ...] = (0.2, 0.4)
    quantizations: tuple[str, ...] = ("int8", "rtn 4")
    preset: Preset = "consistent"

    def recipes(self) -> list[str]:
        """Each step alone, so that the pair can be read against its parts, then the pairs."""
        parts, pairs = [], []
        for scope in self.scopes:
            first = [written("magnitude", scope, amount, preset=self.preset) for amount in self.sparsities]
            second = [self._second(q, scope) for q in self.quantizations]
            parts += first + second
            pairs += [f"{p}+{q}" for q in second for p in first]
        return parts + pairs

    def _second(self, quantization: str, scope: str) -> str:
        head, *options = quantization.split(",")
        name, _, amount = head.strip().partition(" ")
        text = f"{name}@{scope}" + (f"={amount.strip()}" if amount else "")
        step = Step.parse(",".join([text, *options]))
        return written(step.method, scope, step.amount, **{**step.options, "preset": self.preset})


def written(method: str, scope: str, amount: float | int | None, **options) -> str:
    """The canonical text of a recipe of one step."""
    return str(Step(method, scope, amount, options))


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
    "gptq": Gptq,
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
    if not len(checked.probe.factset()) and not checked.tasks:
        raise BadRequest(f"{template}: a page needs questions with right answers; name facts, or tasks beside the text")
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
