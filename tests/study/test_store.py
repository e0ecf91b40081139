"""The store: a cell is complete or absent, whatever happens to process or disk."""

import json
import os
import threading

import pandas as pd
import pytest
import torch

from kc_utils import places
from kc_utils.errors import MissingData
from kc_utils.study import store
from kc_utils.study.cells import Cell
from kc_utils.study.store import evaluate
from tests.trained import PROBE

ROWS = pd.DataFrame({"fact": ["a", "b"], "correct": [True, False], "score": [0.5, float("nan")], "scores": [[1.0], [2.0]]})
REPORT = {"sparsity": 0.5}
MADE = {"seconds": {"load": 1.0}}


@pytest.fixture
def cell(trained, results):
    return Cell.of(trained.id, "none", PROBE)


@pytest.fixture
def other(trained):
    return Cell.of(trained.id, "magnitude@all=0.9", PROBE)


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("file", ["rows.parquet", "cell.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "null"])
def test_a_damaged_cell_counts_as_absent(cell, file, damage):
    store.write(cell, ROWS, REPORT, MADE)
    path = store.folder_of(cell.key) / file
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {"flip": bytes([content[0] ^ 1]) + content[1:], "cut": content[:-20], "empty": b"", "null": b"null"}[damage]
        )
    assert not store.has(cell.key) and store.read(cell.key) is None
    store.write(cell, ROWS, REPORT, MADE)
    assert store.has(cell.key), "and is replaced by the next result"


def test_a_full_disk_leaves_earlier_results_untouched(cell, other, results, monkeypatch):
    store.write(other, ROWS, REPORT, MADE)
    before = {f: (results / f).read_bytes() for f in files(results)}
    write_text = places.Path.write_text

    def full(self, *args, **kwargs):
        if self.name == "cell.json":
            raise OSError(28, "No space left on device")
        return write_text(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(places.Path, "write_text", full)
        for where in (cell, other):
            with pytest.raises(MissingData, match="No space left"):
                store.write(where, ROWS, REPORT, MADE)
        assert {f: (results / f).read_bytes() for f in files(results)} == before
        patch.undo()
        patch.setattr(places.os, "replace", lambda *_: full(places.Path("cell.json")))
        with pytest.raises(MissingData, match="No space left"):
            store.write(other, ROWS, REPORT, MADE)
    assert {f: (results / f).read_bytes() for f in files(results)} == before
    assert store.has(other.key) and not store.has(cell.key)


def test_a_lock_is_held_by_one_at_a_time(results):
    inside, order = threading.Event(), []

    def second():
        inside.wait()
        with store.lock("k"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with store.lock("k"):
        inside.set()
        thread.join(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.fixture
def computed(monkeypatch):
    """Recipes of the cells that are really computed."""
    seen, compute = [], store.compute
    monkeypatch.setattr(store, "compute", lambda cell, *more: seen.append(cell.recipe) or compute(cell, *more))
    return seen


def test_a_stored_cell_is_not_computed_again(cell, other, computed):
    first = evaluate([cell, other, cell])
    assert computed == ["none", "magnitude@all=0.9"]
    again = evaluate([other, cell])
    assert computed == ["none", "magnitude@all=0.9"]
    assert again[other].record == first[other].record
    assert store.has(cell.key) and store.has(other.key)
    assert first[other].report["sparsity"] == pytest.approx(0.9, abs=1e-4)
    assert first[other].rows["correct"].mean() < first[cell].rows["correct"].mean()
    (store.folder_of(cell.key) / "rows.parquet").write_bytes(b"PAR1")
    repaired = evaluate([cell, other])
    assert computed == ["none", "magnitude@all=0.9", "none"], "what is damaged is computed again"
    pd.testing.assert_frame_equal(repaired[cell].rows, first[cell].rows)


def test_provenance_is_stored_and_names_no_one(cell, monkeypatch):
    monkeypatch.setenv("KC_DEVICE", "cpu")
    made = evaluate([cell])[cell].record["made"]
    assert made["device"] == "cpu"
    assert made["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert set(made["seconds"]) == {"load", "compress", "probe"}
    assert made["hardware"]["cores"] >= 1
    assert os.uname().nodename not in json.dumps(made["hardware"])
