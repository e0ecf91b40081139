"""Where things live on disk: the cache, the project's own folders, and the results.

| place | first of |
|---|---|
| cache (converted models, frozen fact lists) | `$KC_CACHE`, `$XDG_CACHE_HOME/kc`, `~/.cache/kc` |
| project (notebooks, studies, book) | the nearest folder upwards that holds `studies/` and `_config.yml`, else this package's |
| results (evaluations, executed notebooks) | `$KC_RESULTS`, `results/` of the project, `results/` of the cache |
| results of record (committed rows) | `$KC_REFERENCE`, `results/reference/` of the project |
| benchmark data (LAMA, BEAR, ...) | `$KC_DATA` |
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kc_utils.errors import BadRequest, MissingData

PACKAGE = Path(__file__).resolve().parent


def cache_dir() -> Path:
    given = os.environ.get("KC_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "kc")
    return Path(given).expanduser()


def find_project_dir() -> Path | None:
    folders = (Path.cwd(), *Path.cwd().parents, PACKAGE.parent)
    return next((f for f in folders if (f / "studies").is_dir() and (f / "_config.yml").is_file()), None)


def project_dir() -> Path:
    """The checkout that the current folder or this package is in. Raises BadRequest where there is none."""
    folder = find_project_dir()
    if folder is None:
        raise BadRequest(f"{Path.cwd()} is not inside a checkout of the study: change to the folder that holds studies/")
    return folder


def results_dir() -> Path:
    if os.environ.get("KC_RESULTS"):
        return Path(os.environ["KC_RESULTS"]).expanduser().resolve()
    return (find_project_dir() or cache_dir()) / "results"


def finished_dir() -> Path:
    """The folder of the rows of whole studies that were finished here, in the format of the results of record."""
    return results_dir() / "finished"


def reference_dir() -> Path | None:
    """The folder of the results of record; None outside of a checkout."""
    if os.environ.get("KC_REFERENCE"):
        return Path(os.environ["KC_REFERENCE"]).expanduser().resolve()
    folder = find_project_dir()
    return folder / "results" / "reference" if folder else None


def cores() -> int:
    """Processor cores that this process may use; all of them where the system does not say which, as on macOS."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def complete_or_absent(target: Path) -> Iterator[Path]:
    """A new folder or file that appears at `target` only when the block ends without an error.

    Yields a scratch path beside the target; write a file or make a folder there. What was at `target` before stays
    until the new one is whole. A full or read-only disk raises MissingData and leaves `target` as it was.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch_home = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", dir=target.parent))
    except OSError as error:
        raise MissingData(disk_message(target, error)) from error
    scratch, old = scratch_home / target.name, scratch_home / "old"
    try:
        yield scratch
        if target.is_dir() and scratch.is_dir():  # a folder cannot replace one that holds files
            target.rename(old)
        os.replace(scratch, target)
    except OSError as error:
        if old.exists():
            old.rename(target)
        raise MissingData(disk_message(target, error)) from error
    finally:
        shutil.rmtree(scratch_home, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with complete_or_absent(target) as scratch:
        scratch.write_text(text, encoding="utf-8")


def disk_message(target: Path, error: OSError) -> str:
    """What to do about a disk that cannot be written, in one line."""
    reason = error.strerror or str(error)
    return f"cannot write {target}: {reason}; free some space or choose another folder with KC_CACHE or KC_RESULTS"
