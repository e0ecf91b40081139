"""Results of record: rows of finished evaluations that are published with the code, under `results/reference/`.

    results/reference/STUDY/record.json             every file of the record with its hash, size and number of evaluations
    results/reference/STUDY/MODEL/PROBE.parquet     rows of all recipes of one model and probe, and what made them

`find` finds an evaluation by key: made with this very code, these versions, weights and facts, it stands for a computation here.
`RecordedFile.result` and `kc.results` take whatever made it, so that published pages stay as they are when code or a library
moves on. A file that is absent, cut or altered gives no rows, and `Record.problems` says so. Only what `record.json` lists is
read.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from kc_utils.errors import MissingData
from kc_utils.places import find_project_dir, reference_dir
from kc_utils.study import packing

if TYPE_CHECKING:
    from kc_utils.probing.probe import Probe
    from kc_utils.study.cells import Cell

FORMAT = 1
INDEX = "record.json"


@dataclass
class CellResult:
    """A finished evaluation. rows: one per fact, protocol and template; report: what the recipe really touched; record: key,
    what it depends on and what made it; from the results of record also `recorded`, the study and file."""

    key: str
    rows: pd.DataFrame
    report: dict
    record: dict


@dataclass(frozen=True)
class RecordedFile:
    """One file of the record. cells: recipe -> its own provenance; shared: what its evaluations have in common."""

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

    def depends_on(self, recipe: str) -> dict:
        """Return what the rows depended on when they were made, as `Cell.depends_on`."""
        own, versions = self.cells[recipe], self.shared["scoring_versions"]
        same = {name: self.shared[name] for name in ("model", "probe", "facts", "asked")}
        return {**same, "recipe": recipe, "code": own["code"], "versions": versions[own["scoring_versions"]]}

    def made(self, recipe: str) -> dict:
        """Return when, with what and how long, as `store.compute` stores it."""
        own = self.cells[recipe]
        several = {name: self.shared[name][own[name]] for name in ("versions", "hardware")}
        return {name: own[name] for name in ("at", "seconds", "threads", "device")} | several

    def result(self, recipe: str) -> CellResult:
        """Return an evaluation as `store.read` would; its record names study and file. Raises MissingData where the file has
        changed since."""
        own = self.cells[recipe]
        about = {"key": own["key"], "model": self.model, "depends_on": self.depends_on(recipe), "report": own["report"]}
        about |= {"made": self.made(recipe), "recorded": {"study": self.study, "file": self.name}}
        rows = _rows(self.path, self.sha256, self.name, _stamp(self.path))[recipe]
        return CellResult(own["key"], rows, own["report"], about)


@dataclass(frozen=True)
class Record:
    """The results of record of one study: files that are whole, and one line for each that is not."""

    study: str
    files: tuple[RecordedFile, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def cells(self) -> dict[Cell, RecordedFile]:
        """Every recorded evaluation, whatever code made it, with its file."""
        from kc_utils.study.cells import Cell

        return {Cell(file.model, recipe, file.probe): file for file in self.files for recipe in file.cells}

    def making(self) -> dict:
        """Return what made these results: days, versions of the packages that scores depend on, and made: of each
        evaluation when, on what and how long."""
        made = {cell: file.made(cell.recipe) for cell, file in self.cells.items()}
        versions = [file.depends_on(cell.recipe)["versions"] for cell, file in self.cells.items()]
        packages = dict.fromkeys(p for v in versions for p in v)
        return {
            "days": sorted({m["at"][:10] for m in made.values()}),
            "versions": [f"{p} {', '.join(sorted({v[p] for v in versions if p in v}))}" for p in packages],
            "made": made,
        }

    def otherwise(self) -> dict[str, int]:
        """Count the evaluations that were made with other code, or other versions, than are here."""
        from kc_utils.study.cells import making

        other = {"code": 0, "versions": 0}
        for cell, file in self.cells.items():
            then, now = file.depends_on(cell.recipe), making(cell.model, cell.recipe, cell.probe.instruments)
            other = {what: n + (then[what] != now[what]) for what, n in other.items()}
        return other


def studies(folder: Path | None = None) -> list[str]:
    """Return the studies that have results in this folder, by default in that of the record, if there is one."""
    folder = folder or reference_dir()
    return sorted(f.parent.name for f in folder.glob(f"*/{INDEX}")) if folder else []


def load(study: str) -> Record:
    """Return the results of record of a study, files checked by hash. Nothing recorded gives an empty Record, a damaged list
    of files one with a problem and no files."""
    folder = reference_dir()
    if study not in studies(folder):
        return Record(study)
    files, problems = [], []
    try:
        listing = read_listing(folder / study / INDEX)
    except MissingData as error:
        return Record(study, problems=(str(error),))
    for entry in listing:
        try:
            files.append(opened(folder / study / entry["file"], entry["sha256"]))
        except MissingData as error:
            problems.append(str(error))
    return Record(study, tuple(files), tuple(problems))


def find(key: str) -> CellResult | None:
    """Return the recorded evaluation of this key, of whatever study, or None."""
    found = where(key)
    return found and found[0].result(found[1])


def where(key: str) -> tuple[RecordedFile, str] | None:
    """Return the whole file that holds the evaluation of this key, and its recipe, or None."""
    folder = reference_dir()
    listings = [folder / study / INDEX for study in studies(folder)]
    found = _places_of(tuple((file, _stamp(file)) for file in listings)).get(key)
    with suppress(MissingData):
        return found and (opened(*found[:2]), found[2])


def rules() -> str:
    """Return one SHA-256 of all that decides verdicts, so that a record can name the rules that it was made under."""
    files = Path(__file__).parents[1] / "stats/decision.yaml", (find_project_dir() or Path()) / "book/claims.yaml"
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()


def rules_of(study: str) -> str:
    """Return the `rules` that a study was recorded under; empty where its list names none."""
    return json.loads((reference_dir() / study / INDEX).read_text(encoding="utf-8")).get("rules", "")


def read_listing(file: Path) -> list[dict]:
    """Return the files that `record.json` lists: file, sha256, bytes, rows, model, cells (recipe -> key). Raises MissingData
    for a damaged one."""
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
        reason = " ".join(repr(error).split())[:100]
        raise MissingData(f"the list of recorded files {here} is damaged ({reason}): restore it with git") from error


@lru_cache(maxsize=8)
def _places_of(listings: tuple) -> dict[str, tuple[Path, str, str]]:
    """Key -> file, its hash, recipe; of every study whose list can be read."""
    places = {}
    for file, _ in listings:
        with suppress(MissingData):
            for entry in read_listing(file):
                for recipe, key in entry["cells"].items():
                    places[key] = (file.parent / entry["file"], entry["sha256"], recipe)
    return places


def opened(path: Path, sha256: str) -> RecordedFile:
    """Return a file of the record, without its rows. Raises MissingData for one that is absent or not the listed one."""
    return _opened(path, sha256, _stamp(path))


@lru_cache(maxsize=2048)
def _opened(path: Path, sha256: str, stamp: tuple) -> RecordedFile:
    from pydantic import ValidationError

    from kc_utils.probing.probe import Probe

    study, name = path.parent.parent.name, "/".join(path.parts[-3:])
    found = packing.about(content_of(path, sha256), name)
    try:
        probe = Probe(**found["shared"]["probe"])
        return RecordedFile(study, path, found["model"], probe, found["shared"], found["cells"], sha256)
    except (KeyError, TypeError, ValidationError) as error:
        reason = " ".join(str(error).split())[:100]
        raise MissingData(f"recorded rows {name} were written by another version of this code ({reason})") from error


@lru_cache(maxsize=16)
def _rows(path: Path, sha256: str, name: str, stamp: tuple) -> dict[str, pd.DataFrame]:
    parts = packing.unpacked(content_of(path, sha256), name).groupby("recipe", sort=False, observed=True)
    return {recipe: part.drop(columns="recipe").reset_index(drop=True) for recipe, part in parts}


def content_of(path: Path, sha256: str) -> bytes:
    """Return the content of a recorded file. Raises MissingData for one that is absent or has another hash."""
    name = "/".join(path.parts[-3:])
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise MissingData(f"recorded rows {name} are absent ({reason}): restore them with git") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise MissingData(f"recorded rows {name} are damaged (another hash than listed): restore them with git")
    return content


def _stamp(path: Path) -> tuple | None:
    """What changes when the file does."""
    found = path.stat() if path.exists() else None
    return found and (found.st_size, found.st_mtime_ns, found.st_ino)
