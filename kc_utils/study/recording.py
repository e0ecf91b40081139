"""From the local store to the results of record: which evaluations, with which provenance, in which files.

A file holds the evaluations of one model and one probe. One that was recorded before and is not finished here stays only where
today's code would make it of the same weights and facts: what is compared within a file was made alike. Versions of libraries
and devices may differ, since studies are computed on several machines; they are recorded with every evaluation.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kc_utils.errors import BadRequest, BadResult, MissingData, listed
from kc_utils.models.registry import resolve
from kc_utils.places import complete_or_absent, finished_dir, project_dir, reference_dir, write_text
from kc_utils.probing.perplexity import TEXTS
from kc_utils.probing.probe import Probe
from kc_utils.study import packing, record, store
from kc_utils.study.cells import Cell, grouped
from kc_utils.study.record import FORMAT, INDEX, CellResult, RecordedFile
from kc_utils.study.rows import source_of
from kc_utils.study.studyfile import Study

LEFT_OUT_OF_REPORTS = ("per_matrix", "recipe")
"""Of a report: one line for each matrix, many times as long as all else; and what the file says anyway."""


class Recorded(NamedTuple):
    """What `record_study` did. files: written; cells: in them; of: evaluations of the study; bytes: of its whole record;
    unfinished: evaluations that no store holds; alone: files left out because the uncompressed model is not among them;
    dropped: recorded evaluations that today's code would not make, and that are not finished here."""

    files: int
    cells: int
    of: int
    bytes: int
    unfinished: int
    alone: tuple[str, ...]
    dropped: int


def record_study(study: Study) -> Recorded:
    """Copy every finished evaluation of a study into its record. Files of which nothing is finished stay as they are.

    Raises BadRequest for what others could not name or compute (models and texts given by path) and outside of a checkout,
    BadResult where nothing is finished, MissingData for a record that is damaged.
    """
    cells, folder = study.cells, (reference_dir() or project_dir()) / study.name
    refuse_private(cells)
    before = record.load(study.name)
    if before.problems:
        raise MissingData(f"the record of {study.name} is not whole, nothing is added to it: {before.problems[0]}")
    old = {(f.model, f.probe): f for f in before.files}
    groups = grouped(cells, "probe")
    listing = record.read_listing(folder / INDEX) if before.files else []
    entries = {entry["file"]: entry for entry in listing}
    names = file_names(groups, {str(f.path.relative_to(folder)): (f.model, f.probe) for f in before.files})
    files, recorded, dropped, alone = 0, 0, 0, []
    for group, wanted in groups.items():
        found = {cell: result for cell in wanted if (result := store.read_local(cell.key)) is not None}
        if not found:
            continue
        name, file = names[group], old.get(group)
        there = file.cells if file else {}
        kept = {c: file.result(c.recipe) for c in wanted if c.recipe in there and _still_made_alike(c, file)}
        together = {cell: result for cell in wanted if (result := found.get(cell) or kept.get(cell))}
        if not any(cell.recipe == "none" for cell in together):
            alone.append(name)
            continue
        content, entry = file_of(group, together)
        with complete_or_absent(folder / name) as scratch:
            scratch.write_bytes(content)
        entries[name] = {"file": name, **entry}
        dropped += len(there.keys() - {cell.recipe for cell in together})
        files, recorded = files + 1, recorded + len(together)
    if not files:
        nothing = f"nothing of study {study.name} is finished beside its uncompressed model"
        raise BadResult(f"{nothing}; run `kc study compute {study.name}`")
    _write_index(folder / INDEX, study, [entries[n] for n in sorted(entries)])
    size = sum(entry["bytes"] for entry in entries.values()) + (folder / INDEX).stat().st_size
    there = {key for entry in entries.values() for key in entry["cells"].values()}
    unfinished = sum(cell.key not in there for cell in cells)
    return Recorded(files, recorded, len(cells), size, unfinished, tuple(alone), dropped)


