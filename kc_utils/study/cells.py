"""A cell: one model, one recipe, one probe. The unit that is cached, resumed and distributed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import import_module

from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Recipe, modules_of, packages_of
from kc_utils.errors import BadRequest, listed
from kc_utils.probing.probe import Probe, check_family
from kc_utils.models.registry import resolve
from kc_utils.models.roles_table import ARCHITECTURES
from kc_utils.study.code import code_hash
from kc_utils.study.provenance import SCORING_PACKAGES, versions

CODE = ("kc_utils.models.loading", "kc_utils.compression.apply", "kc_utils.probing.probe", "kc_utils.study.measure")


@dataclass(frozen=True)
class Cell:
    """model: an id of the registry or `path:DIR`; recipe: canonical text; probe: what is asked."""

    model: str
    recipe: str
    probe: Probe

    @classmethod
    def of(cls, model: str, recipe: str, probe: Probe) -> Cell:
        """A cell with its model known and its recipe in canonical form. Raises KCError for what is unknown."""
        check_family(resolve(model).family, probe)
        return cls(model, str(Recipe.parse(recipe)), probe)

    @property
    def baseline(self) -> Cell:
        return Cell(self.model, "none", self.probe)

    @property
    def depends_on(self) -> dict:
        """Everything that can change the rows of this cell."""
        from kc_utils.models.loading import fingerprint

        return {
            "model": fingerprint(resolve(self.model)),
            "recipe": self.recipe,
            "probe": self.probe.model_dump(mode="json"),
            "facts": _facts_hash(self.probe),
            "asked": list(_fingerprints(self.probe)),
            **making(self.model, self.recipe, self.probe.instruments),
        }

    @property
    def key(self) -> str:
        """Name of the cell in the store: a hash of what it depends on."""
        return hashlib.sha256(json.dumps(self.depends_on, sort_keys=True).encode()).hexdigest()[:24]


def chosen(cells: Iterable[Cell], of: str, models: Sequence[str] = (), recipes: Sequence[str] = ()) -> list[Cell]:
    """The cells of these models and recipes: ids, or patterns such as `lab:*` and `*gptq*`; all where none are named.

    Raises BadRequest for a pattern that fits no cell; `of` says in a word or two whose cells they are.
    """
    cells = list(cells)
    for what, patterns in (("model", models), ("recipe", recipes)):
        there = dict.fromkeys(getattr(cell, what) for cell in cells)
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in there):
                raise BadRequest(f"no {what} of {of} is {pattern!r}; it has {listed(there, 10)}")
    fits = lambda name, patterns: not patterns or any(fnmatchcase(name, p) for p in patterns)  # noqa: E731
    return [cell for cell in cells if fits(cell.model, models) and fits(cell.recipe, recipes)]


def making(model: str, recipe: str, instruments: tuple[str, ...]) -> dict:
    """`code`, a hash of the code that makes the rows of this model and recipe, and `versions` of the packages they depend on."""
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
