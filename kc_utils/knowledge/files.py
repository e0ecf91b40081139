"""Where the files of benchmarks lie: `$KC_DATA`, else the cache, else word of what to put where.

Both folders have the same layout, and a file is named by its place in it, e.g. `LAMA/TREx/P19.jsonl`.
"""

from __future__ import annotations

import os
from pathlib import Path

from kc_utils.errors import BadRequest, MissingData
from kc_utils.places import cache_dir


def data_dirs() -> list[Path]:
    """The folders that benchmark files are looked for in, first to last.

    Raises MissingData for a `$KC_DATA` that is no folder: a typing error should not pass as an absent file.
    """
    named = os.environ.get("KC_DATA")
    if not named:
        return [cache_dir() / "data"]
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise MissingData(f"KC_DATA={named} is not a folder: set it to the one that holds the benchmark files")
    return [folder, cache_dir() / "data"]


def find(relative: str) -> Path | None:
    """The file or folder of this name, or None. Raises BadRequest for a name that leads out of the data folders."""
    if Path(relative).is_absolute() or ".." in Path(relative).parts:
        raise BadRequest(f"{relative!r} is no name of a data file: it must stay inside the data folder")
    return next((path for folder in data_dirs() if (path := folder / relative).exists()), None)


def data_file(relative: str) -> Path:
    """The path of a data file such as `harness/boolq/val.jsonl`. Raises MissingData that says what to put where."""
    found = find(relative)
    if found is None or not found.is_file():
        raise MissingData(
            f"{relative} is neither under KC_DATA ({os.environ.get('KC_DATA') or 'not set'}) nor in the cache "
            f"({cache_dir() / 'data'}): put it there, or set KC_DATA to a folder that holds it"
        )
    return found
