"""From the local store to the results of record: which cells, with what said about them, as which files.

A file holds the cells of one model asked one probe. A cell that was recorded before and is not finished here stays only where
today's code would make it of the same weights and facts: what is compared within a file was made alike. Versions of libraries
and devices may differ, since studies are computed on several machines; they are recorded with every cell.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kc_utils.errors import BadRequest, BadResult, MissingData, listed
from kc_utils.probing.probe import Probe
from kc_utils.models.registry import resolve
from kc_utils.places import complete_or_absent, reference_dir, write_text
from kc_utils.study import packing, record, store
from kc_utils.study.cells import Cell
from kc_utils.study.record import FORMAT, INDEX, RecordedFile
from kc_utils.study.result import CellResult
from kc_utils.study.studyfile import Study

LEFT_OUT_OF_REPORTS = ("per_matrix", "recipe")
"""Of a report: one line for each matrix, many times as long as all else; and what the file says anyway."""


@dataclass(frozen=True)
class Recorded:
    """What `record_study` did. files: written; cells: in them; of: cells of the study; bytes: of the study's whole record;
    unfinished: cells that no store holds; alone: files left out because the uncompressed model is not among their cells;
    dropped: cells of an earlier record that today's code would not make, and that are not finished here."""

    files: int
    cells: int
    of: int
    bytes: int
    unfinished: int
    alone: tuple[str, ...]
    dropped: int


def record_study(study: Study) -> Recorded:
    """Copy every finished cell of a study into its record. Files of which nothing is finished stay as they are.

    Raises BadRequest for what others could not name or compute (models and texts given by path) and outside of a checkout,
    BadResult where no cell is finished, MissingData for a record that is damaged.
    """
    folder = reference_dir()
    if folder is None:
        raise BadRequest("results of record belong to a checkout: change to the folder that holds studies/")
    cells = study.cells
    refuse_private(cells)
    before = record.load(study.name)
    if before.problems:
        raise MissingData(f"the record of {study.name} is not whole, nothing is added to it: {before.problems[0]}")
    old = {(f.model, f.probe): f for f in before.files}
    groups: dict[tuple[str, Probe], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.probe), []).append(cell)
    entries = {str(f.path.relative_to(folder / study.name)): entry_of(f) for f in before.files}
    taken = {str(f.path.relative_to(folder / study.name)): (f.model, f.probe) for f in before.files}
    names = file_names(groups, taken)
    files = count = dropped = 0
    alone = []
    for group, wanted in groups.items():
        found = {cell: store.read_local(cell.key) for cell in wanted}
        found = {cell: result for cell, result in found.items() if result is not None}
        if not found:
            continue
        kept, lost = _still_valid(old.get(group), wanted, found)
        together = {
            cell: found.get(cell) or kept.get(cell) for cell in (*wanted, *kept) if cell in found or cell in kept
        }
        name = names[group]
        if not any(cell.recipe == "none" for cell in together):
            alone.append(name)
            continue
        content, entry = file_of(group, together)
        with complete_or_absent(folder / study.name / name) as scratch:
            scratch.write_bytes(content)
        entries[name] = {"file": name, **entry}
        files, count, dropped = files + 1, count + len(together), dropped + lost
    if not files:
        raise BadResult(
            f"no cell of study {study.name} is finished beside its uncompressed model; run `kc study compute {study.name}`"
        )
    listing = {
        "format": FORMAT,
        "study": study.name,
        "title": study.title,
        "files": [entries[n] for n in sorted(entries)],
    }
    write_text(folder / study.name / INDEX, json.dumps(listing, indent=1, ensure_ascii=False) + "\n")
    size = sum(entry["bytes"] for entry in entries.values()) + (folder / study.name / INDEX).stat().st_size
    recorded = {key for entry in entries.values() for key in entry["cells"].values()}
    unfinished = sum(cell.key not in recorded for cell in cells)
    return Recorded(files, count, len(cells), size, unfinished, tuple(alone), dropped)


