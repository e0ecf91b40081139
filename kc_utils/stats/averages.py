"""Micro and macro averages: does every question count the same, every relation, or every type of relation?

LAMA reports macro averages over relations, BEAR micro averages over facts. They differ where large relations are easier
or harder than small ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from kc_utils.stats.intervals import NAN, clustered_wilson, wilson_of_variance
from kc_utils.stats.items import CLUSTERS, MIN_RELATIONS, checked, clusters_of
from kc_utils.stats.statistics import chance_of
from kc_utils.errors import BadRequest, listed


def averages(
    rows: pd.DataFrame, types: Mapping[str, str] | None = None, measure: str = "correct", cluster: str = "fact"
) -> pd.DataFrame:
    """One line for each average: average, type, accuracy, low, high, chance, n, relations.

    rows      of one protocol and one model
    types     relation -> type (`1-1`, `N-1`, `N-M`); without it there are no lines by type
    cluster   `fact`: other facts of these same relations might have been asked; `relation`: other relations, too

    average `micro`: rows count alike. `macro`: relations do. `macro by type`: types do, and within them relations.
    Lines with a type hold the relations of that type alone. An interval by relation is missing (NaN) where there are
    fewer than six relations. Raises BadRequest for relations without a type, and as `items.checked`.
    """
    if cluster not in CLUSTERS:
        raise BadRequest(f"no cluster {cluster!r}: choose {listed(CLUSTERS)}")
    rows = checked(rows, measure, ["relation", "chance"])
    if rows["protocol"].nunique() > 1:
        raise BadRequest(f"an average over protocols {listed(sorted(set(rows['protocol'])))} means nothing: choose one")
    lines = _both(rows, "all", measure, cluster)
    if types is not None:
        kinds = types_of(rows, types)
        lines.append(_line("macro by type", "all", rows, measure, cluster, kinds))
        for kind, part in rows.groupby(kinds, sort=True):
            lines += _both(part, kind, measure, cluster)
    return pd.DataFrame(lines)


def types_of(rows: pd.DataFrame, types: Mapping[str, str]) -> pd.Series:
    """The type of each row's relation. Raises BadRequest for a relation that has none."""
    unknown = sorted(set(rows["relation"]) - set(types))
    if unknown:
        raise BadRequest(f"no type is given for {listed(unknown)}: name the type of every relation")
    return rows["relation"].map(types).rename("type")


def _both(rows: pd.DataFrame, kind: str, measure: str, cluster: str) -> list[dict]:
    one = pd.Series("all", rows.index)
    return [_line("micro", kind, rows, measure, cluster, None), _line("macro", kind, rows, measure, cluster, one)]


def _line(average: str, kind: str, rows: pd.DataFrame, measure: str, cluster: str, strata: pd.Series | None) -> dict:
    right, chance = rows[measure].to_numpy(float), chance_of(rows, measure)
    relations = rows["relation"].nunique()
    few = cluster == "relation" and relations < MIN_RELATIONS
    if strata is None:
        value, guess = right.mean(), chance.mean()
        low, high = NAN if few else clustered_wilson(right, clusters_of(rows, cluster))
    else:
        groups = _relations(rows.assign(right=right, guess=chance, stratum=strata))
        value, guess = (float((groups["weight"] * groups[c]).sum()) for c in ("right", "guess"))
        low, high = NAN if few else _macro_interval(groups, value, cluster)
    return {
        "average": average,
        "type": kind,
        "accuracy": float(value),
        "low": low,
        "high": high,
        "chance": float(guess),
        "n": len(rows),
        "relations": relations,
    }


def _relations(rows: pd.DataFrame) -> pd.DataFrame:
    """One line for each relation: its accuracy and chance, the variance of the accuracy over its facts, number of facts,
    stratum, and weight (strata count alike, relations alike within them)."""
    groups = rows.groupby("relation", sort=True).agg(
        right=("right", "mean"), guess=("guess", "mean"), size=("right", "size"), stratum=("stratum", "first")
    )
    residuals = rows["right"] - rows["relation"].map(groups["right"])
    by_fact = residuals.groupby([rows["relation"], rows["fact"]]).sum()
    squares = (by_fact**2).groupby(level=0).agg(["sum", "size"])
    # the same as `intervals.ratio_variance` of each relation
    groups["facts"] = squares["size"]
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = squares["size"] / (squares["size"] - 1)
    groups["variance"] = factor * squares["sum"] / groups["size"] ** 2
    groups = groups.reset_index()
    # a relation of one fact has no spread of its own: it takes the one that all relations have on average, for one fact
    alone = groups["facts"] == 1
    spread = (groups["variance"] * groups["facts"])[~alone].mean()
    groups.loc[alone, "variance"] = rows["right"].mean() * (1 - rows["right"].mean()) if math.isnan(spread) else spread
    in_stratum = groups.groupby("stratum")["relation"].transform("size")
    return groups.assign(weight=1 / groups["stratum"].nunique() / in_stratum)


def _macro_interval(groups: pd.DataFrame, value: float, cluster: str) -> tuple[float, float]:
    """Wilson's interval of a weighted mean of relations, degrees of freedom after Satterthwaite (1946)."""
    if cluster == "fact":
        parts = groups["weight"] ** 2 * groups["variance"]
        freedom = np.maximum(groups["facts"] - 1, 1)
        fallback = float(groups["facts"].sum())
    else:
        strata = groups.groupby("stratum")["right"]
        sizes = strata.size()
        if (sizes < 2).any():
            return NAN  # the only relation of its type: nothing says how far another one would lie
        parts = strata.var(ddof=1) / sizes / len(sizes) ** 2
        freedom = sizes - 1
        fallback = float(len(groups))
    variance = float(parts.sum())
    df = variance**2 / float((parts**2 / freedom).sum()) if variance else fallback - 1
    return wilson_of_variance(value, variance, df, fallback)
