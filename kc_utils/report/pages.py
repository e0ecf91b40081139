"""From executed notebooks to pages of the book: titles, figure labels, alternative texts, rows to download, contents.

Everything is written under `book/results/`, which is not tracked; a page whose content did not change is not touched,
so that a second build has nothing to do.
"""

import hashlib
import re
from contextlib import suppress
from pathlib import Path

import nbformat
import pandas as pd
import yaml

from kc_utils import lab
from kc_utils.errors import BadRequest, BadResult, MissingData, listed
from kc_utils.places import project_dir
from kc_utils.report import tables, teaching
from kc_utils.report.interactive.choose import choose_page
from kc_utils.report.interactive.explore import explore_page
from kc_utils.report.sphinx import MADE_OF, install_cell, repository
from kc_utils.stats.names import model_name
from kc_utils.study import store
from kc_utils.study.rows import results as rows_at_hand
from kc_utils.study.rows import table_of
from kc_utils.study.studyfile import Run, Study


class Pages:
    """Write the pages of one study and remember what was written, so that stale ones can be removed."""

    def __init__(self, study: Study, book: Path | None = None):
        self.study = study
        self.book = book or project_dir() / "book"
        self.folder = self.book / "results"
        self._written: set[Path] = set()

    def write(self) -> None:
        """Write every page and fragment. Raises MissingData where a run of the study has not been executed."""
        missing = [run.id for run in self.study.runs if not run.output.is_file()]
        if missing:
            raise MissingData(
                f"run {missing[0]} of study {self.study.name} has no executed notebook; run `kc study run {self.study.name}`"
            )
        results = stored(self.study)
        for run in self.study.runs:
            self._rows(run, results)
            self._page(run, results)
        for name, content in fragments(self.study, results).items():
            self._put(name, content if isinstance(content, bytes) else content.encode())
        chapters, models = contents(self.study)
        for name, text in models.items():
            self._put(name, text.encode())
        self._put("_toc.yml", self._contents(chapters).encode())
        made_of = hashlib.sha256(repr([c.key for c in self.study.cells]).encode()).hexdigest()
        self._put(MADE_OF.removeprefix("results/"), made_of.encode())
        self._remove_stale()

    def _put(self, name: str, content: bytes) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file() or file.read_bytes() != content:
            file.write_bytes(content)
        self._written.add(file)

    def _remove_stale(self) -> None:
        for path in sorted(self.folder.rglob("*"), reverse=True):  # a folder after what it holds
            if path.is_file() and path not in self._written:
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()

    def _rows(self, run: Run, results: dict) -> None:
        """The rows behind a page, one file: those of `kc.evaluate`."""
        rows = table_of({cell: results[cell] for cell in run.cells if cell in results})
        self._put(f"rows/{run.id}.parquet", rows.to_parquet(index=False, compression="zstd"))

    def _page(self, run: Run, results: dict) -> None:
        book = nbformat.read(run.output, as_version=4)
        title = tables.title_of(self.study, run)
        tail = nbformat.v4.new_markdown_cell(tables.provenance(run, results))
        tail.id = "rows-and-provenance"
        recipes, tasks = [cell.recipe for cell in run.cells], any(cell.probe.tasks for cell in run.cells)
        first = install_cell(repository(self.book.parent), recipes, tasks)
        book.cells = [first, *(page_cell(cell, run, title) for cell in without_empty_parts(book.cells)), tail]
        book.metadata = {k: book.metadata[k] for k in ("kernelspec", "language_info") if k in book.metadata}
        self._put(f"{run.id}.ipynb", (nbformat.writes(book, version=4) + "\n").encode())

    def _contents(self, chapters: list[dict]) -> str:
        """`_toc.yml` of the project with the runs by model in its part `Results`, after the pages that are not generated."""
        written = yaml.safe_load((self.book.parent / "_toc.yml").read_text(encoding="utf-8"))
        for part in written["parts"]:
            if part.get("caption") == "Results":
                own = [c for c in part["chapters"] if not c["file"].startswith("results/")]
                part["chapters"] = own + chapters + [c for c in part["chapters"] if c not in own]
        return yaml.safe_dump(written, sort_keys=False)


def stored(study: Study) -> dict:
    """The result of every evaluation of a study but those that failed. Raises MissingData where some are gone."""
    results = {cell: store.read(cell.key) for cell in study.cells}
    lost = [cell.recipe for cell, result in results.items() if result is None and not store.failure(cell.key)]
    if lost:
        raise MissingData(f"study {study.name}: no stored rows of {listed(lost, 3)}; run `kc study run {study.name}`")
    return {cell: result for cell, result in results.items() if result is not None}


def fragments(study: Study, results: dict) -> dict[str, str | bytes]:
    """What pages include, by file name under `book/results/`: text, and pictures."""
    from kc_utils.report.claims import ledger_page

    found, rows = dict(lab.fragments()), pd.DataFrame()
    with suppress(BadRequest):  # nothing at hand
        rows = rows_at_hand()
    found["summary.md"], found["status.md"] = tables.runs_table(study), tables.status_tables(study, results)
    found["models.md"] = tables.models_table()
    for name in ("worldfacts", "benchmarks"):
        card = project_dir() / "data" / name / f"{name}.md"
        found[f"{name}_card.md"] = card.read_text(encoding="utf-8")
    found["explore.html"], found["explore.md"] = explore_page(rows)
    found["choose.html"], found["choose.md"] = choose_page(rows)
    text, pictures = ledger_page(rows)
    return found | {"claims.md": text} | pictures | teaching.fragments()


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
