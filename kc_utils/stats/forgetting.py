"""Which facts are forgotten? Losses among the facts known before: by popularity, by margin, by kind of relation.

A fact is *known* where the uncompressed model answers it rightly, and *lost* where the compressed one then does not. Some
of the known were guessed, more of them where little is known, and guesses are lost by another draw: every group therefore
also carries the retention of all its items, which chance is taken out of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from kc_utils.errors import BadRequest, BadResult
from kc_utils.stats.intervals import clustered_wilson
from kc_utils.stats.items import ITEM, checked, clusters_of, paired
from kc_utils.stats.statistics import along, chance_of, compare_by, retention


def types_of(rows: pd.DataFrame, types: Mapping[str, str]) -> pd.Series:
    """The type of each row's relation. Raises BadRequest for a relation that has none."""
    unknown = sorted(set(rows["relation"]) - set(types))
    if unknown:
        raise BadRequest(f"no type is given for {', '.join(unknown)}: name the type of every relation")
    return rows["relation"].map(types).rename("type")


def known_items(rows: pd.DataFrame, baseline: pd.DataFrame, measure: str = "correct") -> pd.DataFrame:
    """The paired rows that the uncompressed model answers rightly, with a column `lost`; other columns are those of
    `rows`, and `margin_baseline` where rows have a margin. Raises as `compare`, BadResult where nothing was known."""
    columns = [measure] + (["margin"] if "margin" in rows and "margin" in baseline else [])
    joined = paired(checked(rows, measure, ["relation"]), checked(baseline, measure), columns)
    known = joined[joined[f"{measure}_baseline"]].reset_index(drop=True)
    if known.empty:
        raise BadResult(f"the uncompressed model answers none of {len(joined)} items rightly: nothing can be lost")
    return known.assign(lost=~known[measure])


def loss_by(
    rows: pd.DataFrame, baseline: pd.DataFrame, by: str | pd.Series, measure: str = "correct", seed: int = 0
) -> pd.DataFrame:
    """One line for each value of `by` (a column of `rows`, or a Series along them).

    Columns: that of `statistics.compare_by`, over all items of the group, and over those known before: known (how many),
    lost_of_known, lost_low, lost_high. Facts are drawn, relations are as they are. Raises as `compare_by`.
    """
    rows, values = along(rows, by)
    name = values.name
    groups = compare_by(rows, baseline, values, measure, seed)
    joined = paired(checked(rows.assign(_group=values), measure), checked(baseline, measure), [measure])
    known = joined[joined[f"{measure}_baseline"]]
    lines = []
    for value in groups[name]:
        part = known[known["_group"] == value]
        low, high = clustered_wilson(~part[measure].to_numpy(bool), clusters_of(part, "fact"))
        share = float((~part[measure]).mean()) if len(part) else float("nan")
        lines.append({"known": len(part), "lost_of_known": share, "lost_low": low, "lost_high": high})
    return pd.concat([groups, pd.DataFrame(lines)], axis=1)


def loss_by_popularity(
    rows: pd.DataFrame, baseline: pd.DataFrame, bins: int = 4, within: str | None = "relation", measure: str = "correct"
) -> pd.DataFrame:
    """`loss_by` bins of popularity, least popular first. Facts without a popularity belong to none.

    within: `relation` where popularity is not comparable between relations (population of a country, views of a page):
    each relation's facts are then parted on their own. None: all facts together.
    """
    labels = quantile_bins(rows, "popularity", bins, within)
    return loss_by(rows, baseline, labels, measure)


def loss_by_margin(rows: pd.DataFrame, baseline: pd.DataFrame, bins: int = 5) -> pd.DataFrame:
    """`loss_by` bins of the uncompressed model's margin (its lead of the right answer over the best wrong one, in nats)
    among the items it answers rightly: narrowest lead first. Yin et al. (2024, arXiv 2310.02277) part hard from easy so.

    All items of a bin were right before, so the baseline of every bin is 1 and the accuracy is what is left of it. Some
    loss in the narrowest bin is regression to the mean: a lead that was luck does not last.
    """
    known = known_items(rows, baseline)
    margins = known.drop(columns="margin", errors="ignore").rename(columns={"margin_baseline": "margin"})
    if "margin" not in margins or margins["margin"].isna().all():
        raise BadRequest("the rows have no margin: use those of protocol cloze, rank, openbook or harness")
    labels = pd.Series(quantile_bins(margins, "margin", bins).to_numpy(), pd.MultiIndex.from_frame(margins[ITEM]))
    keys = pd.MultiIndex.from_frame(rows[ITEM])
    by = pd.Series(labels.reindex(keys).to_numpy(), rows.index, name="margin")
    found = loss_by(rows, baseline, by)
    edges = margins.groupby(labels.to_numpy())["margin"].agg(["min", "median", "max"])
    return found.merge(edges.add_prefix("margin_"), left_on="margin", right_index=True)


def loss_by_type(rows: pd.DataFrame, baseline: pd.DataFrame, types: Mapping[str, str]) -> pd.DataFrame:
    """`loss_by` the type of relation (1-1, N-1, N-M). types: relation -> type."""
    return loss_by(rows, baseline, types_of(rows, types))


