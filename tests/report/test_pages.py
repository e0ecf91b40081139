"""From executed notebooks to pages: labels, alternative texts, nothing of the machine alone, nothing stale."""

from collections import namedtuple
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from kc_utils.errors import BadResult, MissingData
from kc_utils.probing.probe import Probe
from kc_utils.report import fragments
from kc_utils.report.fragments import models_table
from kc_utils.report.markdown import markdown_table
from kc_utils.report.pages import Pages, in_order, page_cell, without_empty_parts
from kc_utils.study.cells import Cell

RUN = SimpleNamespace(
    id="tiny-pruning", template="decoder_pruning", values={}, parameters=SimpleNamespace(asked_models=("tiny-model",))
)
FIGURE = {"name": "accuracy", "caption": "What is drawn.", "alt": "Right answers: 5 at 0.", "width": "100%"}


def figure_output():
    return new_output(
        "display_data", data={"image/png": "iVBORw0KGgo=", "text/plain": "x"}, metadata={"kc": dict(FIGURE)}
    )


def test_a_figure_gets_a_label_of_its_run_a_caption_and_words():
    first = page_cell(new_code_cell("show()", outputs=[figure_output()]), RUN, "A title")
    other = page_cell(
        new_code_cell("show()", outputs=[figure_output()]),
        SimpleNamespace(**{**vars(RUN), "id": "tiny-other"}),
        "A title",
    )
    shown = first.metadata["mystnb"]
    assert FIGURE["caption"] in shown["figure"]["caption"]
    assert FIGURE["alt"] in shown["image"]["alt"]
    assert "tiny-pruning" in shown["figure"]["name"]
    assert shown["figure"]["name"] != other.metadata["mystnb"]["figure"]["name"]
    assert "kc" not in first.outputs[0].metadata


def test_a_figure_beside_another_output_would_share_its_caption_and_is_refused():
    cell = new_code_cell("show()", outputs=[figure_output(), new_output("stream", name="stdout", text="more")])
    with pytest.raises(BadResult, match="accuracy"):
        page_cell(cell, RUN, "A title")


def test_progress_bars_and_counters_are_left_out():
    cell = new_code_cell("run()", execution_count=3, outputs=[new_output("stream", name="stderr", text="100%")])
    cell.metadata["papermill"] = {"duration": 1.0}
    done = page_cell(cell, RUN, "A title")
    assert done.outputs == []
    assert done.execution_count is None
    assert "papermill" not in done.metadata


def test_what_the_reader_does_not_run_is_hidden():
    injected = page_cell(new_code_cell("x = 1", metadata={"tags": ["injected-parameters"]}), RUN, "A title")
    assert "remove-input" in injected.metadata["tags"]
    parameters = page_cell(new_code_cell("x = 1", metadata={"tags": ["parameters", "hide-input"]}), RUN, "A title")
    assert parameters.metadata["tags"] == ["hide-input"]


def test_the_title_names_the_model_and_links_stay_inside_the_book():
    cell = page_cell(
        new_markdown_cell("# Pruning\n\n[t](../book/background/techniques.md)\n\n# Not this"), RUN, "A title"
    )
    assert cell.source.splitlines()[0] == "# A title"
    assert "(../background/techniques.md)" in cell.source
    assert cell.source.count("A title") == 1


def test_decoders_come_first():
    runs = [SimpleNamespace(template=t) for t in ("encoder_decoder_pruning", "encoder_pruning", "decoder_pruning")]
    assert [r.template for r in in_order(runs)] == ["decoder_pruning", "encoder_pruning", "encoder_decoder_pruning"]


def test_a_table_survives_bars_and_line_breaks():
    lines = markdown_table([{"a": "x|y", "b": "two\nlines"}, {"a": 1, "b": None}]).splitlines()
    assert lines == ["| a | b |", "|---|---|", "| x\\|y | two lines |", "| 1 | None |"]


def test_every_model_and_every_note_is_listed():
    from kc_utils.models.registry import registry

    text = models_table()
    for entry in registry().values():
        assert f"`{entry.id}`" in text
        assert entry.licence in text
        assert all(" ".join(note.split()[:5]) in text for note in entry.notes)


@pytest.fixture
def pages(tmp_path):
    """Pages of a study with one executed run, without its models: `_put` and what is stale can be seen."""
    book = tmp_path / "book"
    book.mkdir()
    contents = {
        "format": "jb-book", "root": "intro",
        "parts": [{"caption": "Results", "chapters": [{"file": "overview"}, {"file": "results/card"}]}],
    }  # fmt: skip
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(contents))
    output = tmp_path / "runs" / "tiny-pruning-0.ipynb"
    output.parent.mkdir()
    executed = nbformat.v4.new_notebook()
    executed.cells = [new_markdown_cell("# Pruning"), new_code_cell("hidden()", metadata={"tags": ["remove-cell"]})]
    nbformat.write(executed, output)
    run = SimpleNamespace(**vars(RUN), output=output, cells=[])
    return Pages(SimpleNamespace(name="tiny", runs=(run,)), book)


def test_a_run_that_was_not_executed_is_named(pages):
    pages.study.runs[0].output.unlink()
    with pytest.raises(MissingData, match="run tiny-pruning of study tiny"):
        pages.write()
    assert not pages.folder.exists()


def test_contents_hold_the_runs_between_written_and_generated_pages(pages):
    part = yaml.safe_load(pages._contents())["parts"][0]
    assert [c["file"] for c in part["chapters"]] == ["overview", "results/tiny-pruning", "results/card"]


