"""The store of finished evaluations: one folder each, complete or absent, checked when read, computed where there is none.

Several machines may share it without locks: a folder is prepared beside its target and renamed, which network file systems do in
one step, too. Of two that finish the same evaluation, the first one's stays.
What this machine has not computed is looked for among the results of record (`record`), by the same key. A compressed model is
made once for all its probes.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from kc_utils.errors import BadResult, KCError, MissingData
from kc_utils.places import disk_message, results_dir, write_text
from kc_utils.study import provenance, record
from kc_utils.study.cells import Cell, grouped
from kc_utils.study.record import CellResult

if TYPE_CHECKING:
    from kc_utils.study import measure  # loads torch

ROWS, MARKER = "rows.parquet", "cell.json"  # in the order in which they are written
LEFT_S = 30 * 24 * 3600.0
SMALL = 20_000_000
"""Weights of a model that may wait for Python to collect it: looking for what is free takes longer than evaluating it."""


def folder_of(key: str) -> Path:
    return results_dir() / "cells" / key[:2] / key


def has(key: str) -> bool:
    """Whether a whole, undamaged evaluation of this key is stored or recorded."""
    return about(key) is not None or record.where(key) is not None


def remove_leftovers() -> None:
    """Remove what killed engines and jobs left half-written: folders that nothing has touched for a month."""
    for folder in (*results_dir().glob("cells/*/.*"), *results_dir().glob("batches/*/*")):
        with suppress(OSError):  # another engine may have removed it
            if time.time() - folder.stat().st_mtime > LEFT_S:
                shutil.rmtree(folder)


def is_marked(key: str) -> bool:
    """Whether an evaluation is stored or recorded as failed, by its completion record alone: to be asked often."""
    return (folder_of(key) / MARKER).is_file() or _failed(key).is_file()


def about(key: str) -> dict | None:
    """Return what is stored on this machine beside the rows, or None where they are absent or damaged."""
    return checked(*contents(key))


def contents(key: str) -> tuple[bytes, bytes]:
    """Return the record and the Parquet rows that are stored on this machine, unchecked; empty where they are not there."""
    folder = folder_of(key)
    try:
        return (folder / MARKER).read_bytes(), (folder / ROWS).read_bytes()
    except OSError:
        return b"", b""


def checked(marker: bytes, rows: bytes) -> dict | None:
    """Return the record, or None where it is none or the rows do not belong to it."""
    try:
        found = json.loads(marker)
        return found if found["rows_sha256"] == hashlib.sha256(rows).hexdigest() else None
    except (ValueError, KeyError, TypeError):  # TypeError: JSON, but not a record
        return None


def failure(key: str) -> dict | None:
    """Return model, recipe and `why` of an evaluation that is recorded as failed and not stored since, or None."""
    with suppress(OSError, ValueError):
        found = json.loads(_failed(key).read_text(encoding="utf-8"))
        return None if has(key) else found
    return None


def write_failure(cell: Cell, why: str) -> None:
    """Record that an evaluation failed for a reason of its model or recipe: engines do not try it again by themselves."""
    named = {"model": cell.model, "recipe": cell.recipe, "why": " ".join(why.split()), "at": provenance.now()}
    write_text(_failed(cell.key), json.dumps(named | {"depends_on": cell.depends_on}, indent=1))


def forget_failure(key: str) -> None:
    _failed(key).unlink(missing_ok=True)


def _failed(key: str) -> Path:
    return results_dir() / "failed" / key[:2] / f"{key}.json"


def read(key: str) -> CellResult | None:
    """Return the evaluation of this key, stored or recorded, or None where there is none or it is damaged."""
    return read_local(key) or record.find(key)


def read_local(key: str) -> CellResult | None:
    """Return the evaluation that is stored on this machine, or None."""
    marker, content = contents(key)
    found = checked(marker, content)
    rows = found and pq.ParquetFile(BytesIO(content)).read().to_pandas()  # twice as fast as pandas
    return found and CellResult(key, rows, found["report"], found)


def write(cell: Cell, rows: pd.DataFrame, report: dict, made: dict) -> CellResult:
    """Store an evaluation, and return the one that is stored. made: when, with what and how long."""
    content = rows.to_parquet(index=False, compression="zstd")
    found = {"key": cell.key, "model": cell.model, "depends_on": cell.depends_on, "report": report, "made": made}
    found["rows_sha256"] = hashlib.sha256(content).hexdigest()
    keep(found["key"], json.dumps(found, indent=1, allow_nan=False).encode(), content)
    return read(found["key"])


def keep(key: str, marker: bytes, rows: bytes) -> None:
    """Store the files of a whole evaluation where none is. Raises MissingData where the disk is full or read-only."""
    target = folder_of(key)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{key}.", dir=target.parent, ignore_cleanup_errors=True) as home:
            folder = Path(home, key)
            folder.mkdir()  # with the rights of all folders of this user; its home has others
            (folder / ROWS).write_bytes(rows)
            (folder / MARKER).write_bytes(marker)
            while not _moved(folder, target) and about(key) is None:
                with suppress(FileNotFoundError):  # another writer has put the damaged one away
                    target.rename(mkdtemp(dir=home))
    except OSError as error:
        raise MissingData(disk_message(target, error)) from error


def _moved(folder: Path, target: Path) -> bool:
    """Move a folder in one step, unless one that holds something is there."""
    try:
        folder.replace(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def evaluate(cells: Iterable[Cell]) -> dict[Cell, CellResult]:
    """Return the result of every cell, computed where the store has none. Progress goes to standard error.

    A KCError of one cell ends the evaluation; the cells finished before it stay stored. What is recorded as failed is left out
    where something else is left beside the uncompressed model; otherwise its error is raised.
    """
    results = {cell: read(cell.key) for cell in dict.fromkeys(cells)}
    failed = {cell: found["why"] for cell in results if results[cell] is None and (found := failure(cell.key))}
    results = {cell: found for cell, found in results.items() if cell not in failed}
    if failed and ("none" in {cell.recipe for cell in failed} or {cell.recipe for cell in results} <= {"none"}):
        raise BadResult(next(iter(failed.values())))
    waiting = [cell for cell, found in results.items() if found is None]
    made, count = CompressedModels(), {"total": len(results), "initial": len(results) - len(waiting)}
    with tqdm(**count, unit="evaluation", disable=not waiting, file=sys.stderr) as bar:
        for (model, recipe), group in grouped(waiting).items():
            bar.set_description(f"{model} {recipe}"[:48])
            for cell in group:
                results[cell] = compute_once(cell, made)
                bar.update()
    return results


class CompressedModels:
    """Makes the compressed model of a group of cells when the first of them is computed, and keeps it for the others."""

    def __init__(self):
        self._wanted: tuple[str, str] | None = None
        self._made: measure.Compressed | KCError | None = None

    def of(self, cell: Cell) -> tuple[measure.Compressed, dict[str, float]]:
        """Return the model, and the seconds that this cell had to wait for it: none where a cell before it did.

        What could not be made for a cell is not tried again for the next of its group: its error is raised once more.
        """
        from kc_utils.study import measure

        first = self._wanted != (cell.model, cell.recipe)
        if first:
            large = isinstance(self._made, measure.Compressed) and self._made.report.weights_model > SMALL
            self._wanted = self._made = None
            if large:
                gc.collect()  # two of them at a time may not fit
            try:
                self._made = measure.make(cell.model, cell.recipe)
            except KCError as error:
                self._made = error
            self._wanted = (cell.model, cell.recipe)
        if isinstance(self._made, KCError):
            raise self._made
        return self._made, self._made.seconds if first else dict.fromkeys(self._made.seconds, 0.0)


def compute_once(cell: Cell, models: CompressedModels) -> CellResult:
    """Compute and store one cell, unless another process did in the meantime."""
    return read(cell.key) or compute(cell, models)


def compute(cell: Cell, models: CompressedModels) -> CellResult:
    """Compute one cell and store it."""
    import torch

    from kc_utils.study import measure

    made, seconds = models.of(cell)
    begin = time.perf_counter()
    rows, about = measure.answers(made, cell.probe)
    seconds = seconds | {"probe": round(time.perf_counter() - begin, 3)}
    where = {"at": provenance.now(), "seconds": seconds, "threads": torch.get_num_threads(), "device": made.device}
    where |= {"versions": provenance.versions(), "hardware": provenance.hardware()}
    return write(cell, rows, {**made.report.to_dict(), **about}, where)
