"""An evaluation (in this room: a cell) is one model, one recipe, one probe: the unit that is stored, resumed, distributed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import import_module

from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Recipe, modules_of, packages_of
from kc_utils.errors import BadRequest, listed
from kc_utils.models.registry import resolve
from kc_utils.models.roles import ARCHITECTURES
from kc_utils.probing.probe import Probe, check_family
from kc_utils.study.code import code_hash
from kc_utils.study.provenance import SCORING_PACKAGES, versions
from kc_utils.study.rows import fits

CODE = ("kc_utils.models.loading", "kc_utils.compression.apply", "kc_utils.probing.evaluate", "kc_utils.study.measure")


@dataclass(frozen=True)
class Cell:
    """model: an id of the registry or `path:DIR`; recipe: canonical text; probe: which facts, and how."""

    model: str
    recipe: str
    probe: Probe

    @classmethod
    def of(cls, model: str, recipe: str, probe: Probe) -> Cell:
        """Check the model, its family and the recipe, and write the recipe in canonical form. Raises KCError."""
        check_family(resolve(model).family, probe)
        return cls(model, str(Recipe.parse(recipe)), probe)

    @property
    def depends_on(self) -> dict:
        """Everything that can change the rows. Keys are those of the record: do not rename them."""
        from kc_utils.models.loading import fingerprint

        return {
            "model": fingerprint(resolve(self.model)),
            "recipe": self.recipe,
            "probe": self.probe.model_dump(mode="json"),
            "facts": _facts_hash(self.probe),
            "asked": list(_fingerprints(self.probe)),
            **making(self.model, self.recipe, self.probe.instruments),
        }

    @cached_property
    def key(self) -> str:
        """Name in the store: a hash of what the rows depend on."""
        return key_of(self.depends_on)


def key_of(depends_on: dict) -> str:
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:24]


def grouped(cells: Iterable[Cell], by: str = "recipe") -> dict[tuple, list[Cell]]:
    """Put cells of one model and recipe (by: or `probe`) together, by these two, in the order of their first."""
    groups: dict[tuple, list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, getattr(cell, by)), []).append(cell)
    return groups


def chosen(cells: Iterable[Cell], of: str, models: Sequence[str] = (), recipes: Sequence[str] = ()) -> list[Cell]:
    """Select cells by models and recipes: ids, or patterns such as `lab:*` and `*gptq*`; all where none are named.

    Raises BadRequest for a pattern that fits no cell; `of` says in a word or two whose cells they are.
    """
    cells = list(cells)
    for what, patterns in (("model", models), ("recipe", recipes)):
        there = dict.fromkeys(getattr(cell, what) for cell in cells)
        for pattern in patterns:
            if not any(fits(name, (pattern,)) for name in there):
                raise BadRequest(f"no {what} of {of} is {pattern!r}; it has {listed(there, 10)}")
    return [cell for cell in cells if fits(cell.model, models) and fits(cell.recipe, recipes)]


def making(model: str, recipe: str, instruments: tuple[str, ...]) -> dict:
    """Return `code`, a hash of what makes the rows, and `versions` of the packages that they depend on."""
    return {
        "code": _code_of(resolve(model).architecture, recipe, instruments),
        "versions": versions((*SCORING_PACKAGES, *packages_of(Recipe.parse(recipe)))),
    }


@lru_cache(maxsize=64)
def _facts_hash(probe: Probe) -> str:
    return probe.factset().sha256


@lru_cache(maxsize=64)
def _fingerprints(probe: Probe) -> tuple[str, ...]:
    return tuple(import_module(name).fingerprint(probe) for name in probe.instruments)


@lru_cache(maxsize=4096)
def _code_of(architecture: str | None, recipe: str, instruments: tuple[str, ...]) -> str:
    steps = Recipe.parse(recipe)
    rows = [ARCHITECTURES.get(architecture), *(method(step.method) for step in steps.steps)]
    code = code_hash((*CODE, *instruments, *modules_of(steps)))
    return hashlib.sha256(f"{code}:{rows!r}".encode()).hexdigest()
