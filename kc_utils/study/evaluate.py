"""Compute evaluations: stored ones are not repeated, and a compressed model is made once for all its probes."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from kc_utils.errors import KCError
from kc_utils.study import provenance, store
from kc_utils.study.cells import Cell, grouped

if TYPE_CHECKING:
    from kc_utils.study import measure

SMALL = 20_000_000
"""Weights of a model that may wait for Python to collect it: looking for what is free takes longer than evaluating it."""


def evaluate(cells: Iterable[Cell], show_progress: bool = True) -> dict[Cell, store.CellResult]:
    """Return the result of every cell, computed where the store has none. Progress goes to standard error.

    A KCError of one cell ends the evaluation; the cells finished before it stay stored.
    """
    results = {cell: store.read(cell.key) for cell in dict.fromkeys(cells)}
    waiting = [cell for cell, found in results.items() if found is None]
    made, hidden = CompressedModels(), not (show_progress and waiting)
    count = {"total": len(results), "initial": len(results) - len(waiting)}
    with tqdm(**count, unit="evaluation", disable=hidden, file=sys.stderr) as bar:
        for group in grouped(waiting):
            bar.set_description(f"{group[0].model} {group[0].recipe}"[:48])
            for cell in group:
                results[cell] = compute_once(cell, made)
                bar.update()
    return results


class CompressedModels:
    """Makes the compressed model of a group of cells when the first of them is computed, and keeps it for the others."""

    def __init__(self):
        self._made: measure.Compressed | None = None
        self._failed: tuple[str, str, KCError] | None = None

    def of(self, cell: Cell) -> tuple[measure.Compressed, dict[str, float]]:
        """Return the model, and the seconds that this cell had to wait for it: none where a cell before it did.

        What could not be made for a cell is not tried again for the next of its group: its error is raised once more.
        """
        from kc_utils.study import measure  # loads torch

        wanted = (cell.model, cell.recipe)
        if self._failed is not None and self._failed[:2] == wanted:
            raise self._failed[2]
        made = self._made
        if made is not None and (made.model, made.recipe) == wanted:
            return made, dict.fromkeys(made.seconds, 0.0)
        large = made is not None and made.report.weights_model > SMALL
        self._made = made = None
        if large:
            gc.collect()  # two of them at a time may not fit
        try:
            self._made = measure.make(*wanted)
        except KCError as error:
            self._failed = (*wanted, error)
            raise
        return self._made, self._made.seconds


def compute_once(cell: Cell, models: CompressedModels) -> store.CellResult:
    """Compute and store one cell, unless another process did while this one waited for it."""
    with store.lock(cell.key):
        return store.read(cell.key) or compute(cell, models)


def compute(cell: Cell, models: CompressedModels | None = None) -> store.CellResult:
    """Compute one cell and store it."""
    import torch

    from kc_utils.study import measure

    made, seconds = (models or CompressedModels()).of(cell)
    begin = time.perf_counter()
    rows, about = measure.answers(made, cell.probe)
    seconds = seconds | {"probe": round(time.perf_counter() - begin, 3)}
    where = {"at": provenance.now(), "seconds": seconds, "threads": torch.get_num_threads(), "device": made.device}
    where |= {"versions": provenance.versions(), "hardware": provenance.hardware()}
    return store.write(cell, rows, {**made.report.to_dict(), **about}, where)
