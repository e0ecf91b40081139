"""Results of record: what is recorded is read back, by key and by name; what is damaged or absent never looks fine."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kc_utils.errors import BadRequest, BadResult, MissingData
from kc_utils.places import reference_dir
from kc_utils.probing.probe import Probe
from kc_utils.study import cells as cells_module
from kc_utils.study import packing, record, recording, store
from kc_utils.study.cells import Cell
from kc_utils.study.store import evaluate
from tests.study.recorded import RECIPES, Small, computed, evaluated, file, recorded, registered, study
from tests.trained import PROBE

__all__ = ["computed", "evaluated", "recorded", "registered", "study"]  # fixtures


def test_what_is_recorded_is_read_back_by_key_and_by_name(recorded, evaluated, tmp_path):
    found = record.load("small")
    assert found.problems == () and list(found.cells) == recorded.cells
    assert str(tmp_path).encode() not in file(tmp_path).read_bytes(), "no place of this machine is recorded"
    for cell, before in evaluated.items():
        assert store.has(cell.key) and store.about(cell.key) is None
        for after in (store.read(cell.key), found.cells[cell].result(cell.recipe)):
            assert after.record["recorded"] == {"study": "small", "file": "small/tiny-decoder/worldfacts.parquet"}
            assert after.record["depends_on"] == before.record["depends_on"]
            assert after.record["made"] == before.record["made"]
            assert after.report == {k: v for k, v in before.report.items() if k not in ("per_matrix", "recipe")}
            expected = packing.rounded(before.rows)
            pd.testing.assert_frame_equal(after.rows, expected, rtol=0, atol=1e-6)
            assert (after.rows["correct"] == before.rows["correct"]).all()


def test_rounding_is_small_and_leaves_right_and_wrong_alone():
    rows = pd.DataFrame(
        {"fact": ["a", "b"], "correct": [True, False], "score": [-3.21987, np.nan], "margin": [1e-4, -1e-4],
         "scores": [[-3.21987, -3.21997], None], "rank": [1, 7]}
    )  # fmt: skip
    back = packing.unpacked(packing.packed(rows.assign(recipe="none"), {"model": "m"}), "x")
    assert abs(back["score"][0] - rows["score"][0]) <= packing.STEP / 2
    assert np.isnan(back["score"][1]) and back["scores"][1] is None
    assert (list(back["correct"]), list(back["rank"])) == ([True, False], [1, 7])
    assert packing.about(packing.packed(rows, {"model": "m"}), "x") == {"model": "m"}


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "other"])
def test_a_damaged_file_gives_no_rows_and_says_so(recorded, tmp_path, damage):
    path = file(tmp_path)
    content = path.read_bytes()
    assert record.load("small").files
    if damage == "gone":
        path.unlink()
    else:
        middle = len(content) // 2
        changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes({"flip": changed, "cut": content[:-9], "empty": b"", "other": b"PAR1" * 9}[damage])
    found = record.load("small")
    assert found.cells == {}
    (problem,) = found.problems
    assert "small/tiny-decoder/worldfacts.parquet" in problem and "git" in problem
    assert "\n" not in problem and str(tmp_path) not in problem
    assert not any(store.has(cell.key) or store.read(cell.key) for cell in recorded.cells)
    with pytest.raises(MissingData, match="not whole"):
        recording.record_study(recorded)


@pytest.mark.parametrize("text", ["", "null", "{}", '{"format": 2, "files": []}', '{"format": 1, "files": [{"file": "../x"}]}'])
def test_a_damaged_list_of_files_gives_none_and_says_so(recorded, tmp_path, text):
    (tmp_path / "reference" / "small" / "record.json").write_text(text)
    found = record.load("small")
    assert found.files == () and len(found.problems) == 1
    assert not store.has(recorded.cells[0].key)


@pytest.mark.parametrize("what", ["code", "versions"])
def test_rows_of_other_code_or_versions_are_read_by_name_alone(recorded, monkeypatch, what):
    cell = recorded.cells[1]
    other = {"_code_of": lambda *_: "other code"} if what == "code" else {"versions": lambda *_: {"torch": "1.0"}}
    assert record.load("small").otherwise() == {"code": 0, "versions": 0}
    for name, value in other.items():
        monkeypatch.setattr(cells_module, name, value)
    assert not store.has(replace(cell).key), "it does not stand for a computation with this code"
    found = record.load("small")
    assert len(found.cells[cell].result(cell.recipe).rows) == 2 * 30
    assert found.otherwise() == {**dict.fromkeys(("code", "versions"), 0), what: len(RECIPES)}
    assert any(text.startswith("torch ") for text in found.making()["versions"])


def test_a_second_recording_adds_and_keeps(registered, study, evaluated, monkeypatch, tmp_path):
    first = Small(study.cells[:2])
    done = recording.record_study(first)
    assert (done.files, done.cells, done.unfinished, done.dropped) == (1, 2, 0, 0)
    monkeypatch.setenv("KC_RESULTS", str(tmp_path / "elsewhere"))
    third, other = study.cells[2], Cell.of(registered, "none", Probe(relations=("capital",), limit=9))
    evaluate([third, other])
    done = recording.record_study(Small([*study.cells, other]))
    assert (done.files, done.cells, done.of, done.unfinished) == (2, 4, 4, 0)
    assert set(record.load("small").cells) == {*study.cells, other}
    names = {f.path.name for f in record.load("small").files}
    assert names == {"worldfacts.parquet", "worldfacts-2.parquet"}
    assert done.bytes < 200_000


def test_cells_that_todays_code_would_not_make_give_way(recorded, study, evaluated, monkeypatch, tmp_path):
    """Rows of two makings in one file would be compared with each other."""
    monkeypatch.setattr(cells_module, "_code_of", lambda *_: "other code")
    study = Small([replace(cell) for cell in study.cells])  # a cell keeps its key
    evaluate(study.cells[:1])
    done = recording.record_study(study)
    assert (done.cells, done.dropped, done.unfinished) == (1, 2, 2)
    assert list(record.load("small").cells) == study.cells[:1]


def test_a_file_without_the_uncompressed_model_is_not_written(study, monkeypatch):
    evaluate(study.cells[1:2])
    with pytest.raises(BadResult, match="uncompressed"):
        recording.record_study(study)
    assert record.studies(reference_dir()) == []


def test_what_lies_on_this_machine_alone_is_not_recorded(trained, study, tmp_path):
    with pytest.raises(BadRequest, match="this machine alone"):
        recording.record_study(Small([Cell.of(trained.id, "none", PROBE)]))
    text = Probe(facts=None, text=str(tmp_path / "mine.txt"))
    with pytest.raises(BadRequest, match="this machine alone"):
        recording.record_study(Small([Cell(study.cells[0].model, "none", text)]))
