"""The recipes of each technique, from the parameters of its notebook. A notebook and the planner read the same list."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationError

from kc_utils.compression.recipe import Step
from kc_utils.errors import BadRequest, listed
from kc_utils.models.registry import resolve
from kc_utils.models.roles import PRESETS
from kc_utils.study import lab_grids
from kc_utils.study.parameters import Grid, Parameters, explain, written

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
ANY = "any"
"""The family of a notebook over several models: each may be of another one."""
LAB = "lab"


def split_template(template: str) -> tuple[str, str]:
    """Family and technique of a notebook's name, e.g. `decoder_pruning`; (`any`, `retention`) of `lab_retention`."""
    if template.removeprefix(f"{LAB}_") in lab_grids.TECHNIQUES and template.startswith(f"{LAB}_"):
        return ANY, template.removeprefix(f"{LAB}_")
    for prefix, family in FAMILY_PREFIXES.items():
        technique = template.removeprefix(prefix + "_")
        if technique != template and technique in TECHNIQUES:
            return family, technique
    raise BadRequest(
        f"unknown notebook {template!r}: its name is one of {listed(FAMILY_PREFIXES)} and one of {listed(TECHNIQUES)}, "
        f"such as decoder_pruning, or {LAB} and one of {listed(lab_grids.TECHNIQUES)}"
    )


def takes(template: str) -> type[Grid]:
    """The pydantic model of a notebook's parameters. Raises BadRequest for an unknown notebook."""
    family, technique = split_template(template)
    return (lab_grids.TECHNIQUES if family == ANY else TECHNIQUES)[technique]


def parameters(template: str, **values) -> Grid:
    """The checked parameters of a notebook.

    Raises BadRequest for an unknown parameter or value, relations and facts among them, for a grid without a recipe, and
    for a model of another family than the notebook's.
    """
    family, kind = split_template(template)[0], takes(template)
    try:
        checked = kind(**values)
    except ValidationError as error:
        raise BadRequest(f"{template}: {explain(error, kind)}") from error
    for model in checked.asked_models:
        entry = resolve(model)
        if family not in (entry.family, ANY):
            raise BadRequest(f"{template} is for models of family {family}; {model} is of family {entry.family}")
    if {cell.recipe for cell in checked.cells()} <= {"none"}:
        raise BadRequest(
            f"{template}: these parameters name no recipe beside the uncompressed model; fill in its lists"
        )
    if not len(checked.probe.factset()) and not checked.probe.tasks:
        raise BadRequest(f"{template}: a page needs questions with right answers; name facts, or tasks beside the text")
    return checked
