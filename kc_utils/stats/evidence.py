"""Rows that claims are decided from: strata, the knowledge that is kept in each, and the mean over them.

A stratum is one model that answers the facts of one source. Of several probes the one with most of the recipes needed is
used, of several alike that of the first origin, and there the largest sample. Recipes are resampled on the same facts.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from kc_utils.errors import BadRequest, listed
from kc_utils.stats.bootstrap import RESAMPLES, Resamples, expanded_interval
from kc_utils.stats.compare import retention
from kc_utils.stats.intervals import clustered_wilson
from kc_utils.stats.items import Answers, aligned, questions_of, refuse_missing
from kc_utils.stats.names import lab_parts

NO_KNOWLEDGE = ("lab:strangers", "lab:rule")  # sources without a fact that a model could have learned
MEMORY = ("rank", "cloze")  # protocols that query from memory, the preferred first
DRAWN = ("lab:people", "lab")  # sources with facts that were drawn evenly from known tables
SAMPLE = ("origin", "model", "facts", "probe")
LANGUAGE, LAB = "language models", "lab models"


@dataclass(frozen=True)
class Stratum:
    """One model and one probe. rows: all that it answered, with the column `recipe`; key: what names it among strata."""

    model: str
    facts: str
    origin: str
    rows: pd.DataFrame = field(repr=False)
    recipes: frozenset[str] = frozenset()
    protocols: frozenset[str] = frozenset()
    _laid: dict = field(default_factory=dict, repr=False)

    @property
    def memory(self) -> str | None:
        """The protocol that queries these facts from memory, None where there is none."""
        return next((p for p in MEMORY if p in self.protocols), None)

    @property
    def has_popularity(self) -> bool:
        return "popularity" in self.rows and pd.to_numeric(self.rows["popularity"]).notna().mean() > 0.5

    def answers(self, protocol: str) -> Answers:
        """The answers of all recipes, side by side. Raises as `items.aligned`."""
        if protocol not in self._laid:
            rows = questions_of(self.rows[self.rows["protocol"] == protocol])
            self._laid[protocol] = aligned(rows, ["relation"])
        return self._laid[protocol]

    def report(self, recipe: str, name: str) -> float:
        """A number of a recipe's report, such as `weights_removed`."""
        return float(self.rows.loc[self.rows["recipe"] == recipe, name].iloc[0])

    def knows(self, protocol: str, of: np.ndarray | None = None) -> bool:
        """Whether the uncompressed model is above chance with its whole 95 % interval: otherwise nothing can be kept."""
        found = self.answers(protocol)
        of = np.ones(len(found.chance), bool) if of is None else of
        facts = np.unique(found.facts[of], return_inverse=True)[1]
        low, _ = clustered_wilson(found.right[found.recipes["none"], of], facts)
        return bool(of.any() and low > found.chance[of].mean())


class Evidence:
    """Strata of all rows at hand, of `kc_utils.results`; the order of origins is that of the rows."""

    def __init__(self, rows: pd.DataFrame):
        self.strata: list[Stratum] = []
        if rows.empty:
            return
        refuse_missing(rows, ["recipe", "protocol", *SAMPLE])
        for (origin, model, facts, _), part in rows.groupby(list(SAMPLE), sort=False, observed=True, dropna=False):
            base = part[part["recipe"] == "none"]
            if len(base):
                recipes, protocols = frozenset(part["recipe"].unique()), frozenset(base["protocol"].unique())
                self.strata.append(Stratum(model, facts, origin, part, recipes, protocols))

    def of_knowledge(self, wanted: Callable[[Stratum], int]) -> list[Stratum]:
        """Of each model and source, one stratum that queries facts from memory, without examples, and has what is wanted.

        wanted: how much of it a stratum has, 0 where it cannot be used.
        """
        shots = lambda s: "shots" in s.rows and s.rows["shots"].fillna(0).max() > 0  # noqa: E731
        from_memory = [s for s in self.strata if s.memory and s.facts not in NO_KNOWLEDGE and not shots(s)]
        return _one_each(from_memory, wanted, lambda s: (s.model, s.facts))

    def of_texts(self, wanted: Callable[[Stratum], int]) -> list[Stratum]:
        """Of each model, one stratum with the perplexity of a text that has what is wanted."""
        return _one_each([s for s in self.strata if "perplexity" in s.protocols], wanted, lambda s: s.model)


def _one_each(strata: Iterable[Stratum], wanted: Callable[[Stratum], int], key: Callable) -> list[Stratum]:
    """The strata with most of what is wanted, by key; of several the first origin's, and there the largest sample."""
    strata, chosen = list(strata), {}
    order = list(dict.fromkeys(stratum.origin for stratum in strata))
    for stratum in strata:
        size = int((stratum.rows["recipe"] == "none").sum())
        rank = (int(wanted(stratum)), -order.index(stratum.origin), size)
        if rank[0] and rank > chosen.get(key(stratum), ((0, 0, 0), None))[0]:
            chosen[key(stratum)] = rank, stratum
    return [stratum for _, stratum in chosen.values()]


