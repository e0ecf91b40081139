"""What else the rows of a run hold, one line per recipe: surprise at a text, open-book twins, wordings that agree; and
recipes compared with each other instead of with the uncompressed model.

Frames hold the columns of `summary.recipe_fields`, so that they are drawn and told like a summary. They are empty where
the run did not ask what they need.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from kc_utils.stats.consistency import PREDICTION, consistency
from kc_utils.stats.open_and_closed import open_and_closed
from kc_utils.stats.pair_tests import corrected
from kc_utils.stats.statistics import compare, flat
from kc_utils.stats.summary import questions_of, recipe_fields
from kc_utils.stats.surprise import compare_surprise
from kc_utils.errors import BadRequest, BadResult, listed
from kc_utils.study.cells import Cell
from kc_utils.study.store import CellResult

Results = dict[Cell, CellResult]
RECALL = "rank"
"""The protocol whose open-book twin is asked."""


def surprises(results: Results) -> pd.DataFrame:
    """Perplexity of the text that a run reads: everything of `surprise.Surprise`, its intervals as `ratio_low`,
    `ratio_high`, and `text`, its name."""
    lines = []
    for cell, result, base in _with_baselines(results):
        # stored beside questions, windows have a column `chance` that holds nothing
        rows, before = (r[r["protocol"] == "perplexity"].dropna(axis=1, how="all") for r in (result.rows, base))
        if len(rows):
            found = compare_surprise(rows, before).to_dict()
            found["ratio_low"], found["ratio_high"] = found.pop("ratio_ci95")
            found["extra_low"], found["extra_high"] = found.pop("extra_bits_per_byte_ci95")
            lines.append({**recipe_fields(cell.recipe), "text": rows["relation"].iloc[0], **found})
    return pd.DataFrame(lines)


def fates(results: Results) -> pd.DataFrame:
    """What became of the facts answered both from memory and when stated: one line per recipe and fate.

    Columns fate, share, low, high, count, n, unread, gap, gap_low, gap_high as in `open_and_closed`. Empty, too, where the
    uncompressed model answers no fact both ways.
    """
    lines = []
    for cell, result, base in _with_baselines(results):
        if not {RECALL, "openbook"} <= set(result.rows["protocol"]):
            continue
        try:
            found = open_and_closed(result.rows, base, memory=RECALL)
        except BadResult:
            continue
        same = {"n": found.n, "unread": found.unread, "gap": found.gap}
        same["gap_low"], same["gap_high"] = found.gap_ci95
        lines += [{**recipe_fields(cell.recipe), **same, **line} for line in found.fates.to_dict("records")]
    return pd.DataFrame(lines)


def agreements(results: Results) -> pd.DataFrame:
    """Pairs of a fact's wordings that get the same answer: one line per recipe and protocol.

    Columns value, low, high (fractions of pairs, facts counting alike), facts; and the same of the uncompressed model,
    `baseline_value`. Empty where each fact is asked in one wording.
    """
    lines = []
    for cell, result, base in _with_baselines(results):
        for protocol, rows in result.rows.groupby("protocol"):
            if protocol not in PREDICTION or not rows.duplicated("fact").any():
                continue
            after, before = (_agreement(r) for r in (rows, base[base["protocol"] == protocol]))
            lines.append(
                {
                    **recipe_fields(cell.recipe),
                    "protocol": protocol,
                    **{name: after[name] for name in ("value", "low", "high", "facts")},
                    "baseline_value": before["value"],
                }
            )
    return pd.DataFrame(lines)


def _agreement(rows: pd.DataFrame) -> pd.Series:
    found = consistency(rows)
    return found[(found["measure"] == "consistency") & (found["average"] == "micro")].iloc[0]


def duels(results: Results, pairs: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Recipes in pairs, compared with each other fact by fact: one line per pair and protocol.

    Columns of `summary.recipe_fields` for the first recipe; `rival`, the second; n, accuracy, rival_accuracy; only_first
    and only_rival, the shares that just one of them answers rightly; p_holm, McNemar's p corrected by Holm's method for
    the number of pairs, by protocol. Raises BadRequest for a recipe without results.
    """
    by_recipe = {cell.recipe: questions_of(result.rows) for cell, result in results.items()}
    lines = []
    for first, rival in pairs:
        if missing := {first, rival} - set(by_recipe):
            raise BadRequest(f"no results of {listed(sorted(missing))} to compare; evaluate both recipes of each pair")
        for protocol, rows in by_recipe[first].groupby("protocol"):
            others = by_recipe[rival]
            found = flat(compare(rows, others[others["protocol"] == protocol]))
            lines.append(
                {
                    **recipe_fields(first),
                    "rival": rival,
                    "protocol": protocol,
                    "n": found["n"],
                    "accuracy": found["accuracy"],
                    "rival_accuracy": found["baseline_accuracy"],
                    "only_first": found["gained"],
                    "only_rival": found["lost"],
                    "p": found["p_mcnemar"],
                }
            )
    frame = pd.DataFrame(lines)
    if len(frame):
        frame["p_holm"] = float("nan")
        for _, part in frame.groupby("protocol"):
            frame.loc[part.index, "p_holm"] = corrected(part["p"], "holm")
    return frame


def _with_baselines(results: Results) -> Iterable[tuple[Cell, CellResult, pd.DataFrame]]:
    """Each cell with its result and the rows of the uncompressed model."""
    for cell, result in results.items():
        if cell.baseline not in results:
            raise BadRequest(f"{cell.model}: the uncompressed model was not evaluated beside {cell.recipe}")
        yield cell, result, results[cell.baseline].rows
