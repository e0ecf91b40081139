"""From executed notebooks to pages of the book: titles, figure labels, alternative texts, rows to download, contents.

Everything is written under `book/results/`, which is not tracked. A page or fragment is a target (`targets`): it is made again
only where its notebook, rows, code or text changed, so that a second build has nothing to do.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, cached_property, partial
from pathlib import Path

import nbformat
import pandas as pd
import yaml

from kc_utils import lab
from kc_utils.errors import BadRequest, BadResult, MissingData, listed
from kc_utils.places import project_dir, sha256_of
from kc_utils.report import tables, teaching
from kc_utils.report.interactive.choose import choose_page
from kc_utils.report.interactive.explore import explore_page
from kc_utils.report.sphinx import MADE_OF, install_cell, repository
from kc_utils.report.targets import Target, digest_of, hash_of, make, rows_at_hand
from kc_utils.stats.names import model_name
from kc_utils.study import record, store
from kc_utils.study.cells import Cell
from kc_utils.study.record import CellResult
from kc_utils.study.rows import results as kept_rows
from kc_utils.study.rows import table_of
from kc_utils.study.studyfile import Run, Study


class Pages:
    """The pages and fragments of one study, as targets under `book/results/`."""

    def __init__(self, study: Study, book: Path | None = None):
        self.study = study
        self.book = book or project_dir() / "book"
        self.folder = self.book / "results"
        self._result = cache(lambda cell: store.read(cell.key))

    def write(self) -> list[str]:
        """Write the pages and fragments that are out of date, remove stale ones, and return the names of those written."""
        return make(self.folder, self.targets)

    @cached_property
    def targets(self) -> list[Target]:
        """What there is to write. Raises MissingData where a run of the study has not been executed, or evaluations are gone."""
        study, name = self.study, self.study.name
        if missing := [run.id for run in study.runs if not run.output.is_file()]:
            raise MissingData(f"run {missing[0]} of study {name} has no executed notebook; run `kc study run {name}`")
        stored, rows = evaluations(study), rows_at_hand()
        of = {run.id: [stored[cell] for cell in run.cells] for run in study.runs}
        runs = {run.id: [run.output.name, tables.title_of(study, run)] for run in study.runs}
        contents_file, claims = self.book.parent / "_toc.yml", sha256_of(project_dir() / "book" / "claims.yaml")
        address = repository(self.book.parent)
        found = {run.id: [runs[run.id], of[run.id], sha256_of(run.output), address] for run in study.runs}
        return [
            *(Target(run.id, found[run.id], partial(self._page, run)) for run in study.runs),
            Target("contents", [runs, sha256_of(contents_file)], partial(contents_and_models, study, contents_file)),
            Target("tables", [study.title, study.about, runs, of], self._tables),
            Target("lessons", hash_of(project_dir() / "book" / "teaching"), teaching.fragments),
            Target("explore", rows, lambda: dict(zip(("explore.html", "explore.md"), explore_page(self._rows), strict=True))),
            Target("choose", rows, lambda: dict(zip(("choose.html", "choose.md"), choose_page(self._rows), strict=True))),
            Target("claims", [rows, claims], self._ledger),
            Target("made of", [rows, claims, of], lambda: {MADE_OF.removeprefix("results/"): digest_of([rows, claims, of])}),
        ]

    def _results(self, cells: Iterable[Cell]) -> dict[Cell, CellResult]:
        """Those that are not recorded as failed."""
        return {cell: found for cell in cells if (found := self._result(cell))}

    @cached_property
    def _rows(self) -> pd.DataFrame:
        """All rows at hand; an empty table where there are none."""
        with suppress(BadRequest):
            return kept_rows()
        return pd.DataFrame()

    def _page(self, run: Run) -> dict[str, str | bytes]:
        """A run's executed notebook as a page, and the rows behind it in one file: those of `kc.evaluate`."""
        results = self._results(run.cells)
        rows = table_of(results).to_parquet(index=False, compression="zstd")
        book = nbformat.read(run.output, as_version=4)
        title = tables.title_of(self.study, run)
        tail = nbformat.v4.new_markdown_cell(tables.provenance(run, results))
        tail.id = "rows-and-provenance"
        recipes, tasks = [cell.recipe for cell in run.cells], any(cell.probe.tasks for cell in run.cells)
        first = install_cell(repository(self.book.parent), recipes, tasks)
        book.cells = [first, *(page_cell(cell, run, title) for cell in without_empty_parts(book.cells)), tail]
        book.metadata = {k: book.metadata[k] for k in ("kernelspec", "language_info") if k in book.metadata}
        return {f"rows/{run.id}.parquet": rows, f"{run.id}.ipynb": nbformat.writes(book, version=4) + "\n"}

    def _tables(self) -> dict[str, str]:
        """Tables that pages include: of the study's runs, of models, of the lab, and the cards of the project's own data."""
        cards = {f"{name}_card.md": project_dir() / "data" / name / f"{name}.md" for name in ("worldfacts", "benchmarks")}
        return {
            **lab.fragments(),
            "summary.md": tables.runs_table(self.study),
            "status.md": tables.status_tables(self.study, self._results(self.study.cells)),
            "models.md": tables.models_table(),
            **{name: file.read_text(encoding="utf-8") for name, file in cards.items()},
        }

    def _ledger(self) -> dict[str, str | bytes]:
        from kc_utils.report.claims import ledger_page

        text, pictures = ledger_page(self._rows)
        return {"claims.md": text, **pictures}


