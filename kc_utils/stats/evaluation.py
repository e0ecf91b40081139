"""What `kc eval` says: one compressed model against the uncompressed one, as plain numbers and texts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from kc_utils.stats.consistency import consistency
from kc_utils.stats.statistics import accuracy_by, compare
from kc_utils.stats.surprise import compare_surprise
from kc_utils.study.cells import Cell
from kc_utils.study.store import CellResult

NOT_SHOWN = ("steps", "per_matrix", "recipe")


def evaluation(cell: Cell, result: CellResult, baseline: CellResult, consistent: bool = False) -> dict[str, Any]:
    """Comparisons of what the cell's probe asks, and the recipe's report.

    Facts of one protocol are compared at the top level; tasks under `tasks`, by name; a text under `perplexity`.
    consistent: also how far the wordings of a fact agree.
    """
    rows, before = (_by_protocol(r.rows) for r in (result, baseline))
    answer: dict[str, Any] = {"model": cell.model, "recipe": cell.recipe}
    for protocol in cell.probe.protocols if cell.probe.facts is not None else ():
        if protocol not in rows:
            continue
        answer |= {"facts": cell.probe.facts, "protocol": protocol}
        answer |= compare(rows[protocol], before[protocol]).to_dict()
        if cell.probe.templates != 1:
            by_template = accuracy_by(rows[protocol], "template")[["template", "accuracy", "low", "high"]]
            answer["by_template"] = by_template.to_dict("records")
        if consistent:
            answer["consistency"] = consistency(rows[protocol]).to_dict("records")
    if cell.probe.tasks:
        asked, base = rows["harness"], before["harness"]
        answer["tasks"] = {
            task: compare(part, base[base["relation"] == task]).to_dict() for task, part in asked.groupby("relation")
        }
    if cell.probe.text is not None:
        answer["perplexity"] = asdict(compare_surprise(rows["perplexity"], before["perplexity"]))
    return answer | {k: v for k, v in result.report.items() if k not in NOT_SHOWN}


def _by_protocol(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {protocol: part.dropna(axis="columns", how="all") for protocol, part in rows.groupby("protocol")}
