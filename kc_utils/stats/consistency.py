"""Does a model give one answer to a fact, however it is queried? Over pairs of paraphrases, after ParaRel.

Elazar et al. (2021, TACL) call the share of pairs of a fact's templates with the same prediction its consistency, whether
the prediction is right or not. Predictions are the chosen candidate in a closed set, the likeliest token in cloze. A tie
or scores that are not numbers predict nothing, which agrees with nothing.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from kc_utils.errors import BadRequest, BadResult, listed
from kc_utils.stats.bootstrap import mean_interval
from kc_utils.stats.intervals import clustered_wilson
from kc_utils.stats.items import MIN_RELATIONS, aligned, checked, refuse_missing, sample_of
from kc_utils.stats.names import recipe_fields

PREDICTION = {"rank": "chosen", "openbook": "chosen", "cloze": "predicted_token", "openbook-cloze": "predicted_token"}
"""The column that holds what was predicted; -1 for nothing."""


def agreement(rows: pd.DataFrame) -> pd.DataFrame:
    """Compare how often two templates of a fact get the same answer, right or wrong, with the uncompressed model.

    rows: of `evaluate(..., templates="all")`. Returns one line per model, recipe and protocol: value, the share of pairs
    that agree, facts counting alike, with its 95 % interval low, high over facts; right, the share of pairs that agree and
    are right; all_right and any_right, shares of facts; facts, how many; baseline_value, of the uncompressed model; the
    fields of the recipe. Empty where each fact is queried with one template. Raises BadResult for missing predictions, and
    as `compare`.
    """
    refuse_missing(rows, ["model", "recipe", "protocol"])
    keys, lines = [*sample_of(rows), "protocol"], []
    for values, part in rows.groupby(keys, sort=False, observed=True, dropna=False):
        if values[-1] not in PREDICTION or not part.duplicated(["recipe", "fact"]).any():
            continue
        found, named = aligned(part, [PREDICTION[values[-1]]]), dict(zip(keys, values, strict=True))
        own = {recipe: by_fact(found.rows(recipe), PREDICTION[values[-1]]) for recipe in found.recipes}
        base = float(own["none"]["same"].mean()) if "none" in own else float("nan")
        for recipe, facts in own.items():
            low, high = mean_interval(facts["same"].to_numpy(), facts["number"].to_numpy())
            means = facts[["right", "all_right", "any_right"]].mean().to_dict()
            line = {"value": float(facts["same"].mean()), "low": max(low, 0.0), "high": min(high, 1.0)}
            lines.append(named | recipe_fields(recipe) | line | means | {"facts": len(facts), "baseline_value": base})
    return pd.DataFrame(lines)


def by_fact(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a line for each fact with two templates at least: fact, number; same and right, shares of its pairs of templates
    with the same prediction, and with the same right one; all_right, any_right."""
    if rows[column].isna().any():
        raise BadResult(f"{int(rows[column].isna().sum())} rows have no {column}: evaluate the model again")
    right = rows["correct"].astype(bool)
    groups = right.groupby(rows["fact"], sort=True)
    facts = pd.DataFrame({"size": groups.size(), "all_right": groups.all(), "any_right": groups.any()})
    facts = facts[facts["size"] > 1]
    pairs = facts["size"] * (facts["size"] - 1) / 2
    for name, chosen in (("same", rows[column] != -1), ("right", (rows[column] != -1) & right)):
        count = rows[chosen].groupby(["fact", column]).size()
        same = (count * (count - 1) / 2).groupby("fact").sum()
        facts[name] = (same.reindex(facts.index, fill_value=0) / pairs).astype(float)
    return facts.reset_index(names="fact").assign(number=range(len(facts)))


# of the modules that go
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
