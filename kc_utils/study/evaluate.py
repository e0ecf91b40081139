"""From cells to rows: what is stored already is not repeated, and a compressed model is asked all that it is to be asked."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterable

import torch
from tqdm.auto import tqdm

from kc_utils.errors import KCError
from kc_utils.study import measure, provenance, store
from kc_utils.study.cells import Cell


def evaluate(cells: Iterable[Cell], show_progress: bool = True) -> dict[Cell, store.CellResult]:
    """The result of every cell, computed where the store has none. Progress and an estimate go to standard error.

    Cells of one model and recipe are computed one after the other, with the model compressed once. A KCError of one cell
    ends the evaluation; the cells finished before it stay stored.
    """
    cells = list(dict.fromkeys(cells))
    results: dict[Cell, store.CellResult] = {}
    with tqdm(total=len(cells), unit="cell", disable=not show_progress, file=sys.stderr) as bar:
        versions = Versions()
        for group in grouped(cells):
            bar.set_description(f"{group[0].model} {group[0].recipe}"[:48])
            for cell in group:
                results[cell] = store.read(cell.key) or compute_once(cell, versions)
                bar.update()
    return {cell: results[cell] for cell in cells}


def grouped(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Cells of one model and recipe together, in the order of their first."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.recipe), []).append(cell)
    return list(groups.values())


SMALL = 20_000_000
"""Weights of a model that may wait for Python to collect it: looking for what is free takes longer than asking it."""


class Versions:
    """Makes the compressed model of a group of cells when the first of them is computed, and keeps it for the others."""

    def __init__(self):
        self._made: measure.Version | None = None
        self._failed: tuple[str, str, KCError] | None = None

    def of(self, cell: Cell) -> tuple[measure.Version, dict[str, float]]:
        """The version, and the seconds that this cell had to wait for it: none where a cell before it did.

        What could not be made for a cell is not tried again for the next of its group: its error is raised once more.
        """
        if self._failed is not None and self._failed[:2] == (cell.model, cell.recipe):
            raise self._failed[2]
        made = self._made
        if made is not None and (made.model, made.recipe) == (cell.model, cell.recipe):
            return made, dict.fromkeys(made.seconds, 0.0)
        large = made is not None and made.report.weights_model > SMALL
        self._made = made = None
        if large:
            gc.collect()  # two of them at a time may not fit
        try:
            self._made = measure.make(cell.model, cell.recipe)
        except KCError as error:
            self._failed = (cell.model, cell.recipe, error)
            raise
        return self._made, self._made.seconds


def compute_once(cell: Cell, versions: Versions) -> store.CellResult:
    """Compute and store one cell, unless another process did while this one waited for it."""
    with store.lock(cell.key):
        return store.read(cell.key) or compute(cell, versions)


def compute(cell: Cell, versions: Versions | None = None) -> store.CellResult:
    """Compute one cell and store it."""
    version, seconds = (versions or Versions()).of(cell)
    begin = time.perf_counter()
    rows, about = measure.answers(version, cell.probe)
    made = {
        "at": provenance.now(),
        "seconds": {**seconds, "probe": round(time.perf_counter() - begin, 3)},
        "threads": torch.get_num_threads(),
        "device": version.device,
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
    }
    return store.write(cell, rows, {**version.report.to_dict(), **about}, made)
