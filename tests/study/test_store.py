"""The store: a cell is complete or absent, whatever happens to process or disk."""

import json
import multiprocessing
import os
import shutil
import sys

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
    write_bytes = places.Path.write_bytes

    def full(self, *args, **kwargs):
        if self.name == "cell.json":
            raise OSError(28, "No space left on device")
        return write_bytes(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(places.Path, "write_bytes", full)
        for where in (cell, other):
            with pytest.raises(MissingData, match="No space left"):
                store.write(where, ROWS, REPORT, MADE)
        assert {f: (results / f).read_bytes() for f in files(results)} == before
        patch.undo()
        patch.setattr(places.os, "replace", lambda *_: full(places.Path("cell.json")))
        with pytest.raises(MissingData, match="No space left"):
            store.write(cell, ROWS, REPORT, MADE)
    assert {f: (results / f).read_bytes() for f in files(results)} == before
    assert store.has(other.key) and not store.has(cell.key)


def write_own(cell, ready, which):
    """Store rows that only this process makes, at the same moment as the other does."""
    ready.wait()
    store.write(cell, ROWS.assign(score=float(which)), {"writer": which}, MADE)


@pytest.mark.parametrize("before", ["absent", "damaged"])
def test_of_two_writers_one_stays_whole_and_readers_see_nothing_else(cell, results, before):
    """Writers are processes. Readers look for as long as they write, as another machine would."""
    context, seen = multiprocessing.get_context("fork"), []
    for _ in range(20):
        shutil.rmtree(results, ignore_errors=True)
        if before == "damaged":
            store.write(cell, ROWS, REPORT, MADE)
            (store.folder_of(cell.key) / "rows.parquet").write_bytes(b"PAR1")
        ready = context.Barrier(3)
        writers = [context.Process(target=write_own, args=(cell, ready, which)) for which in (1, 2)]
        for writer in writers:
            writer.start()
        ready.wait()
        while any(writer.is_alive() for writer in writers):
            seen.append(store.read_local(cell.key))
        seen.append(store.read_local(cell.key))
        assert [writer.exitcode for writer in writers] == [0, 0]
        assert seen[-1] is not None
        assert files(results) == [f"cells/{cell.key[:2]}/{cell.key}/{file}" for file in ("cell.json", "rows.parquet")]
    assert all((found.rows["score"] == found.report["writer"]).all() for found in seen if found), "rows and record of one writer"
    assert None in seen and {found.report["writer"] for found in seen if found} <= {1, 2}


def test_no_step_of_writing_shows_a_part(cell):
    folder, seen, steps = store.folder_of(cell.key), set(), ["open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"]
    sys.addaudithook(lambda step, _: step in steps and seen.add(tuple(files(folder))))  # before each step
    try:
        store.write(cell, ROWS, REPORT, MADE)
    finally:
        steps.clear()  # a hook cannot be taken away
    assert seen == {(), ("cell.json", "rows.parquet")}


def test_the_first_of_two_evaluations_stays(cell):
    first = store.write(cell, ROWS, {"writer": 1}, MADE)
    second = store.write(cell, ROWS.assign(score=2.0), {"writer": 2}, MADE)
    assert second.record == first.record and second.rows["score"].equals(first.rows["score"])


@pytest.fixture
def computed(monkeypatch):
    """Recipes of the cells that are really computed."""
    seen, compute = [], store.compute
    monkeypatch.setattr(store, "compute", lambda cell, *more: seen.append(cell.recipe) or compute(cell, *more))
    return seen


def test_what_killed_jobs_left_is_removed_after_a_month(cell, results):
    store.write(cell, ROWS, REPORT, MADE)
    target = store.folder_of(cell.key)
    old, new = (target.with_name(f".{cell.key}.{name}") for name in ("old", "new"))
    for folder in (old, new, results / "batches" / "study" / "old"):
        folder.mkdir(parents=True)
        (folder / "half").touch()
    for folder in (old, target, results / "batches" / "study" / "old"):
        os.utime(folder, (0, 0))
    store.remove_leftovers()
    assert not old.exists() and not list(results.glob("batches/*/*"))
    assert new.exists() and store.about(cell.key)


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
