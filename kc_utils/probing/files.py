"""Where the files of benchmarks lie: `$KC_DATA`, else the cache, else their official home, fetched once.

Both folders have the same layout, and a file is named by its path in it, e.g. `LAMA/TREx/P19.jsonl`. Files are
fetched into the cache only; beside them, `SOURCE.json` states from where, with which hash, and whether that hash was
known before ("verified") or only written down ("unverified"). The project's own data ship with it (`project_data`).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

import kc_utils
from kc_utils.errors import BadRequest, MissingData, listed
from kc_utils.places import cache_dir, disk_message
from kc_utils.probing.download import ELSEWHERE, HOMES, install


def project_data(name: str) -> Path:
    """A file of the project's own `data/`: of the checkout, or where pip put it. Raises MissingData where it is in neither."""
    path = Path(kc_utils.__file__).parents[1] / "data" / name
    if path.is_file():
        return path
    try:
        installed = importlib.metadata.files("kc-utils") or ()
    except importlib.metadata.PackageNotFoundError:
        installed = ()
    for file in installed:
        if file.as_posix().endswith(f"kc-utils/data/{name}"):
            return Path(file.locate()).resolve()
    raise MissingData(f"no {path}, and kc-utils was not installed with it: install it anew, or use a checkout")


def data_dirs() -> list[Path]:
    """The folders that benchmark files are looked for in, first to last. Raises MissingData for a `$KC_DATA` that is no
    folder: a typing error should not pass as an absent file."""
    named = os.environ.get("KC_DATA")
    if not named:
        return [cache_dir() / "data"]
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise MissingData(f"KC_DATA={named} is not a folder: set it to the one that holds the benchmark files")
    return [folder, cache_dir() / "data"]


def find_data(needed: Sequence[str]) -> Path | None:
    """The first data folder that holds all of these files, or None. Raises BadRequest for a name that leads out."""
    for relative in needed:
        if Path(relative).is_absolute() or ".." in Path(relative).parts:
            raise BadRequest(f"{relative!r} is no name of a data file: it must stay inside the data folder")
    return next((d for d in data_dirs() if all((d / relative).is_file() for relative in needed)), None)


def data_file(relative: str) -> Path:
    """The path of one data file such as `harness/boolq/val.jsonl`, see `data_files`."""
    return data_files([relative])[0]


def data_files(needed: Sequence[str]) -> list[Path]:
    """The paths of files that belong together, all from one folder: one edition of a benchmark, never a mixture.

    Fetched where their home is known and they are nowhere else. Raises MissingData that states what to put where.
    """
    folder = find_data(needed)
    if folder is None:
        top = needed[0].split("/")[0]
        if top not in HOMES:
            raise MissingData(what_to_do(needed))
        _fetch_home(top, needed)
        folder = find_data(needed)
    if folder is None:
        raise MissingData(what_to_do(needed, f"what {HOMES[top].address} gave does not hold them"))
    return [folder / relative for relative in needed]


def what_to_do(needed: Sequence[str], reason: str = "") -> str:
    """One line that names the missing files, the reason, and what to put where."""
    folders = [str(d) for d in data_dirs()]
    absent = [r for r in needed if not any((Path(d) / r).is_file() for d in folders)] or list(needed)
    top = needed[0].split("/")[0]
    home = HOMES[top].by_hand if top in HOMES else ELSEWHERE.get("/".join(needed[0].split("/")[:2]), "")
    set_or_not = "KC_DATA is not set" if len(folders) == 1 else "KC_DATA comes first"
    return (
        f"no {listed(absent, 3)} under {' or '.join(folders)} ({set_or_not})"
        + (f"; {reason}" if reason else "")
        + f": put it there, or set KC_DATA to a folder that holds {top}/"
        + (f". {home}" if home else "")
    )


def _fetch_home(top: str, needed: Sequence[str]) -> None:
    """Fetch a benchmark into the cache, whole or not at all."""
    home, folder = HOMES[top], cache_dir() / "data" / top
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        raise MissingData(what_to_do(needed, "nothing is fetched while HF_HUB_OFFLINE is set"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{top}.lock"):
            if find_data(needed) is None:
                print(f"fetching {top} (once) from {home.address} to {folder}; licence: {home.licence}", file=sys.stderr)
                install(home, folder)
    except OSError as error:
        raise MissingData(disk_message(folder, error)) from error
    except MissingData as error:
        raise MissingData(what_to_do(needed, str(error))) from error


def read_jsonl(path: Path) -> list[dict]:
    """The records of a file with one JSON object a line. Raises MissingData with the line that is none."""
    records = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise MissingData(f"{path} cannot be read ({error}): fetch it again") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                record = json.loads(line)
            except ValueError as error:
                raise MissingData(f"{path}, line {number}: no JSON ({error}); the file is cut or damaged") from error
            if not isinstance(record, dict):
                raise MissingData(f"{path}, line {number}: no JSON object; this is not the file that was looked for")
            records.append(record)
    if not records:
        raise MissingData(f"{path} is empty: fetch it again")
    return records
