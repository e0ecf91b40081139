"""Results of record: rows of finished cells that are published with the code, under `results/reference/`.

    results/reference/STUDY/record.json             every file of the record with its hash, size and number of cells
    results/reference/STUDY/MODEL/PROBE.parquet     rows of all recipes of one model, asked one probe, and what made them

A cell of the record is found in two ways.

- By key (`find`): it was made with this very code, these versions, weights and facts, and stands for a computation here.
  `store.read` does that after looking into the local store.
- By study, model, recipe and probe (`Record.results`): whatever made it. That is how the book reads it, so that the
  published pages stay what they are when code or a library moves on, need neither weights nor benchmark data, and say with
  which code and versions their rows were made (`Record.making`). Whether the numbers still come out is measured, not
  taken for granted: `kc verify`.

A file that is absent, cut or altered gives no rows; `Record.problems` says so in one line each, and what depends on it has
no data. Only what `record.json` lists is read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from kc_utils.errors import MissingData
from kc_utils.probing.probe import Probe
from kc_utils.places import reference_dir
from kc_utils.study import packing
from kc_utils.study.cells import Cell
from kc_utils.study.result import CellResult

FORMAT = 1
INDEX = "record.json"


@dataclass(frozen=True)
class RecordedFile:
    """One file of the record. cells: recipe -> the cell's own provenance; shared: what its cells have in common."""

    study: str
    path: Path
    model: str
    probe: Probe
    shared: dict
    cells: dict[str, dict]
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.study}/{self.path.parent.name}/{self.path.name}"

    @property
    def probe_name(self) -> str:
        return self.path.stem

    def cell(self, recipe: str) -> Cell:
        return Cell(self.model, recipe, self.probe)

    def rows(self) -> dict[str, pd.DataFrame]:
        """The rows of every recipe, without the column of recipes. Raises MissingData where the file has changed since."""
        return _rows(self.path, self.sha256, self.name, _stamp(self.path))

    def depends_on(self, recipe: str) -> dict:
        """What the cell depended on when it was made, as `Cell.depends_on`."""
        own = self.cells[recipe]
        return {
            "model": self.shared["model"],
            "recipe": recipe,
            "probe": self.shared["probe"],
            "facts": self.shared["facts"],
            "asked": self.shared["asked"],
            "code": own["code"],
            "versions": self.shared["scoring_versions"][own["scoring_versions"]],
        }

    def made(self, recipe: str) -> dict:
        """When, with what and how long, as `evaluate.compute` stores it."""
        own = self.cells[recipe]
        return {
            "at": own["at"],
            "seconds": own["seconds"],
            "threads": own["threads"],
            "device": own["device"],
            "versions": self.shared["versions"][own["versions"]],
            "hardware": self.shared["hardware"][own["hardware"]],
        }

    def result(self, recipe: str) -> CellResult:
        """A cell as `store.read` would give it; its record names study and file."""
        own = self.cells[recipe]
        record = {
            "key": own["key"],
            "model": self.model,
            "depends_on": self.depends_on(recipe),
            "report": own["report"],
            "made": self.made(recipe),
            "recorded": {"study": self.study, "file": self.name},
        }
        return CellResult(own["key"], self.rows()[recipe], own["report"], record)


@dataclass(frozen=True)
class Record:
    """The results of record of one study: files that are whole, and one line for each that is not."""

    study: str
    files: tuple[RecordedFile, ...] = ()
    problems: tuple[str, ...] = ()

    def results(self) -> dict[Cell, CellResult]:
        """Every recorded cell with its rows, whatever code made it."""
        return {file.cell(recipe): file.result(recipe) for file in self.files for recipe in file.cells}

    @property
    def cells(self) -> dict[Cell, RecordedFile]:
        return {file.cell(recipe): file for file in self.files for recipe in file.cells}

    def making(self) -> dict[str, list]:
        """What made these results: days, versions of the packages that scores depend on, processors (and accelerators where
        models were asked on one), seconds of all."""
        made = [file.made(recipe) for file in self.files for recipe in file.cells]
        versions = [file.depends_on(recipe)["versions"] for file in self.files for recipe in file.cells]
        packages = dict.fromkeys(p for v in versions for p in v)
        return {
            "days": sorted({m["at"][:10] for m in made}),
            "versions": [f"{p} {', '.join(sorted({v[p] for v in versions if p in v}))}" for p in packages],
            "processors": sorted({_computed_on(m) for m in made}),
            "seconds": [sum(sum(m["seconds"].values()) for m in made)],
        }

    def otherwise(self) -> dict[str, int]:
        """How many cells were made with other code, or other versions, than are here. The rest would be found by key, as
        far as weights and facts are the same."""
        from kc_utils.study.cells import making

        other = {"code": 0, "versions": 0}
        for file in self.files:
            for recipe in file.cells:
                then, now = file.depends_on(recipe), making(file.model, recipe, file.probe.instruments)
                other["code"] += then["code"] != now["code"]
                other["versions"] += then["versions"] != now["versions"]
        return other


