"""Statistics of rows. Nothing here needs a model: every number is a function of stored rows.

Accuracies carry Wilson intervals (`intervals`); a compressed model is compared with the uncompressed one on the same
facts, by a paired bootstrap over facts or relations (`bootstrap`) and by McNemar's exact test (`pair_tests`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from kc_utils.stats.bootstrap import (
    RESAMPLES,
    cluster_sums,
    expanded_interval,
    made_up_pairs,
    resampled_sums,
)
from kc_utils.stats.intervals import NAN, clustered_wilson, effective_clusters, wilson
from kc_utils.stats.items import ITEM, checked, clusters_of, paired, same_numbers
from kc_utils.stats.pair_tests import clustered_mcnemar
from kc_utils.errors import BadRequest, listed

__all__ = ["ITEM", "Comparison", "accuracy_by", "compare", "compare_by", "head_and_tail", "retention", "wilson"]

GUESSES = {"correct_at_5": 5, "correct_at_10": 10}
"""How many guesses a measure allows; the others allow one."""


def retention(compressed: float, baseline: float, chance: float) -> float:
    """Share of the knowledge above chance that is kept: (compressed - chance) / (baseline - chance).

    1 is nothing lost, 0 is guessing; below 0 is worse than guessing. NaN where the baseline does not beat chance.
    Where chance differs from item to item, all three are means over the same items.
    """
    if not baseline > chance:
        return float("nan")
    return (compressed - chance) / (baseline - chance)


@dataclass(frozen=True)
class Comparison:
    """A compressed model against the uncompressed one on the same n items. Intervals are 95 %.

    lost, gained: share of all items that only the uncompressed, only the compressed model answers rightly.
    p_mcnemar: McNemar's exact test that lost and gained are equally likely (`pair_tests.clustered_mcnemar`).
    cluster, clusters: what intervals and test take to be drawn together (`items.clusters_of`), and how many of them.
    retention_note: why the retention or its interval is undefined; empty where both are defined.
    """

    n: int
    accuracy: float
    ci95: tuple[float, float]
    chance: float
    baseline_accuracy: float
    difference: float
    difference_ci95: tuple[float, float]
    retention: float
    retention_ci95: tuple[float, float]
    retention_note: str
    lost: float
    gained: float
    p_mcnemar: float
    cluster: str
    clusters: int

    def to_dict(self) -> dict:
        return asdict(self)


def compare(
    rows: pd.DataFrame, baseline: pd.DataFrame, measure: str = "correct", seed: int = 0, cluster: str = "fact"
) -> Comparison:
    """Compare two frames of rows item by item.

    measure   a column of right and wrong: `correct`, `correct_at_5`, `correct_at_10`, `correct_norm`
    cluster   `fact` or `relation`, see `items.clusters_of`

    A frame beside itself, equal in every value, has intervals of no length: there is nothing that other facts could change.
    Coverage of the intervals in simulation, with the cases in which they are wider or shorter than they should be: see
    `intervals` and `bootstrap`; with fewer than about five flips among all items they are too wide.

    Raises BadRequest where they are not the same items, BadResult where a frame is empty or lacks values.
    """
    rows, baseline = checked(rows, measure, ["chance"]), checked(baseline, measure, ["chance"])
    joined = paired(rows, baseline, [measure])
    right = joined[measure].to_numpy(bool)
    before = joined[f"{measure}_baseline"].to_numpy(bool)
    chance = chance_of(joined, measure)
    clusters = clusters_of(joined, cluster)
    same = same_numbers(rows, baseline)
    resamples = PairedResamples.of(right, before, chance, clusters, facts_of(joined), seed)
    kept = retention(right.mean(), before.mean(), chance.mean())
    kept_ci95 = resamples.retention_interval() if not same else (kept, kept)
    kept_ci95 = kept_ci95 if kept == kept else NAN
    return Comparison(
        n=len(joined),
        accuracy=float(right.mean()),
        ci95=clustered_wilson(right, clusters),
        chance=float(chance.mean()),
        baseline_accuracy=float(before.mean()),
        difference=float(right.mean() - before.mean()),
        difference_ci95=(0.0, 0.0) if same else resamples.difference_interval(),
        retention=float(kept),
        retention_ci95=kept_ci95,
        retention_note=_why_undefined(kept, kept_ci95),
        lost=float((before & ~right).mean()),
        gained=float((~before & right).mean()),
        p_mcnemar=clustered_mcnemar(before, right, clusters),
        cluster=cluster,
        clusters=int(clusters.max()) + 1,
    )


def _why_undefined(kept: float, interval: tuple[float, float]) -> str:
    if kept != kept:
        return "the uncompressed model does not beat chance, so that there is no knowledge to keep"
    if interval[0] != interval[0]:
        return "the uncompressed model beats chance too narrowly for an interval of what is kept"
    return ""


def chance_of(rows: pd.DataFrame, measure: str) -> np.ndarray:
    """Chance of each item under a measure: of k guesses, k times that of one, at most 1."""
    return np.minimum(rows["chance"].to_numpy(float) * GUESSES.get(measure, 1), 1.0)


def facts_of(rows: pd.DataFrame) -> float:
    """Rows of one fact, on average."""
    return len(rows) / rows["fact"].nunique()


@dataclass(frozen=True)
class PairedResamples:
    """Totals of resamples, one of each per resample: right answers after and before, chances, items; and how many
    clusters they were drawn from (effectively, see `intervals.effective_clusters`)."""

    after: np.ndarray
    before: np.ndarray
    chance: np.ndarray
    items: np.ndarray
    effective: float

    @classmethod
    def of(cls, after, before, chance, clusters, rows_per_fact: float, seed: int, resamples: int = RESAMPLES):
        """after, before: (n,) booleans; chance: (n,); clusters: (n,) numbers of what is drawn together."""
        after, before, chance = (np.asarray(x, float) for x in (after, before, chance))
        sums = cluster_sums(np.stack([after, before, chance, np.ones(len(after))], axis=1), clusters)
        a, b, c, m = resampled_sums(sums, seed, resamples).T
        extra_a, extra_b, extra = made_up_pairs(seed, resamples, rows_per_fact)
        return cls(
            a + extra_a, b + extra_b, c + extra * chance.mean(), m + extra, effective_clusters(np.bincount(clusters))
        )

    def retentions(self) -> np.ndarray:
        """Of each resample; NaN where its baseline does not beat chance."""
        known = self.before - self.chance
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(known > 1e-9 * self.items, (self.after - self.chance) / known, np.nan)

    def retention_interval(self, level: float = 0.95) -> tuple[float, float]:
        return expanded_interval(self.retentions(), self.effective, level)

    def difference_interval(self, level: float = 0.95) -> tuple[float, float]:
        return expanded_interval((self.after - self.before) / self.items, self.effective, level)


def compare_by(
    rows: pd.DataFrame, baseline: pd.DataFrame, by: str | pd.Series, measure: str = "correct", seed: int = 0
) -> pd.DataFrame:
    """One line for each value of `by`: everything of `Comparison`, intervals as `*_low` and `*_high`; facts are drawn.

    by: a column of rows, or a Series along them. Rows where it is missing belong to no line.
    Raises as `compare`, and BadRequest where no row belongs to a line.
    """
    rows, values = along(rows, by)
    name = values.name
    if values.isna().all():
        raise BadRequest(f"no row has a {name}: nothing to compare by it")
    lines = []
    for value, index in values.groupby(values, observed=True, sort=True).groups.items():
        part = rows.loc[index]
        items = pd.MultiIndex.from_frame(baseline[ITEM]).isin(pd.MultiIndex.from_frame(part[ITEM]))
        lines.append({name: value, **flat(compare(part, baseline[items], measure, seed))})
    return pd.DataFrame(lines)


def along(rows: pd.DataFrame, by: str | pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Rows and what they are grouped by, both numbered from 0. Raises BadRequest for a column that is not there and for
    a Series of other rows."""
    if isinstance(by, str):
        if by not in rows:
            raise BadRequest(f"the rows have no column {by!r} to group by: choose one of {listed(rows.columns)}")
        by = rows[by]
    if not by.index.equals(rows.index):
        raise BadRequest("what rows are grouped by belongs to other rows: derive it from the rows that are compared")
    return rows.reset_index(drop=True), by.reset_index(drop=True).rename(by.name or "group")


