"""The store of finished evaluations: one folder each, complete or absent, checked when read.

What this machine has not computed is looked for among the results of record (`record`), by the same key.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from filelock import FileLock

from kc_utils.errors import MissingData
from kc_utils.places import complete_or_absent, disk_message, results_dir, sha256_of
from kc_utils.study import record
from kc_utils.study.record import CellResult

if TYPE_CHECKING:
    from kc_utils.study.cells import Cell


def folder_of(key: str) -> Path:
    return results_dir() / "cells" / key[:2] / key


def is_empty() -> bool:
    """Whether nothing at all is stored or recorded, so that no key need be computed to look for it."""
    return not any((results_dir() / "cells").glob("*/*/cell.json")) and not record.studies()


def has(key: str) -> bool:
    """Whether a whole, undamaged evaluation of this key is stored or recorded."""
    return about(key) is not None or record.has(key)


def about(key: str) -> dict | None:
    """Return what is stored on this machine beside the rows, or None where they are absent or damaged."""
    folder = folder_of(key)
    try:
        found = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
        return found if found["rows_sha256"] == sha256_of(folder / "rows.parquet") else None
    except (OSError, ValueError, KeyError, TypeError):  # TypeError: JSON, but not a record
        return None


def read(key: str) -> CellResult | None:
    """Return the evaluation of this key, stored or recorded, or None where there is none or it is damaged."""
    return read_local(key) or record.find(key)


def read_local(key: str) -> CellResult | None:
    """Return the evaluation that is stored on this machine, or None."""
    found = about(key)
    return found and CellResult(key, pd.read_parquet(folder_of(key) / "rows.parquet"), found["report"], found)


def write(cell: Cell, rows: pd.DataFrame, report: dict, made: dict) -> CellResult:
    """Store an evaluation. made: when, with what and how long."""
    key = cell.key
    buffer = io.BytesIO()
    rows.to_parquet(buffer, index=False, compression="zstd")
    with complete_or_absent(folder_of(key)) as folder:
        folder.mkdir()
        (folder / "rows.parquet").write_bytes(buffer.getvalue())
        found = {"key": key, "model": cell.model, "depends_on": cell.depends_on, "report": report, "made": made}
        found["rows_sha256"] = sha256_of(folder / "rows.parquet")
        (folder / "cell.json").write_text(json.dumps(found, indent=1, allow_nan=False), encoding="utf-8")
    return read(key)


@contextmanager
def lock(key: str) -> Iterator[None]:
    """Hold while an evaluation is computed, so that two runs compute it once. Freed if the holder is killed."""
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
