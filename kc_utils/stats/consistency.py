"""Does a model give one answer to a fact, however it is queried? Over pairs of paraphrases, after ParaRel.

Elazar et al. (2021, TACL) call the share of pairs of a fact's templates with the same prediction its consistency, whether
it is right or not. The prediction is the chosen candidate in a closed set, the likeliest token in cloze. A tie or scores
that are not numbers predict nothing (-1), which agrees with nothing.
"""

import numpy as np
import pandas as pd

from kc_utils.errors import BadResult
from kc_utils.stats.bootstrap import mean_interval
from kc_utils.stats.items import aligned, refuse_missing, sample_of
from kc_utils.stats.names import recipe_fields

PREDICTION = {"rank": "chosen", "openbook": "chosen", "cloze": "predicted_token", "openbook-cloze": "predicted_token"}


def agreement(rows: pd.DataFrame) -> pd.DataFrame:
    """Compare how often two templates of a fact get the same answer, right or wrong, with the uncompressed model.

    rows: of `evaluate(..., templates="all")`. Returns one line per model, recipe and protocol: value, the share of pairs
    that agree, facts counting alike, with its 95 % interval low, high over facts; facts, how many; baseline_value, of the
    uncompressed model; the fields of the recipe. Empty where each fact is queried with one template. Raises BadResult for
    missing predictions, and as `compare`.
    """
    refuse_missing(rows, ["model", "recipe", "protocol"])
    keys, lines = [*sample_of(rows), "protocol"], []
    for values, part in rows.groupby(keys, sort=False, observed=True, dropna=False):
        if values[-1] not in PREDICTION or not part.duplicated(["recipe", "fact"]).any():
            continue
        found, named = aligned(part, [PREDICTION[values[-1]]]), dict(zip(keys, values, strict=True))
        own = {recipe: by_fact(found.rows(recipe), PREDICTION[values[-1]]) for recipe in found.recipes}
        base = float(own["none"].mean()) if "none" in own else float("nan")
        for recipe, same in own.items():
            low, high = mean_interval(same.to_numpy(), np.arange(len(same)))
            line = {"value": float(same.mean()), "low": max(low, 0.0), "high": min(high, 1.0)}
            lines.append(named | recipe_fields(recipe) | line | {"facts": len(same), "baseline_value": base})
    return pd.DataFrame(lines)


def by_fact(rows: pd.DataFrame, column: str) -> pd.Series:
    """Return, by fact with two templates at least, the share of its pairs of templates with the same prediction."""
    if missing := int(rows[column].isna().sum()):
        raise BadResult(f"{missing} rows have no {column}: evaluate the model again")
    sizes = rows.groupby("fact", sort=True).size()
    sizes = sizes[sizes > 1]
    count = rows[rows[column] != -1].groupby(["fact", column]).size()
    same = (count * (count - 1)).groupby("fact").sum().reindex(sizes.index, fill_value=0)
    return (same / (sizes * (sizes - 1))).astype(float)
