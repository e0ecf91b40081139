"""Compressed models against uncompressed ones, fact by fact: one line per model, recipe and protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from kc_utils.errors import BadRequest
from kc_utils.stats.pair_tests import corrected
from kc_utils.stats.statistics import compare as compare_pair
from kc_utils.stats.statistics import flat
from kc_utils.stats.summary import questions_of, recipe_fields
from kc_utils.study.rows import REPORTED

LEVEL = 0.05


def compare(rows: pd.DataFrame, against: str | Mapping[str, str] = "none", by: str | Sequence[str] = ()) -> pd.DataFrame:
    """Compare every recipe with the uncompressed model, or with another recipe, on the same facts.

    rows: of `evaluate`; against: a recipe, or a mapping of recipes to the one each is compared with; by: columns that
    split the facts (`relation`). Raises BadRequest where the recipe to compare with was not evaluated.

    >>> table = compare(rows)
    """
    by = [by] if isinstance(by, str) else list(by)
    rivals = against if isinstance(against, Mapping) else dict.fromkeys(rows["recipe"].unique(), against)
    rows = questions_of(rows)
    lines = []
    for keys, part in rows.groupby(["model", "protocol", *by], sort=False, observed=True):
        recipes = dict(iter(part.groupby("recipe", sort=False)))
        for recipe, rival in rivals.items():
            if recipe not in recipes:
                continue
            if rival not in recipes:
                raise BadRequest(f"{keys[0]}: {rival} was not evaluated beside {recipe}; evaluate both on the same facts")
            mine = recipes[recipe]
            named = dict(zip(["model", "protocol", *by], keys, strict=True))
            shown = {c: mine[c].iloc[0] for c in REPORTED}
            lines.append(named | recipe_fields(recipe) | flat(compare_pair(mine, recipes[rival])) | shown)
    table = pd.DataFrame(lines)
    table["p_holm"] = float("nan")
    for _, part in table[table["recipe"] != "none"].groupby(["model", "protocol", *by]):
        table.loc[part.index, "p_holm"] = corrected(part["p_mcnemar"], "holm")
    table["clear"] = (table["p_holm"] < LEVEL) & (table["difference"] < 0)
    return table.rename(columns={"p_mcnemar": "p"})
