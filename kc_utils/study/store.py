"""The store of finished cells: one folder each, complete or absent, checked when read.

A cell that this machine has not computed is looked for among the results of record (`record`), by the same key.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from filelock import FileLock

from kc_utils.errors import MissingData
from kc_utils.places import complete_or_absent, disk_message, results_dir, sha256_of
from kc_utils.study import record
from kc_utils.study.cells import Cell
from kc_utils.study.result import CellResult


def folder_of(key: str) -> Path:
    return results_dir() / "cells" / key[:2] / key


def is_empty() -> bool:
    """Whether nothing at all is stored or recorded, so that no key need be computed to look for it."""
    return not any((results_dir() / "cells").glob("*/*/cell.json")) and not record.studies()


def has(key: str) -> bool:
    """Whether a whole, undamaged cell of this key is stored or recorded."""
    return has_local(key) or record.has(key)


def has_local(key: str) -> bool:
    """Whether a whole, undamaged cell of this key is stored on this machine."""
    folder = folder_of(key)
    try:
        about = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
        return about["rows_sha256"] == sha256_of(folder / "rows.parquet")
    except (OSError, ValueError, KeyError, TypeError):  # TypeError: JSON, but not a record
        return False


def read(key: str) -> CellResult | None:
    """The cell of this key, stored or recorded, or None where there is none or it is damaged."""
    return read_local(key) or record.find(key)


def read_local(key: str) -> CellResult | None:
    """The cell that is stored on this machine, or None where there is none or it is damaged."""
    if not has_local(key):
        return None
    folder = folder_of(key)
    about = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    return CellResult(key, pd.read_parquet(folder / "rows.parquet"), about["report"], about)


def made(key: str) -> dict | None:
    """When, with what and how long a cell was made that this machine has stored, without its rows."""
    if not has_local(key):
        return None
    return json.loads((folder_of(key) / "cell.json").read_text(encoding="utf-8"))["made"]


def write(cell: Cell, rows: pd.DataFrame, report: dict, made: dict) -> CellResult:
    """Store a cell. `made` says when, with what and how long."""
    key = cell.key
    buffer = io.BytesIO()
    rows.to_parquet(buffer, index=False, compression="zstd")
    with complete_or_absent(folder_of(key)) as folder:
        folder.mkdir()
        (folder / "rows.parquet").write_bytes(buffer.getvalue())
        about = {
            "key": key,
            "model": cell.model,
            "depends_on": cell.depends_on,
            "report": report,
            "made": made,
            "rows_sha256": sha256_of(folder / "rows.parquet"),
        }
        (folder / "cell.json").write_text(json.dumps(about, indent=1, allow_nan=False), encoding="utf-8")
    return read(key)


@contextmanager
def lock(key: str) -> Iterator[None]:
    """Held while a cell is computed, so that two runs which share it compute it once. Freed if its holder is killed."""
    file = results_dir() / "locks" / f"{key}.lock"
    held = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except OSError as error:
        raise MissingData(disk_message(file, error)) from error
    try:
        yield
    finally:
        held.release()