def flat(comparison: Comparison) -> dict:
    """The fields of a comparison with each interval in two: `low`, `high`, `retention_low`, `difference_high` ..."""
    fields = comparison.to_dict()
    for name in ("ci95", "retention_ci95", "difference_ci95"):
        prefix = name.removesuffix("ci95")
        fields[f"{prefix}low"], fields[f"{prefix}high"] = fields.pop(name)
    return fields


def accuracy_by(rows: pd.DataFrame, by: str, measure: str = "correct") -> pd.DataFrame:
    """Accuracy with its interval for each value of a column: columns `by`, n, accuracy, low, high, chance."""
    groups = []
    rows = checked(rows, measure, [by, "chance"])
    for value, part in rows.groupby(by, observed=True, sort=True):
        low, high = clustered_wilson(part[measure].to_numpy(), clusters_of(part, "fact"))
        groups.append(
            {
                by: value,
                "n": len(part),
                "accuracy": part[measure].mean(),
                "low": low,
                "high": high,
                "chance": chance_of(part, measure).mean(),
            }
        )
    return pd.DataFrame(groups)


def head_and_tail(rows: pd.DataFrame, parts: int = 2) -> pd.Series:
    """`head` for the most popular half of each relation's facts, `tail` for the other; NA without a popularity.

    With parts = 4 the labels are `1st quarter` (most popular) to `4th quarter`.
    """
    names = {2: ["tail", "head"], 4: ["4th quarter", "3rd quarter", "2nd quarter", "1st quarter"]}[parts]
    facts = rows.drop_duplicates("fact").set_index("fact")  # a fact asked in several ways stays in one part
    rank = facts.groupby("relation")["popularity"].rank(pct=True, method="first")
    order = rows["fact"].map(np.ceil(rank * parts).clip(1, parts))
    return order.map(lambda x: names[int(x) - 1], na_action="ignore").astype("object")
