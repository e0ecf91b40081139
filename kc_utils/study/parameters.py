"""What every notebook takes: models, what they are asked, recipes. From these follow the cells of a run."""

from __future__ import annotations

import ast

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from kc_utils.compression.recipe import Recipe, Step
from kc_utils.errors import listed
from kc_utils.probing.probe import Probe
from kc_utils.study.cells import Cell


class Grid(BaseModel):
    """Models, probes and recipes, each with each: what a notebook evaluates.

    A subclass says which: `asked_models`, `probes` by name (the main one first) and `recipes()`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_as_text(cls, values):
        """`papermill -p sparsities "[0.1, 0.5]"` hands a list over as text: read it, literals alone."""
        return {name: _list_of(value) for name, value in values.items()} if isinstance(values, dict) else values

    @property
    def asked_models(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def probes(self) -> dict[str, Probe]:
        raise NotImplementedError

    @property
    def probe(self) -> Probe:
        """The main one."""
        return next(iter(self.probes.values()))

    def recipes(self) -> list[str]:
        raise NotImplementedError

    def recipes_of(self, probe: str) -> list[str]:
        """The recipes under which a probe of this name is asked: the uncompressed model, then every recipe once."""
        return list(dict.fromkeys(["none", *(str(Recipe.parse(r)) for r in self.recipes())]))

    def cells(self) -> list[Cell]:
        """Every model under every recipe, the uncompressed one first, asked by each probe."""
        asked = {name: [(probe, recipe) for recipe in self.recipes_of(name)] for name, probe in self.probes.items()}
        return list(
            dict.fromkeys(
                Cell.of(model, recipe, probe)
                for model in self.asked_models
                for pairs in asked.values()
                for probe, recipe in pairs
            )
        )


class Parameters(Grid, Probe):
    """What a notebook about one model takes: the model, and what it is asked."""

    model: str

    @property
    def asked_models(self) -> tuple[str, ...]:
        return (self.model,)

    @property
    def probes(self) -> dict[str, Probe]:
        return {"facts": Probe(**{name: getattr(self, name) for name in Probe.model_fields})}


def written(method: str, scope: str, amount: float | int | None, **options) -> str:
    """The canonical text of a recipe of one step."""
    return str(Step(method, scope, amount, options))


def explain(error: ValidationError, of: type[BaseModel]) -> str:
    """The first complaint of pydantic in one line: where, what, and what was given."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "value"
    if first["type"] == "extra_forbidden":
        return f"unknown parameter {where!r}; it takes {listed(of.model_fields, 30)}"
    if first["type"] == "missing":
        return f"parameter {where!r} is missing"
    return f"{where}: {first['msg']} (got {first.get('input')!r})"


def _list_of(value):
    if not (isinstance(value, str) and value.strip().startswith("[")):
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return value  # refused with its name by the field's own check