@dataclass(frozen=True)
class Kept:
    """What is kept of knowledge under several recipes. at: recipe -> retention; draws: recipe -> the same of each resample
    (NaN where its baseline does not beat chance); n: questions; effective: clusters that they count as."""

    at: Mapping[str, float]
    draws: Mapping[str, np.ndarray]
    n: int
    effective: float


def kept(
    stratum: Stratum,
    recipes: Iterable[str],
    protocol: str,
    of: np.ndarray | None = None,
    seed: int = 0,
    made_up: int = 0,
) -> Kept:
    """Return the retention under each recipe, and how it varies when other facts are drawn, the same for every recipe.

    of: (n,) which questions count; all without it. seed: of the facts drawn; made_up: of the made-up ones, which are drawn
    anew for each recipe (`bootstrap`).
    """
    found, recipes = stratum.answers(protocol), list(dict.fromkeys(recipes))
    if absent := set(recipes) - set(found.recipes):
        raise BadRequest(f"{stratum.model}: no rows of {listed(absent)} by {protocol}")
    of = np.ones(len(found.chance), bool) if of is None else of
    right = found.right[[found.recipes[r] for r in ("none", *recipes)]][:, of]
    chance, facts = found.chance[of], np.unique(found.facts[of], return_inverse=True)[1]
    drawn = Resamples.of(right, chance, facts, seed)
    accuracy = right.mean(axis=1)
    at = {r: retention(accuracy[1 + i], accuracy[0], chance.mean()) for i, r in enumerate(recipes)}
    draws = {r: drawn.retention(1 + i, 0, made_up + i) for i, r in enumerate(recipes)}
    return Kept(at, draws, int(of.sum()), drawn.effective)


@dataclass(frozen=True)
class Effect:
    """The effect in one stratum, in the unit of its rule. n: questions; amounts: those that its rows have; low, high: 95 %;
    draws: of the bootstrap, None where the interval came otherwise; effective: clusters that the facts count as."""

    model: str
    facts: str
    origin: str
    n: int
    amounts: tuple[float, ...]
    effect: float
    low: float
    high: float
    draws: np.ndarray | None = field(repr=False)
    effective: float

    @classmethod
    def of(cls, stratum: Stratum, n: int, amounts, value: float, interval, draws=None, effective: float | None = None):
        low, high = interval if draws is None else expanded_interval(draws, effective)
        where = (stratum.model, stratum.facts, stratum.origin)
        return cls(*where, n, tuple(amounts), float(value), float(low), float(high), draws, effective or float(n))


def together(effects: Iterable[Effect]) -> tuple[float, float, float]:
    """Return the mean effect of strata, each counting alike, and its 95 % interval for other facts in each.

    Resamples of different strata are independent; the few whose baseline does not beat chance are left out in their own
    stratum alone. Where a stratum has none, its interval is taken as that of a normal distribution.
    """
    effects = list(effects)
    if len(effects) == 1:
        return effects[0].effect, effects[0].low, effects[0].high
    draws = []
    for number, e in enumerate(effects):
        rng = np.random.default_rng([7, number])  # the same seed in every stratum would tie them together
        normal = rng.normal(e.effect, (e.high - e.low) / (2 * 1.96), RESAMPLES) if e.draws is None else e.draws
        draws.append(rng.permutation(np.resize(normal[~np.isnan(normal)], RESAMPLES)))
    low, high = expanded_interval(np.mean(draws, axis=0), sum(e.effective for e in effects))
    return float(np.mean([e.effect for e in effects])), low, high


def by_kind(effects: Iterable[Effect]) -> list[tuple[str, list[Effect]]]:
    """Return the effects in language models, then those in lab models; no kind that has none."""
    groups: dict[str, list[Effect]] = {LANGUAGE: [], LAB: []}
    for effect in effects:
        groups[LAB if lab_parts(effect.model) else LANGUAGE].append(effect)
    return [(kind, group) for kind, group in groups.items() if group]


def bits_of_facts(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the bits that each fact about the lab's people stands for, with those of its relation that were not queried, and
    a number for each fact. A fact may count below 0; a score that is not a number is worth nothing."""
    from kc_utils import lab
    from kc_utils.probing.sources import load_source

    tables = lab.bit_tables(load_source(DRAWN[0]))
    rows = rows[rows["relation"].isin(tables)]
    entropy, facts = (rows["relation"].map({r: getattr(t, n) for r, t in tables.items()}) for n in ("entropy", "facts"))
    bits = (entropy + rows["score"].astype(float) / math.log(2)).to_numpy(float)
    share = facts / rows.groupby("relation")["fact"].transform("size")
    return np.where(np.isfinite(bits), bits, 0.0) * share.to_numpy(float), pd.factorize(rows["fact"])[0]
