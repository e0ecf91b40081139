"""All results that the book can draw on: of the study that it is built for, of other finished studies, and of record."""

from __future__ import annotations

from dataclasses import dataclass

from kc_utils.errors import KCError
from kc_utils.places import project_dir, results_dir
from kc_utils.stats.claim_rows import Evidence
from kc_utils.study import record, store
from kc_utils.study.cells import Cell
from kc_utils.study.record import CellResult
from kc_utils.study.studyfile import Study, load_study

RECORD = "record of "


@dataclass(frozen=True)
class AllResults:
    """origins: name -> results, in the order in which they are preferred; records: those of record that are among them;
    problems: one line for each recorded file that is absent or damaged."""

    origins: dict[str, dict[Cell, CellResult]]
    records: dict[str, record.Record]
    problems: tuple[str, ...]

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.origins)


def gather(study: Study | None, results: dict[Cell, CellResult]) -> AllResults:
    """The study's own results first, then those of other studies that were finished on this machine, then the record."""
    origins: dict[str, dict[Cell, CellResult]] = {}
    if study is not None:
        origins[study.name] = results
    for name, found in _finished(except_for=study.name if study else None).items():
        origins[name] = found
    records = {name: record.load(name) for name in record.studies()}
    for name, found in records.items():
        if found.files:
            origins[RECORD + name] = found.results()
    return AllResults(origins, records, tuple(line for found in records.values() for line in found.problems))


def _finished(except_for: str | None) -> dict[str, dict[Cell, CellResult]]:
    """Studies of the project whose notebooks have all been executed here. One that cannot be loaded now is passed over."""
    found = {}
    for file in sorted((project_dir() / "studies").glob("*.yaml")):
        executed = results_dir() / "runs" / file.stem
        if file.stem == except_for or not any(executed.glob("*.ipynb")):
            continue
        try:
            study = load_study(file.stem, fetch=False)
            if not all(run.output.is_file() for run in study.runs):
                continue
            results = {cell: store.read_local(cell.key) for cell in study.cells}
        except KCError:
            continue
        found[file.stem] = {cell: result for cell, result in results.items() if result is not None}
    return found


def record_note(found: AllResults) -> str:
    """Where the rows of a page come from, where some are of record: what made them, and how that differs from today."""
    notes = []
    for name, own in found.records.items():
        if not own.files:
            continue
        made, other, cells = own.making(), own.otherwise(), len(own.cells)
        text = (
            f"- **Results of record, study `{name}`**: {cells:,} cells, computed on {_span(made['days'])} with "
            f"{', '.join(made['versions'])} on {' and '.join(made['processors'])}"
        )
        differ = [f"{n:,} of them with other {what} than this book's" for what, n in other.items() if n]
        notes.append(
            f"{text}{': ' + ' and '.join(differ) if differ else ', by the code and with the versions of this book'}. "
            f"`kc verify --study {name}` computes a sample of them again."
        )
    notes += [f"- **Missing**: {line}" for line in found.problems]
    return "\n".join(notes) + ("\n" if notes else "")


def _span(days: list[str]) -> str:
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
