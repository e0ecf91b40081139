"""Statistics of rows. Nothing here needs a model: every number is a function of stored rows.

Accuracies carry Wilson intervals (Wilson 1927); a compressed model is compared with the uncompressed one on the same
facts, by a paired bootstrap over facts and by McNemar's exact test.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from kc_utils.errors import BadRequest, BadResult

RESAMPLES = 2000
ITEM = ["protocol", "fact", "template"]


def wilson(correct: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion."""
    if n == 0:
        return (float("nan"), float("nan"))
    low, high = proportion_confint(correct, n, alpha=1 - level, method="wilson")
    return float(low), float(high)


def retention(compressed: float, baseline: float, chance: float) -> float:
    """Share of the knowledge above chance that is kept: (compressed - chance) / (baseline - chance).

    1 is nothing lost, 0 is guessing; below 0 is worse than guessing. NaN where the baseline does not beat chance.
    """
    if not baseline > chance:
        return float("nan")
    return (compressed - chance) / (baseline - chance)


@dataclass(frozen=True)
class Comparison:
    """A compressed model against the uncompressed one on the same n items. Intervals are 95 %.

    lost, gained: share of all items that only the uncompressed, only the compressed model answers rightly.
    p_mcnemar: exact McNemar test that lost and gained are equally likely.
    """

    n: int
    accuracy: float
    ci95: tuple[float, float]
    chance: float
    baseline_accuracy: float
    retention: float
    retention_ci95: tuple[float, float]
    lost: float
    gained: float
    p_mcnemar: float

    def to_dict(self) -> dict:
        return asdict(self)


def compare(rows: pd.DataFrame, baseline: pd.DataFrame, measure: str = "correct", seed: int = 0) -> Comparison:
    """Compare two frames of rows item by item. `measure` is a boolean column.

    Raises BadRequest where they are not the same items, BadResult where a frame is empty.
    """
    if rows.empty or baseline.empty:
        raise BadResult("no rows to compare: the probe asked nothing")
    joined = rows[[*ITEM, measure, "chance"]].merge(baseline[[*ITEM, measure]], on=ITEM, suffixes=("", "_baseline"))
    if len(joined) != len(rows) or len(joined) != len(baseline):
        raise BadRequest(
            f"{len(rows)} and {len(baseline)} rows share {len(joined)} items: they do not ask the same facts"
        )
    right = joined[measure].to_numpy(bool)
    before = joined[f"{measure}_baseline"].to_numpy(bool)
    chance = joined["chance"].to_numpy(float) * {"correct": 1, "correct_at_5": 5, "correct_at_10": 10}[measure]
    n = len(joined)
    lost, gained = int((before & ~right).sum()), int((~before & right).sum())
    return Comparison(
        n=n,
        accuracy=float(right.mean()),
        ci95=wilson(int(right.sum()), n),
        chance=float(chance.mean()),
        baseline_accuracy=float(before.mean()),
        retention=retention(right.mean(), before.mean(), chance.mean()),
        retention_ci95=_bootstrap_retention(right, before, chance, seed),
        lost=lost / n,
        gained=gained / n,
        p_mcnemar=float(mcnemar([[0, lost], [gained, 0]], exact=True).pvalue),
    )


def _bootstrap_retention(right, before, chance, seed: int) -> tuple[float, float]:
    """Percentile interval of the retention, resampling items with both of their answers together."""
    draws = np.random.default_rng(seed).integers(0, len(right), size=(RESAMPLES, len(right)))
    compressed, uncompressed, guess = (np.asarray(x, float)[draws].mean(axis=1) for x in (right, before, chance))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(uncompressed > guess, (compressed - guess) / (uncompressed - guess), np.nan)
    if np.isnan(values).mean() > 0.01:
        return (float("nan"), float("nan"))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def accuracy_by(rows: pd.DataFrame, by: str, measure: str = "correct") -> pd.DataFrame:
    """Accuracy with its interval for each value of a column: columns `by`, n, accuracy, low, high, chance."""
    groups = []
    for value, part in rows.groupby(by, observed=True, sort=True):
        low, high = wilson(int(part[measure].sum()), len(part))
        groups.append(
            {
                by: value,
                "n": len(part),
                "accuracy": part[measure].mean(),
                "low": low,
                "high": high,
                "chance": part["chance"].mean(),
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
