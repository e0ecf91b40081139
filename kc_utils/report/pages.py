"""From executed notebooks to pages of the book: titles, figure labels, alternative texts, rows to download, contents.

Everything is written under `book/results/`, which is not tracked; a page whose content did not change is not touched,
so that a second build has nothing to do.
"""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import yaml

from kc_utils.stats.names import model_name
from kc_utils.errors import BadResult, MissingData, listed
from kc_utils.places import project_dir
from kc_utils.report import claims_page, examples, fragments, presets, teaching
from kc_utils.report.answers import answers
from kc_utils.report.evidence import gather
from kc_utils.report.interactive.choose import choose_page
from kc_utils.report.interactive.explore import explore_page
from kc_utils.report.launch import install_cell, repository
from kc_utils.study import store
from kc_utils.study.grids import ANY, split_template
from kc_utils.study.processes import processes
from kc_utils.study.studyfile import Run, Study

FAMILY_ORDER = ("decoder", "encoder", "encoder-decoder", ANY)


class Pages:
    """Writes the pages of one study and remembers what it wrote, so that stale ones can be removed."""

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
        with processes(1) as beside:
            answered = beside.submit(answers_and_examples, self.study)
            for run in self.study.runs:
                self._rows(run, results)
                self._page(run, results)
            texts, pictures = fragments.of_study(self.study, results)
            texts["explore.html"], texts["explore.md"] = explore_page(results)
            texts["preset.md"] = presets.paper_preset(results)
            found = gather(self.study, results)
            texts["claims.md"], drawn = claims_page.ledger_page(found)
            texts |= teaching.fragments()
            texts["choose.html"], texts["choose.md"] = choose_page(*found.origins.values())
            told, illustrations = answered.result()
        texts |= told
        pictures |= drawn | illustrations
        for name, text in texts.items():
            self._put(name, text.encode())
        for name, picture in pictures.items():
            self._put(name, picture)
        self._put("_toc.yml", self._contents().encode())
        self._remove_stale()

    def _put(self, name: str, content: bytes) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file() or file.read_bytes() != content:
            file.write_bytes(content)
        self._written.add(file)

    def _remove_stale(self) -> None:
        for file in sorted(self.folder.rglob("*")):
            if file.is_file() and file not in self._written:
                file.unlink()
        for folder in sorted(self.folder.rglob("*"), reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                shutil.rmtree(folder)

    def _rows(self, run: Run, results: fragments.Results) -> None:
        """The rows behind a page, one file: ids, scores and flags, with the model and recipe of each row, and the probe
        (`asked`) where there are several."""
        probes = {probe: name for name, probe in run.parameters.probes.items()}
        told = [
            results[c].rows.assign(model=model_name(c.model), recipe=c.recipe, asked=probes[c.probe]) for c in run.cells
        ]
        frame = pd.concat(told, ignore_index=True)
        for name in ("asked", "recipe", "model"):
            frame.insert(0, name, frame.pop(name))
        if len(probes) == 1:
            del frame["asked"]
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False, compression="zstd")
        self._put(f"rows/{run.id}.parquet", buffer.getvalue())

    def _page(self, run: Run, results: fragments.Results) -> None:
        book = nbformat.read(run.output, as_version=4)
        title = fragments.page_title(self.study, run)
        book.cells = [page_cell(cell, run, title) for cell in without_empty_parts(book.cells)]
        tail = nbformat.v4.new_markdown_cell(fragments.rows_and_provenance(run, results))
        tail.id = "rows-and-provenance"
        recipes, tasks = [cell.recipe for cell in run.cells], any(cell.probe.tasks for cell in run.cells)
        first = install_cell(repository(self.book.parent), recipes, tasks)
        book.cells = [first, *book.cells, tail]
        book.metadata = {k: book.metadata[k] for k in ("kernelspec", "language_info") if k in book.metadata}
        self._put(f"{run.id}.ipynb", (nbformat.writes(book, version=4) + "\n").encode())

    def _contents(self) -> str:
        """`_toc.yml` of the project with the run pages in its part `Results`, after the pages that are not generated."""
        contents = yaml.safe_load((self.book.parent / "_toc.yml").read_text(encoding="utf-8"))
        for part in contents["parts"]:
            if part.get("caption") == "Results":
                own = [c for c in part["chapters"] if not c["file"].startswith("results/")]
                generated = [c for c in part["chapters"] if c["file"].startswith("results/")]
                runs = [{"file": f"results/{run.id}"} for run in in_order(self.study.runs)]
                part["chapters"] = own + runs + generated
        return yaml.safe_dump(contents, sort_keys=False)


def stored(study: Study) -> fragments.Results:
    """The rows of every cell of a study. Raises MissingData where some are gone."""
    results = {cell: store.read(cell.key) for cell in study.cells}
    lost = [cell.recipe for cell, result in results.items() if result is None]
    if lost:
        raise MissingData(f"study {study.name}: no stored rows of {listed(lost, 3)}; run `kc study run {study.name}`")
    return results


def answers_and_examples(study: Study) -> tuple[dict[str, str], dict[str, bytes]]:
    """Half of the work of `Pages.write`, for a second process beside it: fragments and pictures by file name."""
    texts, pictures = answers(gather(study, stored(study)).evidence)
    return texts | {"three_facts.md": examples.three_facts(study)}, pictures


def in_order(runs) -> list[Run]:
    return sorted(runs, key=lambda run: FAMILY_ORDER.index(split_template(run.template)[0]))


def without_empty_parts(cells: list) -> list:
    """The cells without those parts that this run has nothing to show for: a text cell tagged `optional`, with the code
    cells below it, where none of these shows anything."""
    kept: list = []
    part: list = []
    for cell in cells:
        if cell.cell_type == "markdown":
            kept, part = kept + _unless_empty(part), []
        part.append(cell)
    return kept + _unless_empty(part)


def _unless_empty(part: list) -> list:
    optional = part and "optional" in part[0].metadata.get("tags", [])
    return [] if optional and not any(shown(cell) for cell in part[1:]) else part


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
    hidden = "remove-input" if "injected-parameters" in tags else None
    cell.metadata["tags"] = sorted((tags - {"parameters", "injected-parameters"}) | ({hidden} if hidden else set()))
    cell.outputs = shown(cell)
    for output in cell.outputs:
        figure = output.get("metadata", {}).pop("kc", None)
        if figure and len(cell.outputs) > 1:
            raise BadResult(f"{run.template}: figure {figure['name']!r} must be the only output of its cell")
        if figure:
            cell.metadata["mystnb"] = {
                "image": {"alt": figure["alt"], "width": figure["width"]},
                "figure": {"caption": figure["caption"], "name": f"fig-{run.id}-{figure['name']}"},
            }
    cell.execution_count = None
    return cell