def keep_finished(study: Study) -> None:
    """Write the finished rows of a study, exact, in the format of the record: `kc.results` reads it. What is not finished, and
    what has no uncompressed model beside it, is left out; where nothing has changed, nothing is written."""
    groups, index, there = grouped(study.cells, "probe"), finished_dir() / study.name / INDEX, {}
    for group, cells in groups.items():
        found = [cell for cell in cells if store.has(cell.key)]
        if any(cell.recipe == "none" or cell.probe.relearn_steps for cell in found):
            there[group] = found
    kept = record.read_listing(index) if index.is_file() else []
    wanted = {cell.key for cells in there.values() for cell in cells}
    if not wanted or {key for entry in kept for key in entry["cells"].values()} == wanted:
        return
    with complete_or_absent(finished_dir() / study.name) as folder:
        entries = []
        for group, name in file_names(there, {}).items():
            content, entry = file_of(group, {cell: store.read(cell.key) for cell in there[group]}, exact=True)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
            entries.append({"file": name, **entry})
        _write_index(folder / INDEX, study, entries)


def _write_index(file: Path, study: Study, entries: list[dict]) -> None:
    index = {"format": FORMAT, "study": study.name, "title": study.title, "rules": record.rules(), "files": entries}
    write_text(file, json.dumps(index, indent=1, ensure_ascii=False) + "\n")


def refuse_private(cells: Iterable[Cell]) -> None:
    """Raise BadRequest for a model or text that is named by where it lies on this machine."""
    for cell in cells:
        if cell.model.startswith("path:"):
            raise BadRequest(f"{cell.model} lies on this machine alone: only models of `kc models` are recorded")
        if cell.probe.text is not None and cell.probe.text not in TEXTS:
            raise BadRequest(f"text {cell.probe.text!r} lies on this machine alone: record one of {listed(TEXTS)}")
        resolve(cell.model)


def _still_made_alike(cell: Cell, file: RecordedFile) -> bool:
    """Whether today's code would make a recorded evaluation of the same weights and facts."""
    return cell.depends_on | {"versions": 0} == file.depends_on(cell.recipe) | {"versions": 0}


def file_of(group: tuple[str, Probe], results: dict[Cell, CellResult], exact: bool = False) -> tuple[bytes, dict]:
    """Return the content of one file, and what `record.json` says of it. results: of one model and probe, found by key, so that
    all of them were made of the same weights and facts."""
    model = group[0]
    first = next(iter(results.values())).record["depends_on"]
    same = {name: first[name] for name in ("model", "probe", "facts", "asked")}
    several: dict[str, list] = {"versions": [], "hardware": [], "scoring_versions": []}

    def number(kind: str, value) -> int:
        if value not in several[kind]:
            several[kind].append(value)
        return several[kind].index(value)

    cells, frames = {}, []
    for cell, result in results.items():
        depends, made = result.record["depends_on"], result.record["made"]
        cells[cell.recipe] = {
            "key": result.key,
            "code": depends["code"],
            "scoring_versions": number("scoring_versions", depends["versions"]),
            **{name: made[name] for name in ("at", "seconds", "threads", "device")},
            "versions": number("versions", made["versions"]),
            "hardware": number("hardware", made["hardware"]),
            "report": {k: v for k, v in result.report.items() if k not in LEFT_OUT_OF_REPORTS},
        }
        frames.append(result.rows.assign(recipe=cell.recipe))
    rows = pd.concat(frames, ignore_index=True)
    rows.insert(0, "recipe", rows.pop("recipe"))
    content = packing.packed(rows, {"model": model, "cells": cells, "shared": {**same, **several}}, exact)
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "rows": len(rows), "model": model}
    return content, entry | {"cells": {recipe: own["key"] for recipe, own in cells.items()}}


def file_names(groups: Iterable[tuple[str, Probe]], taken: dict[str, tuple[str, Probe]]) -> dict[tuple[str, Probe], str]:
    """Name a file for each model and probe, with a number behind it where two would have one name."""
    names = {group: name for name, group in taken.items()}
    for model, probe in groups:
        parts = (re.sub(r"[^a-z0-9+_-]+", ".", p.lower()).strip(".") for p in (model, source_of(probe.model_dump())))
        stem = "/".join(parts)
        numbered = (f"{stem}{f'-{number}' if number > 1 else ''}.parquet" for number in count(1))
        names.setdefault((model, probe), next(name for name in numbered if name not in names.values()))
    return names
