"""From the rows of cells to one line per recipe and protocol: what tables, figures and sentences read."""

from __future__ import annotations

import pandas as pd

from kc_utils.stats.intervals import clustered_wilson
from kc_utils.stats.items import clusters_of
from kc_utils.stats.names import TASK, UNQUANTIZED, bits_of, model_name, precision_of
from kc_utils.stats.pair_tests import corrected
from kc_utils.stats.statistics import compare, flat, head_and_tail
from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest
from kc_utils.study.cells import Cell
from kc_utils.study.store import CellResult


def summarise(results: dict[Cell, CellResult]) -> pd.DataFrame:
    """One line per recipe and protocol, compressed against uncompressed on the same facts.

    Columns: recipe, protocol (of a harness task, `task NAME`); those of `recipe_fields`; everything of
    `statistics.Comparison`; touched_fraction, sparsity, weights_removed, bits_per_weight, bytes_compressed and
    compression_ratio of the report;
    p_holm, McNemar's p corrected by Holm's method for the number of recipes in this frame, by protocol.
    Raises BadRequest where the uncompressed model is missing.
    """
    lines = []
    for cell, result in results.items():
        if cell.baseline not in results:
            raise BadRequest(f"{cell.model}: the uncompressed model was not evaluated beside {cell.recipe}")
        lines += lines_of(cell, result, results[cell.baseline])
    return summary_of(lines)


def lines_of(cell: Cell, result: CellResult, baseline: CellResult) -> list[dict]:
    """The lines of one recipe in `summarise`, without the correction for their number."""
    base = questions_of(baseline.rows)
    return [
        {
            "model": model_name(cell.model),
            **recipe_fields(cell.recipe),
            "protocol": protocol,
            **flat(compare(rows, base[base["protocol"] == protocol])),
            **report_fields(result.report),
        }
        for protocol, rows in questions_of(result.rows).groupby("protocol")
    ]


def summary_of(lines: list[dict]) -> pd.DataFrame:
    """`lines_of` several recipes as the frame that `summarise` gives."""
    frame = pd.DataFrame(lines)
    frame["p_holm"] = float("nan")
    for _, part in frame[frame["recipe"] != "none"].groupby("protocol"):
        frame.loc[part.index, "p_holm"] = corrected(part["p_mcnemar"], "holm")
    return frame


def recipe_fields(text: str) -> dict:
    """recipe; steps, how many; method, scope and amount of the first; `pruned`, the fraction asked of a pruning step, 0
    without one; `precision`, how weights are stored after the last quantizing step, and `bits` of a weight there."""
    steps = Recipe.parse(text).steps
    first = steps[0] if steps else None
    pruned = next((s.amount or 0.0 for s in steps if method(s.method).prunes), 0.0)
    quantizing = next((s for s in reversed(steps) if not method(s.method).prunes), None)
    return {
        "recipe": text,
        "steps": len(steps),
        "method": first.method if first else "none",
        "scope": first.scope if first else "none",
        "amount": first.amount if first else None,
        "pruned": pruned,
        "precision": precision_of(quantizing) if quantizing else UNQUANTIZED,
        "bits": bits_of(quantizing) if quantizing else None,
    }


def report_fields(report: dict) -> dict:
    """What of a recipe's report stands beside its results. weights_removed: zeros in the touched matrices."""
    sparsity = report.get("sparsity") or 0.0
    return {
        "touched_fraction": report.get("touched_fraction", 0.0),
        "sparsity": sparsity,
        "weights_removed": sparsity * report.get("weights_touched", 0),
        "bits_per_weight": report.get("bits_per_weight"),
        "bytes_compressed": report.get("bytes_compressed"),
        "compression_ratio": report.get("compression_ratio"),
    }


def questions_of(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of questions asked once of the model as it is: all but the windows of a text (`surprise.compare_surprise`
    reads those) and what was asked while it learned again (`relearned`).

    Each harness task counts as a protocol of its own, `task NAME`, since tasks differ in what a guess is worth.
    """
    left_out = rows["protocol"].isin(("perplexity", "relearning"))
    if left_out.any():
        rows = rows[~left_out]
    of_tasks = rows["protocol"] == "harness"
    return rows.assign(protocol=rows["protocol"].mask(of_tasks, TASK + rows["relation"])) if of_tasks.any() else rows


def by_popularity(results: dict[Cell, CellResult], recipes: list[str]) -> pd.DataFrame:
    """Accuracy of the more and the less popular half of each relation's facts, by recipe and protocol.

    Empty where no fact has a popularity."""
    lines = []
    for cell, result in results.items():
        if cell.recipe not in recipes:
            continue
        rows = questions_of(result.rows)
        rows = rows.assign(popularity=pd.to_numeric(rows["popularity"])).dropna(subset="popularity")
        for (protocol, half), part in rows.assign(half=head_and_tail(rows)).groupby(["protocol", "half"]):
            low, high = clustered_wilson(part["correct"].to_numpy(bool), clusters_of(part, "fact"))
            lines.append(
                {
                    **recipe_fields(cell.recipe),
                    "protocol": protocol,
                    "half": half,
                    "n": len(part),
                    "accuracy": part["correct"].mean(),
                    "low": low,
                    "high": high,
                    "chance": part["chance"].mean(),
                }
            )
    return pd.DataFrame(lines)


def by_relation(results: dict[Cell, CellResult], recipes: list[str]) -> pd.DataFrame:
    """Comparison of each relation, by recipe and protocol. `q_bh`: p corrected after Benjamini and Hochberg for the number
    of relations and recipes of the protocol, since many are listed."""
    lines = []
    for cell, result in results.items():
        if cell.recipe not in recipes:
            continue
        base = questions_of(results[cell.baseline].rows)
        for (protocol, relation), part in questions_of(result.rows).groupby(["protocol", "relation"]):
            same = base[(base["protocol"] == protocol) & (base["relation"] == relation)]
            lines.append(
                {
                    "recipe": cell.recipe,
                    "protocol": protocol,
                    "relation": relation,
                    **flat(compare(part, same)),
                }
            )
    frame = pd.DataFrame(lines)
    frame["q_bh"] = float("nan")
    for _, part in frame[frame["recipe"] != "none"].groupby("protocol"):
        frame.loc[part.index, "q_bh"] = corrected(part["p_mcnemar"], "fdr_bh")
    return frame
