"""Rows that claims are decided from: strata, the knowledge that is kept in each, and the mean over them.

A stratum is one model that answers the facts of one source by one protocol. Of several probes the one with most of the recipes
needed is used, of several alike that of the first origin, and there the largest sample. Recipes are resampled on the same facts.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
import pandas as pd
from scipy import stats

from kc_utils.errors import BadRequest, listed
from kc_utils.stats.bootstrap import Resamples, cluster_sums, expanded_interval, mean_interval, resampled_sums
from kc_utils.stats.compare import retention
from kc_utils.stats.decision import FACTS, MODELS, POOLED
from kc_utils.stats.intervals import clustered_wilson, effective_clusters
from kc_utils.stats.items import Answers, aligned, questions_of, refuse_missing
from kc_utils.stats.names import lab_parts

NO_KNOWLEDGE = ("lab:strangers", "lab:rule", "lab:wikipedia-never")  # sources without a fact that a model could have learned
DRAWN = ("lab:people", "lab")  # sources with facts that were drawn evenly from known tables
SAMPLE = ("origin", "model", "facts", "probe")
LANGUAGE, LAB = "language models", "lab models"


@dataclass(frozen=True)
class Stratum:
    """One model and one probe. rows: all that it answered, with the column `recipe`; protocols: facts queried by each."""

    model: str
    facts: str
    origin: str
    rows: pd.DataFrame = field(repr=False)
    recipes: frozenset[str] = frozenset()
    protocols: Mapping[str, int] = field(default_factory=dict)
    _laid: dict = field(default_factory=dict, repr=False)
    _reports: dict = field(default_factory=dict, repr=False)

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
        if not self._reports:  # read once: a scan of the rows for each number takes most of the time of a ledger
            firsts = self.rows.drop_duplicates("recipe").set_index("recipe")
            self._reports.update(firsts.select_dtypes("number").to_dict("index"))
        return float(self._reports[recipe][name])

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
                protocols = base.groupby("protocol", observed=True)["fact"].nunique().to_dict()
                self.strata.append(Stratum(model, facts, origin, part, frozenset(part["recipe"].unique()), protocols))

    def of_knowledge(self, protocol: str, wanted: Callable[[Stratum], int]) -> list[Stratum]:
        """Of each model and source, one stratum that has what is wanted, of FACTS by this protocol at least, without examples.

        wanted: how much of it a stratum has, 0 where it cannot be used. Sources of `POOLED` are not ranked.
        """
        shots = lambda s: "shots" in s.rows and s.rows["shots"].fillna(0).max() > 0  # noqa: E731
        left_out = {*NO_KNOWLEDGE, *(POOLED if protocol == "rank" else ())}
        enough = lambda s: s.protocols.get(protocol, 0) >= FACTS  # noqa: E731
        fine = [s for s in self.strata if enough(s) and s.facts not in left_out and not shots(s)]
        return _one_each(fine, wanted, lambda s: (s.model, s.facts))

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
    stratum: Stratum, recipes: Iterable[str], protocol: str, of: np.ndarray | None = None, seed: int = 0, made_up: int = 0
) -> Kept:
    """Return the retention under each recipe, and how it varies when other facts are drawn, the same for every recipe.

    of: (n,) which questions count; all without it. seed: of the facts drawn; made_up: of the made-up ones, which are drawn
    anew for each recipe (`bootstrap`), and for each model, so that they do not seem to be facts that models share.
    """
    found, recipes = stratum.answers(protocol), list(dict.fromkeys(recipes))
    if absent := set(recipes) - set(found.recipes):
        raise BadRequest(f"{stratum.model}: no rows of {listed(absent)} by {protocol}")
    of = np.ones(len(found.chance), bool) if of is None else of
    right = found.right[[found.recipes[r] for r in ("none", *recipes)]][:, of]
    chance, facts = found.chance[of], np.unique(found.facts[of], return_inverse=True)[1]
    drawn, made_up = Resamples.of(right, chance, facts, seed), made_up + 1000 * crc32(stratum.model.encode())
    accuracy = right.mean(axis=1)
    at = {r: retention(accuracy[1 + i], accuracy[0], chance.mean()) for i, r in enumerate(recipes)}
    draws = {r: drawn.retention(1 + i, 0, made_up + i) for i, r in enumerate(recipes)}
    return Kept(at, draws, int(of.sum()), drawn.effective)


@dataclass(frozen=True)
class Effect:
    """The effect in one stratum, in the unit of its rule. n: questions; amounts: those that its rows have; low, high: 95 %;
    draws: of the bootstrap; effective: clusters that the facts count as; rival: of several that a claim is about, the one."""

    model: str
    facts: str
    origin: str
    n: int
    amounts: tuple[float, ...]
    effect: float
    low: float
    high: float
    draws: np.ndarray = field(repr=False)
    effective: float
    rival: str = ""

    @classmethod
    def of(cls, stratum: Stratum, n: int, amounts, value: float, draws: np.ndarray, effective: float, interval=None):
        low, high = interval or expanded_interval(draws, effective)
        where = (stratum.model, stratum.facts, stratum.origin)
        low, high = min(low, value), max(high, value)  # made-up facts move both ends the same way
        return cls(*where, n, tuple(amounts), float(value), float(low), float(high), draws, float(effective))

    @classmethod
    def of_mean(cls, stratum: Stratum, amounts, each: np.ndarray, facts: np.ndarray):
        """The mean of a quantity that each question has, no share of right answers. facts: numbers of what is drawn together."""
        total, count = resampled_sums(cluster_sums(np.stack([each, np.ones_like(each)], axis=1), facts)).T
        effective, interval = effective_clusters(np.bincount(facts)), mean_interval(each, facts)
        return cls.of(stratum, len(each), amounts, each.mean(), total / count, effective, interval)


def together(effects: Iterable[Effect]) -> tuple[float, float, float]:
    """Return the mean effect of models, each the mean of its sources, with its 95 % interval.

    Of fewer than MODELS models the interval is one for other facts: resamples of a model's sources are independent, those of
    models that answer the same facts the same, and the few whose baseline does not beat chance are left out in their own
    stratum alone. Of more it is one for other models, too. With y_m = mu + a_m + c + e_m, where a_m is the model's own, c what
    common facts add to all models and e_m what facts add to this one, the mean of M models has the variance
    (var a + var e) / M + var c. The spread S of y_m estimates var a + var e with M - 1 degrees of freedom. Resamples estimate the
    other two: their mean over models has the variance A = var e / M + var c, a model's own B = var e + var c on average, and so
    var e = M (B - A) / (M - 1). Where S is at most var e, nothing shows that models differ, and A stands. Otherwise it is
    S / M + var c, and the interval Student's with Satterthwaite's degrees of freedom of that sum (`benchmarks/verdicts.py`).
    """
    models: dict[str, list[Effect]] = {}
    for effect in effects:
        models.setdefault(effect.model, []).append(effect)
    values = np.array([np.mean([e.effect for e in own]) for own in models.values()])
    middle, m = float(values.mean()), len(values)
    facts = min(sum(e.effective for e in own) for own in models.values())
    if m == 1 and len(own := next(iter(models.values()))) == 1:
        return middle, own[0].low, own[0].high
    draws = np.array([_mean_draws(own) for own in models.values()])
    low, high = expanded_interval(draws.mean(axis=0), facts)
    if m >= MODELS:
        of_mean, own = draws.mean(axis=0).var(), draws.var(axis=1).mean()
        by_facts = m * (own - of_mean) / (m - 1)
        if (spread := values.var(ddof=1)) > max(by_facts, 0.0):
            spread, shared = spread / m, max(0.0, of_mean - by_facts / m)
            variance = spread + shared
            freedom = variance**2 / (spread**2 / (m - 1) + shared**2 / max(facts - 1, 1))
            reach = float(stats.t.ppf(0.975, freedom)) * math.sqrt(variance)
            low, high = middle - reach, middle + reach
    return middle, min(low, middle), max(high, middle)


def _mean_draws(effects: list[Effect]) -> np.ndarray:
    """Resamples of the mean of one model's strata: those of different sources apart, those of one source alike in all models."""
    known = [np.where(np.isnan(e.draws), np.nanmean(e.draws), e.draws) for e in effects]
    apart = [np.random.default_rng(crc32(e.facts.encode())).permutation(d) for e, d in zip(effects, known, strict=True)]
    return np.mean(apart, axis=0)


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