def quantile_bins(rows: pd.DataFrame, column: str, bins: int, within: str | None = None) -> pd.Series:
    """The bin of each row, 1 (lowest values) to `bins`, so that facts fill them evenly; missing where the value is.

    The wordings of a fact stay in one bin, that of the mean of its values; facts of equal value may be parted.
    Raises BadRequest for fewer than two bins, or more than there are facts with a value.
    """
    numbers = rows.assign(value=pd.to_numeric(rows[column], errors="coerce").astype(float))
    facts = numbers.groupby("fact").agg(value=("value", "mean"), group=(within or "fact", "first"))
    facts = facts[facts["value"].notna()]
    if bins < 2 or len(facts) < bins:
        raise BadRequest(
            f"{len(facts)} facts with a {column} cannot be parted into {bins} bins: choose 2 or more, and fewer"
        )
    grouped = facts.groupby("group")["value"] if within else facts["value"]
    order = grouped.rank(method="first", pct=True)
    number = np.ceil((order * bins).round(9)).clip(1, bins).astype(int)
    return rows["fact"].map(number).astype("Int64").rename(column)


@dataclass(frozen=True)
class Curve:
    """A share along a quantity: at[i], its share[i] among the `window` nearest items, with 95 % intervals low, high."""

    at: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    window: int


def loss_curve(known: pd.DataFrame, along: str = "margin_baseline", points: int = 25, share: float = 0.2) -> Curve:
    """Share lost along a quantity of the items of `known_items`, such as the baseline's margin or popularity.

    A running share: around each of `points` items, evenly spaced in order, the nearest `share` of all items in order, each
    with its own Wilson interval. Neighbouring points share items; the intervals do not hold for the whole curve at once.
    Raises BadRequest for a column that is not there or fewer than 20 items with a value.
    """
    if along not in known:
        raise BadRequest(f"the items have no {along}: name another column, or use the rows of a closed set")
    items = known[known[along].notna()].sort_values([along, *ITEM], kind="stable").reset_index(drop=True)
    window = round(share * len(items))
    if len(items) < 20 or not 5 <= window <= len(items):
        raise BadRequest(f"{len(items)} known items with a {along} and windows of {window} are too few for a curve")
    starts = np.unique(np.linspace(0, len(items) - window, points).round().astype(int))
    lines = []
    for start in starts:
        part = items.iloc[start : start + window]
        interval = clustered_wilson(part["lost"].to_numpy(), clusters_of(part, "fact"))
        lines.append((part[along].median(), part["lost"].mean(), *interval))
    return Curve(*(np.array(side, float) for side in zip(*lines, strict=True)), window)


@dataclass(frozen=True)
class Saturation:
    """Losses of relations against how well they were known.

    relations         one line each: relation, n, baseline_accuracy, accuracy, loss (difference), retention, lost_of_known
    spearman, p       rank correlation of loss and baseline accuracy
    oldham, p_oldham  rank correlation of loss and the mean of both accuracies, free of regression to the mean
    """

    relations: pd.DataFrame
    spearman: float
    p: float
    oldham: float
    p_oldham: float


def loss_against_baseline(rows: pd.DataFrame, baseline: pd.DataFrame, measure: str = "correct") -> Saturation:
    """Do relations that were known worse lose more? (Wang et al. 2025, arXiv 2505.13963)

    A relation whose baseline was high by luck falls back by itself, so that loss and baseline go together even where
    compression strikes blindly. Oldham (1962) correlates the loss with the mean of both accuracies instead. Correlations are
    missing with fewer than four relations, or where all are alike. Raises as `compare`.
    """
    joined = paired(checked(rows, measure, ["relation", "chance"]), checked(baseline, measure), [measure])
    before, after = f"{measure}_baseline", measure
    items = joined.assign(
        guess=chance_of(joined, measure), lost_of_known=(~joined[after]).where(joined[before]).astype(float)
    )
    lines = items.groupby("relation", sort=True).agg(
        n=(after, "size"),
        baseline_accuracy=(before, "mean"),
        accuracy=(after, "mean"),
        chance=("guess", "mean"),
        lost_of_known=("lost_of_known", "mean"),
    )
    lines["loss"] = lines["baseline_accuracy"] - lines["accuracy"]
    lines["retention"] = [retention(r.accuracy, r.baseline_accuracy, r.chance) for r in lines.itertuples()]
    middle = (lines["baseline_accuracy"] + lines["accuracy"]) / 2
    return Saturation(
        lines.reset_index(),
        *_spearman(lines["loss"], lines["baseline_accuracy"]),
        *_spearman(lines["loss"], middle),
    )


def _spearman(x: pd.Series, y: pd.Series) -> tuple[float, float]:
    x, y = x.round(12), y.round(12)  # what differs by rounding is a tie
    if len(x) < 4 or x.nunique() < 2 or y.nunique() < 2:
        return float("nan"), float("nan")
    found = stats.spearmanr(x, y)
    return float(found.statistic), float(found.pvalue)
