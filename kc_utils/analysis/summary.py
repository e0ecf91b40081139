"""From the rows of cells to one line per recipe and protocol: what tables, figures and sentences read."""

from __future__ import annotations

import pandas as pd
from statsmodels.stats.multitest import multipletests

from kc_utils.analysis.statistics import compare, head_and_tail, wilson
from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Recipe, Step
from kc_utils.errors import BadRequest
from kc_utils.study.cells import Cell
from kc_utils.study.store import CellResult

PROTOCOL_NAMES = {"cloze": "Cloze: first token, whole vocabulary", "rank": "Ranking: whole answer, closed set"}
SCOPE_NAMES = {"all": "all layers", "attention": "attention", "feed_forward": "feed-forward", "head": "final layer"}
UNQUANTIZED = "not quantized"
PRECISIONS = [UNQUANTIZED, "8 bits", "int8 dynamic", "4 bits", "3 bits", "2 bits"]  # as an axis
METHOD_NAMES = {
    "magnitude": "magnitude",
    "random": "random",
    "random-rows": "random rows",
    "rows-l1": "rows by L1",
    "rows-l2": "rows by L2",
    "int8": "int8 dynamic",
    "rtn": "round to nearest",
}


def in_order_of_precision(precision: pd.Series) -> pd.Series:
    """The column `precision` as an ordered categorical of the values that occur."""
    return pd.Series(
        pd.Categorical(precision, [p for p in PRECISIONS if p in set(precision)], ordered=True), precision.index
    )


def summarise(results: dict[Cell, CellResult]) -> pd.DataFrame:
    """One line per recipe and protocol, compressed against uncompressed on the same facts.

    Columns: recipe, protocol; method, scope, amount of the first step; pruned, precision (see `_recipe_fields`);
    everything of `statistics.Comparison`; touched_fraction, sparsity, weights_removed, bits_per_weight of the report;
    p_holm, McNemar's p corrected by Holm's method for the number of recipes in this frame, by protocol.
    Raises BadRequest where the uncompressed model is missing.
    """
    lines = []
    for cell, result in results.items():
        if cell.baseline not in results:
            raise BadRequest(f"{cell.model}: the uncompressed model was not evaluated beside {cell.recipe}")
        base = results[cell.baseline].rows
        for protocol, rows in result.rows.groupby("protocol"):
            comparison = compare(rows, base[base["protocol"] == protocol])
            lines.append(
                {
                    "model": cell.model,
                    **_recipe_fields(cell.recipe),
                    "protocol": protocol,
                    **_flat(comparison.to_dict()),
                    **_report_fields(result.report),
                }
            )
    frame = pd.DataFrame(lines)
    frame["p_holm"] = float("nan")
    for _, part in frame[frame["recipe"] != "none"].groupby("protocol"):
        frame.loc[part.index, "p_holm"] = multipletests(part["p_mcnemar"], method="holm")[1]
    return frame


def _recipe_fields(text: str) -> dict:
    """method, scope and amount of the first step; `pruned`, the fraction asked of a pruning step, 0 without one;
    `precision`, how weights are stored after the last quantization step."""
    steps = Recipe.parse(text).steps
    first = steps[0] if steps else None
    pruned = next((s.amount or 0.0 for s in steps if method(s.method).prunes), 0.0)
    precision = next((_precision(s) for s in reversed(steps) if not method(s.method).prunes), UNQUANTIZED)
    return {
        "recipe": text,
        "steps": len(steps),
        "method": first.method if first else "none",
        "scope": first.scope if first else "none",
        "amount": first.amount if first else None,
        "pruned": pruned,
        "precision": precision,
    }


def _precision(step: Step) -> str:
    return "int8 dynamic" if step.method == "int8" else f"{step.amount} bits"


def _report_fields(report: dict) -> dict:
    sparsity = report.get("sparsity") or 0.0
    return {
        "touched_fraction": report.get("touched_fraction", 0.0),
        "sparsity": sparsity,
        "weights_removed": sparsity * report.get("weights_touched", 0),
        "bits_per_weight": report.get("bits_per_weight"),
    }


def _flat(comparison: dict) -> dict:
    comparison["low"], comparison["high"] = comparison.pop("ci95")
    comparison["retention_low"], comparison["retention_high"] = comparison.pop("retention_ci95")
    return comparison


def by_popularity(results: dict[Cell, CellResult], recipes: list[str]) -> pd.DataFrame:
    """Accuracy of the more and the less popular half of each relation's facts, by recipe and protocol."""
    lines = []
    for cell, result in results.items():
        if cell.recipe not in recipes:
            continue
        rows = result.rows.assign(half=head_and_tail(result.rows))
        for (protocol, half), part in rows.dropna(subset="half").groupby(["protocol", "half"]):
            low, high = wilson(int(part["correct"].sum()), len(part))
            lines.append(
                {
                    **_recipe_fields(cell.recipe),
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
    """Comparison of each relation, by recipe and protocol."""
    lines = []
    for cell, result in results.items():
        if cell.recipe not in recipes:
            continue
        base = results[cell.baseline].rows
        for (protocol, relation), part in result.rows.groupby(["protocol", "relation"]):
            same = base[(base["protocol"] == protocol) & (base["relation"] == relation)]
            lines.append(
                {
                    "recipe": cell.recipe,
                    "protocol": protocol,
                    "relation": relation,
                    **_flat(compare(part, same).to_dict()),
                }
            )
    return pd.DataFrame(lines)
