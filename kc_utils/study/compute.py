"""The cells of a study without its notebooks: every compressed model is made once and asked all that the study asks of it.

Several processes share the work, one group of cells (a model and a recipe) at a time. A cell that fails is told at the end;
the others go on. Stopped in any way, the same command goes on from the finished cells.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass

from tqdm.auto import tqdm

from kc_utils import places
from kc_utils.errors import BadResult, KCError
from kc_utils.study import store
from kc_utils.study.cells import Cell, chosen
from kc_utils.study.engine import prepare_models
from kc_utils.study.evaluate import Versions, compute_once, grouped
from kc_utils.study.processes import processes
from kc_utils.study.studyfile import Study


@dataclass(frozen=True)
class Computed:
    """cells: of the study, or of those of its cells that were chosen; before: finished when it began; failed: one line for
    each cell that could not be computed."""

    cells: int
    before: int
    failed: tuple[str, ...]


def compute_study(
    study: Study,
    cores: int | None = None,
    show_progress: bool = True,
    models: Sequence[str] = (),
    recipes: Sequence[str] = (),
) -> Computed:
    """Compute what no store holds of a study.

    models, recipes: ids or patterns such as `lab:*` and `*gptq*`; all of the study's where empty.

    Raises BadRequest for a pattern that fits nothing in the study, BadResult where no cell at all could be computed.
    """
    cells = chosen(study.cells, f"study {study.name}", models, recipes)
    waiting = [cell for cell in cells if not store.has(cell.key)]
    before, failed = len(cells) - len(waiting), []
    if not waiting:
        return Computed(len(cells), before, ())
    prepare_models(study)
    cores = min(cores or places.cores(), len(grouped(waiting)))
    with tqdm(
        total=len(cells), initial=before, unit="cell", disable=not show_progress, file=sys.stderr, desc=study.name
    ) as bar:
        for done, lines in _done(grouped(waiting), cores):
            failed += lines
            bar.update(done)
    if len(failed) == len(waiting):
        raise BadResult(f"none of {len(waiting)} cells could be computed; first, {failed[0]}")
    return Computed(len(cells), before, tuple(failed))


def _done(groups: list[list[Cell]], cores: int) -> Iterable[tuple[int, list[str]]]:
    """How many cells of each group were computed, as they finish, and what stopped the others."""
    with (
        _environment(TQDM_DISABLE="1"),  # one bar counts cells: those of single cells would write over it
        processes(cores, threads=1) as pool,
    ):
        running: set[Future] = {pool.submit(compute_group, group) for group in groups}
        try:
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """What processes that are started inside find in their environment."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def compute_group(group: list[Cell]) -> tuple[int, list[str]]:
    """Compute cells of one model and recipe. Returns how many, and one line for each that failed."""
    versions, failed = Versions(), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scores that are not numbers, which rows say as well
        for cell in group:
            try:
                compute_once(cell, versions)
            except KCError as error:
                failed.append(f"{cell.model}, {cell.recipe}: {error}")
    return len(group) - len(failed), failed