def test_pages_are_only_touched_when_they_change_and_stale_ones_go(pages):
    pages._put("a.md", b"one")
    stamp = (pages.folder / "a.md").stat().st_mtime_ns
    (pages.folder / "rows").mkdir()
    (pages.folder / "rows" / "old.parquet").write_bytes(b"")
    pages._put("a.md", b"one")
    pages._remove_stale()
    assert (pages.folder / "a.md").stat().st_mtime_ns == stamp
    assert [p.name for p in pages.folder.rglob("*")] == ["a.md"]
    pages._put("a.md", b"two")
    assert (pages.folder / "a.md").read_bytes() == b"two"


def test_a_page_has_the_title_of_its_notebook_and_model_and_its_rows(pages, monkeypatch, in_project):
    monkeypatch.setattr(fragments, "rows_and_provenance", lambda run, results: "## Rows\n")
    pages._page(pages.study.runs[0], {})
    page = nbformat.read(pages.folder / "tiny-pruning.ipynb", as_version=4)
    assert page.cells[0].metadata["tags"] == ["remove-cell"]  # what the notebook installs where it is downloaded to
    assert page.cells[1].source == "# Pruning a decoder: tiny-model"
    assert page.cells[-1].source == "## Rows\n"
    nbformat.validate(page)


def test_two_runs_of_one_notebook_and_model_have_titles_of_their_own(in_project):
    other = SimpleNamespace(**{**vars(RUN), "id": "tiny-random"})
    alone, both = SimpleNamespace(runs=(RUN,)), SimpleNamespace(runs=(RUN, other))
    assert fragments.page_title(alone, RUN) == "Pruning a decoder: tiny-model"
    assert fragments.page_title(both, RUN) != fragments.page_title(both, other)
    assert "tiny-random" in fragments.page_title(both, other)


def test_rows_that_are_gone_are_named(pages, monkeypatch):
    gone = namedtuple("Cell", "key recipe")("0" * 24, "magnitude@all=0.5")
    pages.study.cells = [gone]
    monkeypatch.setattr("kc_utils.report.pages.store.read", lambda key: None)
    with pytest.raises(MissingData, match="no stored rows of magnitude@all=0.5"):
        pages.write()


def test_a_study_of_neither_pruning_nor_quantization_has_a_landing_text():
    run = SimpleNamespace(template="decoder_final_layer", parameters=SimpleNamespace(asked_models=("tiny-model",)))
    text, pictures = fragments.landing_figure(SimpleNamespace(name="tiny", runs=(run,)), {})
    assert "tiny" in text
    assert pictures == {}


def test_parts_without_anything_to_show_are_left_out_with_their_heading():
    def part(title, *outputs, tags=("optional",)):
        heading = new_markdown_cell(f"## {title}", metadata={"tags": list(tags)})
        return [heading, *(new_code_cell(title, outputs=list(o)) for o in outputs)]

    bar = new_output("stream", name="stderr", text="100%")
    cells = [
        new_code_cell("before"), *part("empty", [], []), *part("bar", [bar]), *part("shown", [], [figure_output()]),
        *part("always", [], tags=()), *part("last", []),
    ]  # fmt: skip
    kept = without_empty_parts(cells)
    assert [c.source for c in kept] == ["before", "## shown", "shown", "shown", "## always", "always"]
    assert all("tags" not in page_cell(c, RUN, "A title").metadata for c in kept if c.cell_type == "markdown")


def test_a_page_of_a_local_folder_does_not_say_where_it_lies(in_project):
    run = SimpleNamespace(**{**vars(RUN), "parameters": SimpleNamespace(asked_models=("path:/home/somebody/tiny",))})
    assert fragments.page_title(SimpleNamespace(runs=(run,)), run) == "Pruning a decoder: tiny"


def test_a_page_over_several_models_names_their_number(in_project):
    several = SimpleNamespace(asked_models=("lab:decoder-small-s1", "lab:decoder-small-s2"))
    run = SimpleNamespace(**{**vars(RUN), "id": "lab-bits", "template": "lab_bits", "parameters": several})
    assert fragments.page_title(SimpleNamespace(runs=(run,)), run) == "Knowledge in bits: 2 models"


def test_pages_over_several_models_come_last():
    runs = [SimpleNamespace(template=t) for t in ("lab_bits", "encoder_decoder_pruning")]
    assert [r.template for r in in_order(runs)] == ["encoder_decoder_pruning", "lab_bits"]


def test_rows_of_several_models_name_model_recipe_and_probe(pages):
    probes = {"taught": Probe(facts="lab", protocols=("cloze",)), "rule": Probe(facts="lab:rule", protocols=("rank",))}
    cells = [Cell(f"lab:decoder-small-s{n}", "none", probe) for n in (1, 2) for probe in probes.values()]
    parameters = SimpleNamespace(asked_models=("lab:decoder-small-s1", "lab:decoder-small-s2"), probes=probes)
    run = SimpleNamespace(id="lab-bits", parameters=parameters, cells=cells)
    results = {
        cell: SimpleNamespace(rows=pd.DataFrame({"fact": ["f1", "f2"], "correct": [True, False]})) for cell in cells
    }
    pages._rows(run, results)
    rows = pd.read_parquet(pages.folder / "rows" / "lab-bits.parquet")
    assert list(rows.columns[:3]) == ["model", "recipe", "asked"]
    assert len(rows) == 8
    assert set(rows["model"]) == {"lab:decoder-small-s1", "lab:decoder-small-s2"}
    assert set(rows["asked"]) == set(probes)
