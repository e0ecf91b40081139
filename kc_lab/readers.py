"""What lab models that read Wikipedia answer, by how they met a fact: see `kc_lab.wikipedia`."""

from collections.abc import Sequence

import pandas as pd

from kc_utils.errors import BadRequest
from kc_utils.stats.compare import compare
from kc_utils.stats.seeds import over_seeds, shared_questions, with_lines
from kc_utils.study.rows import results

STUDY, SOURCE = "lab-wikipedia", "lab:wikipedia-"
KINDS = {"both": "read in a sentence and in templates", "sentence": "read in a sentence alone", "never": "never read"}
TREX = r"P\d+"
"""Relations of T-REx; those of Google-RE have names."""


def read_facts(recipes: Sequence[str], protocol: str = "cloze", relations: str = TREX) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare every recipe with the uncompressed model: one line for each family, kind of fact and recipe, and single models.

    recipes: names or patterns; relations: a regular expression. Lines are means over seeds with t intervals; of one seed they are
    those of the model, with intervals for other facts, and there are no single models. Empty tables where no rows are at hand.
    """
    try:
        rows = results(STUDY, recipes=["none", *recipes], protocols=protocol)
    except BadRequest:
        return pd.DataFrame(), pd.DataFrame()
    rows = rows[rows["relation"].str.fullmatch(relations)]
    kinds = [(KINDS[facts.removeprefix(SOURCE)], part) for facts, part in rows.groupby("facts", observed=True)]
    tables = [compare(shared_questions(part)).assign(kind=kind) for kind, part in kinds]
    order = list(KINDS.values())
    singles = with_lines(pd.concat(tables)).sort_values("kind", key=lambda kind: kind.map(order.index), kind="stable")
    if singles["seed"].nunique() == 1:
        renamed = singles.rename(columns={"low": "accuracy_low", "high": "accuracy_high"})
        return renamed.assign(seeds=1), singles.iloc[:0]
    return over_seeds(singles, ["accuracy", "retention"], ["line", "kind", "recipe"]), singles
