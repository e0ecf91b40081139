"""Rows that claims are decided from: of which model, on which facts, under which recipes, out of which results.

Results come from several origins: studies computed on this machine, and results of record. Within one origin the compressed
models were asked the same questions by the same code as the uncompressed one, so that nothing is compared across origins. Of
a model and a source of facts one origin is used: that with most of the recipes asked for, and of several the first; of several
samples the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from kc_utils.stats.bootstrap import RESAMPLES, cluster_sums, made_up_pairs, resampled_sums
from kc_utils.stats.intervals import clustered_wilson, effective_clusters
from kc_utils.stats.items import checked, clusters_of, paired
from kc_utils.stats.statistics import facts_of, retention
from kc_utils.stats.summary import questions_of
from kc_utils.probing.probe import Probe
from kc_utils.study.cells import Cell
from kc_utils.study.record import CellResult

Results = Mapping[Cell, CellResult]
NO_KNOWLEDGE = ("lab:strangers", "lab:rule")
"""Sources that ask for no fact that a model could have learned: guesses about strangers, and agreement of subject and verb."""
MEMORY = ("rank", "cloze")
"""Protocols that ask from memory, the preferred first."""


@dataclass(frozen=True)
class Stratum:
    """One model asked one probe. results: recipe -> what is stored of it, all out of one origin."""

    model: str
    facts: str
    origin: str
    probe: Probe
    results: Mapping[str, CellResult]
    _found: dict = field(default_factory=dict, repr=False, compare=False)

    @property
    def recipes(self) -> frozenset[str]:
        return frozenset(self.results)

    def rows(self, recipe: str, protocol: str) -> pd.DataFrame:
        """What was answered by one protocol. Many rules ask for the same: do not change it."""
        return self.once(("rows", recipe, protocol), lambda: _of_protocol(self.results[recipe].rows, protocol))

    def answers(self, recipe: str, protocol: str) -> pd.DataFrame:
        """The rows as `items.checked` makes them, with a chance for each. Do not change them."""
        return self.once(
            ("answers", recipe, protocol), lambda: checked(self.rows(recipe, protocol), "correct", ["chance"])
        )

    def once(self, what: tuple, make: Callable[[], Any]) -> Any:
        """What `make` gives, made when it is first asked for: several questions are answered from the same rows."""
        if what not in self._found:
            self._found[what] = make()
        return self._found[what]

    def report(self, recipe: str) -> dict:
        return self.results[recipe].report

    @property
    def memory(self) -> str | None:
        """The protocol that asks this probe's facts from memory, None where there is none."""
        return next((p for p in MEMORY if self.asks(p)), None) if self.probe.facts else None

    def asks(self, *protocols: str) -> bool:
        """Whether the uncompressed model was asked by each of these protocols."""
        return set(protocols) <= set(self.results["none"].rows["protocol"].unique())


class Evidence:
    """All results at hand, by origin, in the order in which origins are preferred."""

    def __init__(self, origins: Mapping[str, Results]):
        self.strata: list[Stratum] = []
        for origin, results in origins.items():
            groups: dict[tuple[str, Probe], dict[str, CellResult]] = {}
            for cell, result in results.items():
                groups.setdefault((cell.model, cell.probe), {})[cell.recipe] = result
            for (model, probe), found in groups.items():
                if "none" in found:
                    self.strata.append(Stratum(model, probe.facts or "", origin, probe, found))

    def of_knowledge(self, wanted: Callable[[Stratum], int]) -> list[Stratum]:
        """Of each model and source of facts, one stratum that asks facts from memory and has what is wanted. wanted: how much of
        it a stratum has, 0 where it cannot be used."""
        asked = (s for s in self.strata if s.memory and s.facts not in NO_KNOWLEDGE and not s.probe.shots)
        return _one_each(asked, wanted, lambda s: (s.model, s.facts))

    def reading_texts(self, wanted: Callable[[Stratum], int]) -> list[Stratum]:
        """Of each model and text, one stratum with its perplexity that has what is wanted, as `of_knowledge`."""
        return _one_each(
            (s for s in self.strata if s.probe.text is not None), wanted, lambda s: (s.model, s.probe.text)
        )


