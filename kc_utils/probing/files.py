"""Where the files of benchmarks lie: `$KC_DATA`, else the cache, else their official home, fetched once.

Both folders have the same layout, and a file is named by its place in it, e.g. `LAMA/TREx/P19.jsonl`. Files are
fetched into the cache only; beside them, `SOURCE.json` says from where, with which hash, and whether that hash was
known before ("verified") or only written down ("unverified").
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from filelock import FileLock

from kc_utils.errors import BadRequest, MissingData, listed
from kc_utils.probing.archive import unpack
from kc_utils.probing.download import fetch, sha256_of
from kc_utils.probing.homes import ELSEWHERE, HOMES, Home
from kc_utils.places import cache_dir, complete_or_absent, disk_message

SOURCE_FILE = "SOURCE.json"


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


def find_data(needed: Sequence[str]) -> Path | None:
    """The first data folder that holds all of these files, or None. Raises BadRequest for a name that leads out."""
    for relative in needed:
        if Path(relative).is_absolute() or ".." in Path(relative).parts:
            raise BadRequest(f"{relative!r} is no name of a data file: it must stay inside the data folder")
    return next((d for d in data_dirs() if all((d / relative).is_file() for relative in needed)), None)


def data_file(relative: str) -> Path:
    """The path of a data file such as `harness/boolq/val.jsonl`, fetched if its home is known.

    Raises MissingData that says what to put where.
    """
    return data_files([relative])[0]


def data_files(needed: Sequence[str]) -> list[Path]:
    """The paths of files that belong together, all from one folder: one edition of a benchmark, never a mixture.

    Fetched where their home is known and they are nowhere else. Raises MissingData that says what to put where.
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
    """One line that says which files are missing, why, and what to put where."""
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
                print(
                    f"fetching {top} (once) from {home.address} to {folder}; licence: {home.licence}", file=sys.stderr
                )
                _install(home, folder)
    except OSError as error:
        raise MissingData(disk_message(folder, error)) from error
    except MissingData as error:
        raise MissingData(what_to_do(needed, str(error))) from error


def _install(home: Home, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".fetched-", dir=folder.parent) as scratch:
        name = home.address.rsplit("/", 1)[-1]
        fetched = fetch(home.address, Path(scratch) / name, sha256=home.sha256, max_bytes=home.max_bytes)
        with complete_or_absent(folder) as target:
            target.mkdir()
            if home.members:
                names = unpack(fetched, target, home.name_of, max_bytes=home.max_unpacked)
            else:
                names = [name]
                fetched.replace(target / name)
                fetched = target / name
            found = fileset_sha256(target, names)
            if home.fileset_sha256 not in (None, found):
                raise MissingData(f"{home.address} holds other files (hash {found[:16]}...) than the published ones")
            mark = {
                "url": home.address,
                "bytes": fetched.stat().st_size,
                "sha256": sha256_of(fetched),
                "files_sha256": found,
                "hash": "verified" if home.sha256 or home.fileset_sha256 else "unverified",
            }
            (target / SOURCE_FILE).write_text(json.dumps(mark, indent=1), encoding="utf-8")


def fileset_sha256(folder: Path, names: Iterable[str]) -> str:
    """Hash of some files of a folder: their names and contents, in the order of their names."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in sorted(names)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


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
