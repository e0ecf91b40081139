"""From executed notebooks to pages: labels, alternative texts, nothing of the machine alone, nothing stale."""

from collections import namedtuple
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from kc_utils.errors import BadResult, MissingData
from kc_utils.models.registry import registry
from kc_utils.report import tables
from kc_utils.report.pages import Pages, contents, page_cell, without_empty_parts

FIGURE = {"name": "accuracy", "caption": "What is drawn.", "alt": "Correct answers: 5 at 0.", "width": "100%"}


def run_of(id="tiny-pruning", template="decoder_pruning", models=("tiny",), **more):
    plan = SimpleNamespace(models=models, values={}, probes={})
    return SimpleNamespace(id=id, template=template, plan=plan, cells=[], **more)


RUN = run_of()


def figure_output():
    data = {"image/png": "iVBORw0KGgo=", "text/plain": "x"}
    return new_output("execute_result", data=data, metadata={"kc": dict(FIGURE)}, execution_count=1)


def test_a_figure_gets_a_label_of_its_run_a_caption_and_words_and_is_alone_in_its_cell():
    cell = page_cell(new_code_cell("show()", outputs=[figure_output()]), RUN, "A title")
    assert cell.metadata["mystnb"] == {
        "image": {"alt": FIGURE["alt"], "width": "100%"},
        "figure": {"caption": FIGURE["caption"], "name": "fig-tiny-pruning-accuracy"},
    }
    assert "kc" not in cell.outputs[0].metadata
    cell = new_code_cell("show()", outputs=[figure_output(), new_output("stream", name="stdout", text="more")])
    with pytest.raises(BadResult, match="accuracy"):
        page_cell(cell, RUN, "A title")


def test_code_stays_on_the_page_and_progress_bars_do_not():
    bar = new_output("stream", name="stderr", text="100%")
    cell = new_code_cell("run()", execution_count=3, outputs=[bar], metadata={"papermill": {}, "tags": ["grid"]})
    done = page_cell(cell, RUN, "A title")
    assert (done.outputs, done.execution_count, done.metadata) == ([], None, {"tags": []})
    for tag in ("parameters", "injected-parameters"):
        cell = new_code_cell("x = 1", metadata={"tags": [tag, "hide-input"]})
        assert page_cell(cell, RUN, "A title").metadata["tags"] == ["hide-input"]


def test_the_title_names_the_model_and_links_stay_inside_the_book():
    text = "# Pruning\n\n[t](../book/background/techniques.md)\n\n# Not this"
    cell = page_cell(new_markdown_cell(text), RUN, "A title")
    assert cell.source.splitlines()[0] == "# A title" and cell.source.count("A title") == 1
    assert "(../background/techniques.md)" in cell.source


def test_titles_are_short_and_tell_runs_apart():
    several = run_of("lab-bits", "lab_bits", ("lab:decoder-small-s1", "lab:decoder-small-s2"))
    paper = run_of("tiny-quantization-paper", "decoder_quantization")
    local = run_of("here", "encoder_gptq", ("path:/home/somebody/tiny",))
    runs = (run_of("tiny-quantization", "decoder_quantization"), paper, RUN, several, local)
    titles = [tables.title_of(SimpleNamespace(runs=runs), run) for run in runs]
    assert titles == [
        "Quantization · tiny", "Quantization, paper · tiny", "Pruning · tiny", "Bits per parameter · lab models", "GPTQ · tiny",
    ]  # fmt: skip


def test_contents_are_grouped_by_model():
    runs = (RUN, run_of("tiny-gptq", "decoder_gptq"), run_of("lab-bits", "lab_bits", ("lab:a", "lab:b")))
    chapters, pages = contents(SimpleNamespace(runs=runs))
    sections = [{"file": "results/tiny-pruning", "title": "Pruning"}, {"file": "results/tiny-gptq", "title": "GPTQ"}]
    assert chapters[0] == {"file": "results/of-tiny", "sections": sections}
    assert set(pages) == {"of-tiny.md", "of-lab-models-together.md"}
    assert "[GPTQ · tiny](tiny-gptq.ipynb)" in pages["of-tiny.md"]


def test_parts_without_anything_to_show_are_left_out_with_their_heading():
    def part(title, *outputs, tags=("optional",)):
        heading = new_markdown_cell(f"## {title}", metadata={"tags": list(tags)})
        return [heading, *(new_code_cell(title, outputs=list(o)) for o in outputs)]

    bar = new_output("stream", name="stderr", text="100%")
    cells = [
        new_code_cell("before"), *part("empty", [], []), *part("bar", [bar]), *part("shown", [], [figure_output()]),
        *part("always", [], tags=()), *part("last", []),
    ]  # fmt: skip
    left = ["before", "## shown", "shown", "shown", "## always", "always"]
    assert [c.source for c in without_empty_parts(cells)] == left


def test_a_table_survives_bars_and_line_breaks_and_lists_every_model():
    lines = tables.markdown_table([{"a": "x|y", "b": "two\nlines"}, {"a": 1, "b": None}]).splitlines()
    assert lines == ["| a | b |", "|---|---|", "| x\\|y | two lines |", "| 1 | None |"]
    text = tables.models_table()
    for entry in registry().values():
        assert f"`{entry.id}`" in text and entry.licence in text
        assert all(" ".join(note.split()[:5]) in text for note in entry.notes)


@pytest.fixture
def pages(tmp_path):
    """Pages of a study with one executed run, without its model."""
    book, output = tmp_path / "book", tmp_path / "runs" / "tiny-pruning-0.ipynb"
    book.mkdir()
    chapters = [{"file": "overview"}, {"file": "results/card"}]
    written = {"format": "jb-book", "root": "intro", "parts": [{"caption": "Results", "chapters": chapters}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(written))
    output.parent.mkdir()
    executed = nbformat.v4.new_notebook(cells=[new_markdown_cell("# Pruning a decoder"), new_code_cell("1 + 1")])
    nbformat.write(executed, output)
    return Pages(SimpleNamespace(name="tiny", runs=(run_of(output=output),)), book)


def test_what_is_missing_is_named_before_a_page_is_written(pages, results):
    pages.study.cells = [namedtuple("Cell", "key recipe")("0" * 24, "magnitude@all=0.5")]
    with pytest.raises(MissingData, match="no stored rows of magnitude@all=0.5"):
        pages.write()
    pages.study.runs[0].output.unlink()
    with pytest.raises(MissingData, match="run tiny-pruning of study tiny"):
        Pages(pages.study, pages.book).write()
    assert not pages.folder.exists()


def test_a_page_begins_with_its_installation_and_ends_with_its_provenance(pages, monkeypatch):
    monkeypatch.setattr(tables, "provenance", lambda run, results: "## Rows\n")
    monkeypatch.setattr("kc_utils.report.pages.table_of", lambda results: pd.DataFrame())
    made = pages._page(pages.study.runs[0])
    page = nbformat.reads(made["tiny-pruning.ipynb"], as_version=4)
    assert page.cells[0].metadata["tags"] == ["remove-cell"]
    assert (page.cells[1].source, page.cells[-1].source) == ("# Pruning · tiny", "## Rows\n")
    nbformat.validate(page)
