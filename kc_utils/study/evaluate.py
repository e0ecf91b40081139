"""From cells to rows: load, compress, probe, store; what is stored already is not repeated."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from importlib import import_module

import pandas as pd
import torch
from tqdm.auto import tqdm

from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import KCError
from kc_utils.knowledge.causal import NextToken
from kc_utils.knowledge.probe import ask
from kc_utils.models.loading import load
from kc_utils.study import provenance, store
from kc_utils.study.cells import Cell


def evaluate(cells: Iterable[Cell], show_progress: bool = True) -> dict[Cell, store.CellResult]:
    """The result of every cell, computed where the store has none. Progress and an estimate go to standard error.

    A KCError of one cell ends the evaluation; the cells finished before it stay stored.
    """
    cells = list(dict.fromkeys(cells))
    results: dict[Cell, store.CellResult] = {}
    with tqdm(total=len(cells), unit="cell", disable=not show_progress, file=sys.stderr) as bar:
        for cell in cells:
            bar.set_description(f"{cell.model} {cell.recipe}"[:48])
            results[cell] = store.read(cell.key) or _compute_once(cell)
            bar.update()
    return results


def _compute_once(cell: Cell) -> store.CellResult:
    with store.lock(cell.key):
        return store.read(cell.key) or compute(cell)


def compute(cell: Cell) -> store.CellResult:
    """Compute one cell and store it."""
    seconds = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        seconds[stage] = round(time.perf_counter() - clock, 3)
        clock = time.perf_counter()

    loaded = load(cell.model)
    trees = NextToken(loaded.model).takes_trees() if loaded.entry.family == "decoder" else None
    lap("load")
    try:
        report = apply(loaded.model, Recipe.parse(cell.recipe), tokenizer=loaded.tokenizer)
    except KCError as error:
        raise type(error)(f"{cell.model}, {cell.recipe}: {error}") from error
    lap("compress")
    tables, about = [], {}
    if cell.probe.facts is not None:
        answers = ask(loaded.model, loaded.tokenizer, loaded.entry.family, cell.probe, trees=trees)
        tables.append(answers.rows)
        about = {"left_out": answers.left_out, "tokens_computed": answers.tokens_computed}
    for name in cell.probe.instruments:
        measure = import_module(name).measure
        tables.append(measure(loaded.model, loaded.tokenizer, loaded.entry.family, cell.probe, trees))
    lap("probe")
    made = {
        "at": provenance.now(),
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
    }
    return store.write(cell, together(tables), {**report.to_dict(), **about}, made)


def together(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several instruments as one table. `correct` is missing where nothing is right or wrong, in a text."""
    columns = list(dict.fromkeys(column for table in tables for column in table))
    rows = pd.concat([t.dropna(axis="columns", how="all") for t in tables], ignore_index=True).reindex(columns=columns)
    if "correct" not in rows or rows["correct"].isna().any():
        rows["correct"] = rows.get("correct", pd.Series(pd.NA, index=rows.index, dtype="boolean")).astype("boolean")
    return rows
