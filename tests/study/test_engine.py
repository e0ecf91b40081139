"""Running studies: planned, resumed after a kill without repeating or losing a cell, failing in one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest
import yaml

from kc_utils.errors import BadResult, KCError, MissingData
from kc_utils.study import engine, store
from kc_utils.study.evaluate import evaluate
from kc_utils.study.studyfile import load_study
from tests.conftest import ROOT

SPARSITIES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def write_study(path, model, **parameters):
    values = {"scopes": ["all"], "sparsities": SPARSITIES, "relations": ["capital"], "limit": 200, **parameters}
    content = {
        "title": "Test",
        "runs": {"tiny": {"notebook": "decoder_pruning", "parameters": {"model": model, **values}}},
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture
def study(trained, tmp_path, in_project, results):
    return write_study(tmp_path / "tiny.yaml", trained.id)


def stored(results):
    """Content and time of every finished cell."""
    return {
        file.parent.name: (file.read_bytes(), file.stat().st_mtime_ns)
        for file in results.glob("cells/*/*/cell.json")
        if not file.parent.name.startswith(".")
    }


def start(study, environment):
    command = [sys.executable, "-m", "kc_utils", "study", "run", study, "--cores", "1"]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_all(process):
    """SIGKILL to the command and to everything it started, kernels in sessions of their own included."""
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for member in family:
        if member.is_running():
            member.kill()
    process.communicate()
    psutil.wait_procs(family, timeout=10)


def test_a_killed_study_goes_on_where_it_was(study, results, environment, tmp_path):
    process = start(study, environment)
    deadline = time.monotonic() + 120
    while not stored(results) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    kill_all(process)
    before = stored(results)
    cells = load_study(study).cells
    assert 1 <= len(before) < len(cells), "the kill has to fall between the first and the last cell"
    assert not list(results.glob("runs/*/*.ipynb"))
    time.sleep(0.05)
    assert stored(results) == before, "nothing goes on after the kill"

    # beside the second start, an undisturbed computation elsewhere, with the threads that a run has
    script = (
        "import sys; from kc_utils.study.studyfile import load_study; from kc_utils.study.evaluate import evaluate\n"
        "evaluate(load_study(sys.argv[1]).cells)"
    )
    elsewhere = tmp_path / "elsewhere"
    undisturbed = subprocess.Popen(
        [sys.executable, "-c", script, study],
        cwd=ROOT,
        env=environment | {"KC_RESULTS": str(elsewhere)},
        stderr=subprocess.DEVNULL,
    )
    again = start(study, environment)
    out, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert undisturbed.wait(timeout=240) == 0
    (output,) = results.glob("runs/tiny/*.ipynb")
    assert out.strip() == str(output)
    assert f"{len(cells)}/{len(cells)}" in err, "the progress bar counts cells"
    after = stored(results)
    assert len(after) == len(cells)
    assert {key: after[key] for key in before} == before, "finished cells are neither computed nor written again"
    for key in after:
        rows, others = (
            pd.read_parquet(folder / "cells" / key[:2] / key / "rows.parquet") for folder in (results, elsewhere)
        )
        pd.testing.assert_frame_equal(rows, others, check_exact=True)


def test_the_plan_lists_every_cell_once_and_learns_from_finished_ones(study):
    loaded = load_study(study)
    rows = engine.plan(loaded)
    assert [r["recipe"] for r in rows] == ["none", *(f"magnitude@all={s}" for s in SPARSITIES)]
    assert all(r["run"] == "tiny" and not r["done"] and r["estimate_s"] > 0 for r in rows)
    assert {r["questions"] for r in rows} == {200 * 2}
    cell = loaded.cells[1]
    record = evaluate([cell], show_progress=False)[cell].record
    planned = {r["recipe"]: r for r in engine.plan(loaded)}
    assert (planned[cell.recipe]["done"], planned[cell.recipe]["estimate_s"]) == (True, 0.0)
    spent = sum(record["made"]["seconds"].values())
    assert planned["none"]["estimate_s"] == pytest.approx(spent, abs=0.06)


def test_a_finished_study_starts_nothing(study, monkeypatch):
    loaded = load_study(study)
    for run in loaded.runs:
        run.output.parent.mkdir(parents=True)
        run.output.write_text("{}")
    monkeypatch.setattr(engine.subprocess, "Popen", lambda *_, **__: pytest.fail("nothing to start"))
    assert engine.run_study(study, show_progress=False) == loaded
    engine.execute_run(study, "tiny")


@pytest.fixture
def broken(trained, tmp_path, in_project, results):
    """A study whose model holds NaN: found only when its run is under way."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(trained.folder, tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return write_study(tmp_path / "broken.yaml", f"path:{folder}", sparsities=[0.5], limit=3)


def test_a_failing_run_says_what_stopped_it_in_one_line(broken, results, monkeypatch):
    with pytest.raises(KCError, match=r"model\.layers\.0\.mlp\.up_proj\.weight: 1 of"):
        engine.execute_run(broken, "tiny")
    assert stored(results) == {}
    assert not load_study(broken).run("tiny").output.is_file()
    # what Snakemake does with a failed job is of no interest here
    popen = subprocess.Popen
    monkeypatch.setattr(engine.subprocess, "Popen", lambda _, **rest: popen([sys.executable, "-c", ""], **rest))
    monkeypatch.setattr(engine, "POLL_SECONDS", 0.05)
    with pytest.raises(BadResult, match=r"1 of 1 runs failed; first, tiny: .*up_proj\.weight: 1 of") as error:
        engine.run_study(broken, cores=1, show_progress=False)
    assert "\n" not in str(error.value)


def test_results_that_cannot_be_written(study, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("KC_RESULTS", str(tmp_path / "file" / "results"))
    with pytest.raises(MissingData, match=r"cannot write .*KC_RESULTS"):
        engine.run_study(study, cores=1, show_progress=False)


def test_an_old_error_is_not_told_again(study, monkeypatch):
    run = load_study(study).run("tiny")
    report = engine.error_file(run.output)
    report.parent.mkdir(parents=True)
    report.write_text("tiny: something of yesterday\n")
    monkeypatch.setattr(engine, "execute", lambda *_: run.output.write_text("{}"))
    engine.execute_run(study, "tiny")
    assert run.output.is_file()
    assert not report.exists()


def test_cells_know_what_made_them(study):
    cell = load_study(study).cells[0]
    evaluate([cell], show_progress=False)
    record = json.loads((store.folder_of(cell.key) / "cell.json").read_text())
    assert record["made"]["seconds"].keys() == {"load", "compress", "probe"}
    assert record["made"]["threads"] >= 1