def _one_each(
    strata: Iterable[Stratum], wanted: Callable[[Stratum], int], key: Callable[[Stratum], tuple]
) -> list[Stratum]:
    """Of the strata of one key that with most of what is wanted; of several, the first origin's; there, the largest sample."""
    chosen: dict[tuple, tuple[int, Stratum]] = {}
    for stratum in strata:
        much = int(wanted(stratum))
        if not much:
            continue
        most, other = chosen.get(key(stratum), (0, None))
        larger = other is not None and stratum.origin == other.origin and _size(stratum) > _size(other)
        if much > most or (much == most and larger):
            chosen[key(stratum)] = much, stratum
    return [stratum for _, stratum in chosen.values()]


def _size(stratum: Stratum) -> int:
    return len(stratum.results["none"].rows)


def _of_protocol(rows: pd.DataFrame, protocol: str) -> pd.DataFrame:
    rows = questions_of(rows) if protocol != "perplexity" else rows
    return rows[rows["protocol"] == protocol].dropna(axis="columns", how="all")


def knows_something(rows: pd.DataFrame) -> bool:
    """Whether the accuracy of these rows is above chance with its whole 95 % interval: otherwise there is nothing to keep."""
    rows = checked(rows, "correct", ["chance"])
    low, _ = clustered_wilson(rows["correct"].to_numpy(bool), clusters_of(rows, "fact"))
    return bool(low > rows["chance"].mean())


@dataclass(frozen=True)
class Kept:
    """What is kept of knowledge under several recipes, on the same facts. at: recipe -> retention; draws: recipe -> the same
    of each resample (NaN where its baseline does not beat chance), facts drawn alike for all recipes; n: questions;
    effective: clusters they count as."""

    at: Mapping[str, float]
    draws: Mapping[str, np.ndarray]
    n: int
    effective: float


def kept(stratum: Stratum, recipes: Iterable[str], protocol: str, of: pd.Series | None = None, seed: int = 0) -> Kept:
    """Retention under each recipe, and how it varies when other facts are drawn.

    of: fact -> whether it counts; all facts without it. As `statistics.compare`, one recipe at a time, has it, except that
    here a resample holds the same facts for every recipe.
    """
    recipes = tuple(dict.fromkeys(recipes))
    base = stratum.answers("none", protocol)
    frames = {r: paired(stratum.answers(r, protocol), base, ["correct"]) for r in recipes}
    if of is not None:
        chosen = base["fact"].map(of).fillna(False).to_numpy(bool)
        base, frames = base[chosen], {r: f[chosen].reset_index(drop=True) for r, f in frames.items()}
        base = base.reset_index(drop=True)
    before, chance = base["correct"].to_numpy(float), base["chance"].to_numpy(float)
    after = {r: f["correct"].to_numpy(float) for r, f in frames.items()}
    clusters = clusters_of(base, "fact")
    columns = np.column_stack([before, chance, *after.values()])
    totals = resampled_sums(cluster_sums(columns, clusters), seed).T
    at, draws = {}, {}
    for number, recipe in enumerate(recipes):
        extra_after, extra_before, extra = made_up_pairs(seed + number, RESAMPLES, facts_of(base))
        guessed = totals[1] + extra * chance.mean()
        known = totals[0] + extra_before - guessed
        with np.errstate(divide="ignore", invalid="ignore"):
            draws[recipe] = np.where(known > 1e-9, (totals[2 + number] + extra_after - guessed) / known, np.nan)
        at[recipe] = retention(after[recipe].mean(), before.mean(), chance.mean())
    at["none"], draws["none"] = 1.0, np.ones(RESAMPLES)
    return Kept(at, draws, len(base), effective_clusters(np.bincount(clusters)))


@lru_cache(maxsize=4096)
def canonical(recipe: str) -> str:
    from kc_utils.compression.recipe import Recipe

    return str(Recipe.parse(recipe))