def evaluations(study: Study) -> dict[Cell, str]:
    """A hash of every evaluation of a study and of what made it, or why it failed. Raises MissingData where some are gone."""
    found: dict[Cell, str | None] = {}
    for cell, key in ((cell, cell.key) for cell in study.cells):
        file = store.folder_of(key) / store.MARKER
        recorded = None if file.is_file() else record.where(key)
        found[cell] = recorded[0].sha256 if recorded else sha256_of(file) if file.is_file() else None
        if found[cell] is None and (failed := store.failure(key)):
            found[cell] = failed["why"]
    if lost := [cell.recipe for cell, kept in found.items() if kept is None]:
        raise MissingData(f"study {study.name}: no stored rows of {listed(lost, 3)}; run `kc study run {study.name}`")
    return found


def contents_and_models(study: Study, written: Path) -> dict[str, str]:
    """The project's `_toc.yml` with the runs by model in its part `Results`, after the pages that are not generated, and the
    pages of these models."""
    chapters, pages = contents(study)
    toc = yaml.safe_load(written.read_text(encoding="utf-8"))
    for part in toc["parts"]:
        if part.get("caption") == "Results":
            own = [c for c in part["chapters"] if not c["file"].startswith("results/")]
            part["chapters"] = own + chapters + [c for c in part["chapters"] if c not in own]
    return {"_toc.yml": yaml.safe_dump(toc, sort_keys=False), **pages}


def contents(study: Study) -> tuple[list[dict], dict[str, str]]:
    """Chapters of the table of contents: one per model, its runs below it; and the pages of these models by file name."""
    groups: dict[str, list[Run]] = {}
    for run in study.runs:
        name = model_name(run.plan.models[0]) if len(run.plan.models) == 1 else "Lab models together"
        groups.setdefault(name, []).append(run)
    chapters, pages = [], {}
    for name, runs in groups.items():
        file = "results/of-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        lines = [f"- [{tables.title_of(study, run)}]({run.id}.ipynb)" for run in runs]
        pages[file.removeprefix("results/") + ".md"] = f"# {name}\n\n" + "\n".join(lines) + "\n"
        short = {run.id: tables.title_of(study, run).partition(" · ")[0] for run in runs}
        sections = [{"file": f"results/{run}", "title": title} for run, title in short.items()]
        chapters.append({"file": file, "sections": sections})
    return chapters, pages


def without_empty_parts(cells: list) -> list:
    """The cells without those parts that this run has nothing to show for: a text cell tagged `optional`, with the code
    cells below it, where none of these shows anything."""
    kept: list = []
    part: list = []
    for cell in [*cells, None]:
        if cell is None or cell.cell_type == "markdown":
            optional = part and "optional" in part[0].metadata.get("tags", [])
            kept += [] if optional and not any(shown(c) for c in part[1:]) else part
            part = []
        part.append(cell)
    return kept


def shown(cell) -> list:
    """What a code cell shows: its outputs but for progress bars and warnings."""
    return [o for o in cell.outputs if not (o.output_type == "stream" and o.name == "stderr")]


def page_cell(cell, run: Run, title: str):
    """One cell of an executed notebook as the book wants it."""
    cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "mystnb")}
    if cell.cell_type == "markdown":
        cell.source = re.sub(r"^# .+$", lambda _: f"# {title}", cell.source, count=1, flags=re.M)
        cell.source = cell.source.replace("](../book/", "](../")
        cell.metadata.pop("tags", None)
        return cell
    tags = set(cell.metadata.get("tags", []))
    if "injected-parameters" in tags:
        tags.add("hide-input")
    cell.metadata["tags"] = sorted(tags - {"parameters", "injected-parameters", "grid"})
    cell.outputs = shown(cell)
    for output in cell.outputs:
        about = output.get("metadata", {}).pop("kc", None)
        if about and len(cell.outputs) > 1:
            raise BadResult(f"{run.template}: figure {about['name']!r} must be the only output of its cell")
        if about:
            cell.metadata["mystnb"] = {
                "image": {"alt": about["alt"], "width": about["width"]},
                "figure": {"caption": about["caption"], "name": f"fig-{run.id}-{about['name']}"},
            }
    cell.execution_count = None
    return cell