def _computed_on(made: dict) -> str:
    hardware = made["hardware"]
    return hardware["processor"] if made["device"] == "cpu" else hardware["accelerator"]


def studies() -> list[str]:
    """The studies that have results of record."""
    folder = reference_dir()
    return sorted(f.parent.name for f in folder.glob(f"*/{INDEX}")) if folder else []


def load(study: str) -> Record:
    """The results of record of a study, files checked by hash. Nothing recorded gives an empty Record, a damaged list of
    files one with a problem and no files."""
    folder = reference_dir()
    file = folder / study / INDEX if folder else None
    if file is None or not file.exists():
        return Record(study)
    try:
        listing = read_listing(file)
    except MissingData as error:
        return Record(study, problems=(str(error),))
    files, problems = [], []
    for entry in listing:
        try:
            files.append(_open(file.parent / entry["file"], entry["sha256"]))
        except MissingData as error:
            problems.append(str(error))
    return Record(study, tuple(files), tuple(problems))


def find(key: str) -> CellResult | None:
    """The recorded cell of this key, of whatever study, or None."""
    place = _places().get(key)
    if place is None:
        return None
    path, sha256, recipe = place
    try:
        return _open(path, sha256).result(recipe)
    except MissingData:
        return None


def has(key: str) -> bool:
    """Whether a whole recorded cell has this key."""
    place = _places().get(key)
    if place is None:
        return False
    try:
        _open(*place[:2])
    except MissingData:
        return False
    return True


def read_listing(file: Path) -> list[dict]:
    """The files that `record.json` lists: file, sha256, bytes, rows, cells (recipe -> key). Raises MissingData for a damaged
    one."""
    return _listing(file, _stamp(file))


@lru_cache(maxsize=32)
def _listing(file: Path, stamp: tuple) -> list[dict]:
    here = f"{file.parent.name}/{INDEX}"
    try:
        listing = json.loads(file.read_text(encoding="utf-8"))
        if listing["format"] != FORMAT:
            raise MissingData(f"{here} is of format {listing['format']}, this code reads format {FORMAT}")
        for entry in listing["files"]:
            path = Path(entry["file"])
            if path.is_absolute() or ".." in path.parts or not isinstance(entry["sha256"], str):
                raise ValueError(f"an impossible file {entry['file']!r}")
            dict(entry["cells"])
        return listing["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingData(
            f"the list of recorded files {here} is damaged ({' '.join(repr(error).split())[:100]}): restore it with git"
        ) from error


def _places() -> dict[str, tuple[Path, str, str]]:
    """Key -> file, its hash, recipe; of every study whose list can be read."""
    folder = reference_dir()
    found = tuple((f, _stamp(f)) for f in sorted(folder.glob(f"*/{INDEX}"))) if folder else ()
    return _places_of(found)


@lru_cache(maxsize=8)
def _places_of(listings: tuple) -> dict[str, tuple[Path, str, str]]:
    places = {}
    for file, stamp in listings:
        try:
            listed = _listing(file, stamp)
        except MissingData:
            continue
        for entry in listed:
            for recipe, key in entry["cells"].items():
                places[key] = (file.parent / entry["file"], entry["sha256"], recipe)
    return places


def _open(path: Path, sha256: str) -> RecordedFile:
    """A file of the record, without its rows. Raises MissingData for one that is absent or not the listed one."""
    return _opened(path, sha256, _stamp(path))


@lru_cache(maxsize=2048)
def _opened(path: Path, sha256: str, stamp: tuple) -> RecordedFile:
    study, name = path.parent.parent.name, "/".join(path.parts[-3:])
    about = packing.about(_content(path, sha256), name)
    try:
        probe = Probe(**about["shared"]["probe"])
        return RecordedFile(study, path, about["model"], probe, about["shared"], about["cells"], sha256)
    except (KeyError, TypeError, ValidationError) as error:
        reason = " ".join(str(error).split())[:100]
        raise MissingData(f"recorded rows {name} were written by another version of this code ({reason})") from error


@lru_cache(maxsize=16)
def _rows(path: Path, sha256: str, name: str, stamp: tuple) -> dict[str, pd.DataFrame]:
    frame = packing.unpacked(_content(path, sha256), name)
    parts = frame.groupby("recipe", sort=False, observed=True)
    return {recipe: part.drop(columns="recipe").reset_index(drop=True) for recipe, part in parts}


def _content(path: Path, sha256: str) -> bytes:
    name = "/".join(path.parts[-3:])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingData(
            f"recorded rows {name} are absent ({error.strerror or error}): restore them with git"
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise MissingData(f"recorded rows {name} are damaged (another hash than listed): restore them with git")
    return content


def _stamp(path: Path) -> tuple:
    """Changes when the file does; () where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ino