def refuse_private(cells: Iterable[Cell]) -> None:
    """Raises BadRequest for a model or text that is named by where it lies on this machine."""
    from kc_utils.probing.perplexity import TEXTS

    for cell in cells:
        if cell.model.startswith("path:"):
            raise BadRequest(f"{cell.model} lies on this machine alone: only models of `kc models` are recorded")
        if cell.probe.text is not None and cell.probe.text not in TEXTS:
            raise BadRequest(f"text {cell.probe.text!r} lies on this machine alone: record one of {listed(TEXTS)}")
        resolve(cell.model)


def _still_valid(
    file: RecordedFile | None, wanted: list[Cell], found: dict[Cell, CellResult]
) -> tuple[dict[Cell, CellResult], int]:
    """Cells of an earlier record that were not computed here and that today's code would make alike, and how many others."""
    kept, lost = {}, 0
    for recipe in file.cells if file else ():
        cell = file.cell(recipe)
        if cell in found:
            continue
        if cell in wanted and _but_versions(cell.depends_on) == _but_versions(file.depends_on(recipe)):
            kept[cell] = file.result(recipe)
        else:
            lost += 1
    return kept, lost


def _but_versions(depends_on: dict) -> dict:
    return {what: value for what, value in depends_on.items() if what != "versions"}


def file_of(group: tuple[str, Probe], results: dict[Cell, CellResult]) -> tuple[bytes, dict]:
    """The content of one file, and what `record.json` says of it. Raises BadResult for cells that were asked other facts or
    made of other weights."""
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
        if any(depends[name] != value for name, value in same.items()):
            raise BadResult(
                f"{model}, {cell.recipe}: stored with other facts or weights than {next(iter(results)).recipe}"
            )
        cells[cell.recipe] = {
            "key": result.key,
            "code": depends["code"],
            "scoring_versions": number("scoring_versions", depends["versions"]),
            "at": made["at"],
            "seconds": made["seconds"],
            "threads": made["threads"],
            "device": made["device"],
            "versions": number("versions", made["versions"]),
            "hardware": number("hardware", made["hardware"]),
            "report": {k: v for k, v in result.report.items() if k not in LEFT_OUT_OF_REPORTS},
        }
        frames.append(result.rows.assign(recipe=cell.recipe))
    rows = pd.concat(frames, ignore_index=True)
    rows.insert(0, "recipe", rows.pop("recipe"))
    content = packing.packed(rows, {"model": model, "cells": cells, "shared": {**same, **several}})
    entry = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "rows": len(rows),
        "model": model,
        "cells": {recipe: own["key"] for recipe, own in cells.items()},
    }
    return content, entry


def entry_of(file: RecordedFile) -> dict:
    """The line of `record.json` about a file that is there already."""
    listing = record.read_listing(file.path.parent.parent / INDEX)
    relative = f"{file.path.parent.name}/{file.path.name}"
    return next(entry for entry in listing if entry["file"] == relative)


def file_names(
    groups: Iterable[tuple[str, Probe]], taken: dict[str, tuple[str, Probe]]
) -> dict[tuple[str, Probe], str]:
    """A file for each model and probe: the model, then what is asked; a number behind it where two would have one name."""
    names, used = {group: name for name, group in taken.items()}, set(taken)
    for model, probe in groups:
        if (model, probe) in names:
            continue
        stem = f"{_plain(model)}/{_plain(probe_name(probe))}"
        number = 1
        while (name := f"{stem}{f'-{number}' if number > 1 else ''}.parquet") in used:
            number += 1
        names[model, probe] = name
        used.add(name)
    return names


def probe_name(probe: Probe) -> str:
    """What a probe asks, in a word or a few: `lama.trex`, `boolq+piqa`, `wikitext2`."""
    return "+".join(
        [*([probe.facts] if probe.facts else []), *probe.tasks, *([Path(probe.text).stem] if probe.text else [])]
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9+_-]+", ".", name.lower()).strip(".")
