"""Rows of evaluations as one table: what notebooks, findings and exercises begin with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd
from pydantic import ValidationError

from kc_utils.errors import BadRequest
from kc_utils.probing.probe import Probe
from kc_utils.study.cells import Cell
from kc_utils.study.evaluate import evaluate as evaluate_cells
from kc_utils.study.parameters import explain
from kc_utils.study.result import CellResult

REPORTED = ("touched_fraction", "sparsity", "weights_removed", "bits_per_weight", "bytes_compressed", "compression_ratio")
"""What every row carries of its recipe's report."""


def evaluate(models: str | Iterable[str], recipes: str | Iterable[str], **probe) -> pd.DataFrame:
    """Evaluate models under recipes, and uncompressed, on the same facts; read from the store what was computed before.

    models, recipes: one or several; `**probe`: fields of `Probe` (facts, relations, limit, seed, protocols, templates,
    alternatives, shots, tasks, task_limit, text, text_tokens, relearn_steps). Returns one row a fact, protocol and
    template, with columns model, recipe, protocol, relation, fact, template, correct, score, margin, chance, and those of
    the recipe's report (`REPORTED`). Raises BadRequest for what is unknown before anything is computed.

    >>> rows = evaluate("smollm2-135m", "magnitude@all=0.5", relations=["capital"], limit=20)
    """
    models, recipes = _listed(models), _listed(recipes)
    try:
        wanted = Probe(**probe)
    except ValidationError as error:
        raise BadRequest(explain(error, Probe)) from error
    first = [] if wanted.relearn_steps else ["none"]
    cells = [Cell.of(model, recipe, wanted) for model in models for recipe in dict.fromkeys([*first, *recipes])]
    return table_of(evaluate_cells(cells))


def table_of(results: Mapping[Cell, CellResult]) -> pd.DataFrame:
    """The rows of finished evaluations below one another, each with its model, recipe and what the recipe really did."""
    parts = [
        result.rows.assign(model=cell.model, recipe=cell.recipe, **_reported(result.report))
        for cell, result in results.items()
    ]
    frame = pd.concat(parts, ignore_index=True)
    first = ["model", "recipe"]
    return frame[[*first, *(c for c in frame if c not in first)]]


def _reported(report: Mapping) -> dict[str, float]:
    found = {name: report.get(name) for name in REPORTED}
    found["touched_fraction"] = found["touched_fraction"] or 0.0
    found["sparsity"] = found["sparsity"] or 0.0
    found["weights_removed"] = found["sparsity"] * report.get("weights_touched", 0)
    return {name: float("nan") if value is None else float(value) for name, value in found.items()}


def _listed(values: str | Iterable[str]) -> list[str]:
    return [values] if isinstance(values, str) else list(values)
