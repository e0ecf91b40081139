"""Does a model give one answer to a fact, however it is asked? Over pairs of wordings, after ParaRel.

Elazar et al. (2021, TACL) call the share of pairs of a fact's wordings with the same prediction its consistency, whether
the prediction is right or not. Predictions are the chosen candidate in a closed set, the likeliest token in cloze. A tie
or scores that are not numbers predict nothing, which agrees with nothing.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from kc_utils.stats.bootstrap import mean_interval
from kc_utils.stats.intervals import clustered_wilson
from kc_utils.stats.items import MIN_RELATIONS, checked
from kc_utils.errors import BadRequest, BadResult, listed

PREDICTION = {"rank": "chosen", "openbook": "chosen", "cloze": "predicted_token", "openbook-cloze": "predicted_token"}
"""The column that holds what was predicted; -1 for nothing."""

MEASURES = ("consistency", "consistent_right", "accuracy", "all_right", "any_right")


def consistency_by_fact(rows: pd.DataFrame) -> pd.DataFrame:
    """One line for each fact asked in two wordings at least, of one protocol.

    Columns: fact, relation, wordings, pairs; `consistency`, the share of pairs with the same prediction;
    `consistent_right`, the share of pairs with the same prediction, right both times; `accuracy` over wordings;
    `all_right` and `any_right`, whether every wording, whether any is answered rightly.

    Raises BadRequest for several protocols at once, for one without predictions, and where no fact is asked twice.
    """
    protocols = sorted(set(rows["protocol"])) if "protocol" in rows else []
    if len(protocols) > 1 or not set(protocols) <= set(PREDICTION):
        raise BadRequest(
            f"consistency is counted for one of {listed(PREDICTION)} at a time; these rows are of {listed(protocols)}"
        )
    column = PREDICTION[protocols[0]] if protocols else "chosen"
    rows = checked(rows, needs=["relation", column])
    if rows[column].isna().any():
        raise BadResult(f"{int(rows[column].isna().sum())} rows have no {column}: evaluate the cell again")
    lines = [_of_fact(fact, part, column) for fact, part in rows.groupby("fact", sort=True) if len(part) > 1]
    if not lines:
        raise BadRequest("no fact is asked in two wordings: evaluate with templates of 2 or more, or 'all'")
    return pd.DataFrame(lines)


def _of_fact(fact: str, part: pd.DataFrame, column: str) -> dict:
    predicted, right = part[column].to_numpy(), part["correct"].to_numpy()
    pairs = len(part) * (len(part) - 1) // 2
    return {
        "fact": fact,
        "relation": part["relation"].iloc[0],
        "wordings": len(part),
        "pairs": pairs,
        "consistency": _same_pairs(predicted[predicted != -1]) / pairs,
        "consistent_right": _same_pairs(predicted[(predicted != -1) & right]) / pairs,
        "accuracy": float(right.mean()),
        "all_right": bool(right.all()),
        "any_right": bool(right.any()),
    }


def _same_pairs(values: np.ndarray) -> int:
    counts = np.unique(values, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def consistency(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One line for each measure and average: average, measure, value, low, high, facts, relations.

    average `micro`: each fact counts once, and facts are drawn. `macro`, as ParaRel reports it: each relation counts
    once, and relations are drawn; its interval is missing with fewer than six relations. Raises as `consistency_by_fact`.
    """
    facts = consistency_by_fact(rows)
    relations = facts.groupby("relation")[list(MEASURES)].mean()
    counts = {"facts": len(facts), "relations": len(relations)}
    lines = []
    for measure in MEASURES:
        for average, values in (("micro", facts[measure]), ("macro", relations[measure])):
            values = values.to_numpy(float)
            low, high = np.nan, np.nan
            if average == "micro" and measure in ("all_right", "any_right"):
                low, high = clustered_wilson(values, np.arange(len(values)))
            elif average == "micro" or len(values) >= MIN_RELATIONS:
                low, high = mean_interval(values, np.arange(len(values)), seed)
                low, high = max(low, 0.0), min(high, 1.0)
            lines.append(
                {"average": average, "measure": measure, "value": values.mean(), "low": low, "high": high, **counts}
            )
    return pd.DataFrame(lines)
