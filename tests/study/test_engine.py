"""Running studies: planned, computed once in several processes, resumed after a kill, failing in one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pandas as pd
import psutil
import pytest
import torch

import kc_utils
from kc_utils.errors import BadRequest, BadResult, KCError
from kc_utils.study import engine, execution, store
from kc_utils.study.engine import How, compute_study, run_study
from kc_utils.study.forks import ADDRESS
from kc_utils.study.store import evaluate
from kc_utils.study.studyfile import load_study
from tests.conftest import ROOT
from tests.study.conftest import GRID, PARAMETERS

SPARSITIES = [0.1, 0.5, 0.9]
CHILD = """
import os, time
from kc_utils.study.execution import end_with_parent
end_with_parent()
print(os.getpid(), flush=True)
time.sleep(600)
"""
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


@pytest.fixture
def many(study):
    return study(parameters={"sparsities": SPARSITIES, "limit": 120})


@pytest.fixture
def two(study):
    """Write a study of two runs that put two probes to the same compressed models; returns its path."""

    def write(**values):
        values = {"scopes": ["all"], "sparsities": [0.2, 0.5], "limit": 30} | values
        runs = {
            n: {"notebook": "decoder_pruning", "parameters": {**values, "protocols": [p]}}
            for n, p in (("a", "rank"), ("b", "cloze"))
        }
        return study(runs=runs)

    return write


def stored(results):
    """Content and time of every finished evaluation."""
    files = [file for file in results.glob("cells/*/*/cell.json") if not file.parent.name.startswith(".")]
    return {file.parent.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def start(study, environment, folder):
    command = [sys.executable, "-m", "kc_utils", "study", "run", study, "--cores", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {k: v for k, v in environment.items() if k != ADDRESS} | {"PYTHONPATH": str(ROOT)}  # a server of its own
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipes)


def kill_all(process):
    """SIGKILL to the command and to everything it started, kernels in sessions of their own included."""
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for member in family:
        if member.is_running():
            member.kill()
    process.communicate()
    psutil.wait_procs(family)


def test_a_killed_study_goes_on_where_it_was(many, project, results, environment, kc, in_process, monkeypatch):
    monkeypatch.chdir(project.root)
    process = start(many, environment, project.root)
    assert soon(lambda: stored(results) or process.poll() is not None)
    kill_all(process)
    before, cells = stored(results), load_study(many).cells
    assert 1 <= len(before) < len(cells), "the kill has to fall between the first and the last evaluation"
    assert not list(results.glob("runs/*/*.ipynb"))
    time.sleep(0.05)
    assert stored(results) == before, "nothing goes on after the kill"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    code, out, err = kc("study", "run", many, "--cores", "1")
    assert code == 0, err
    (output,) = results.glob("runs/test/*.ipynb")
    assert out.strip() == str(output)
    assert f"{len(cells)}/{len(cells)}" in err, "the progress bar counts evaluations"
    assert "960 rows" in nbformat.read(output, as_version=4).cells[-1].outputs[-1].text
    after = stored(results)
    assert len(after) == len(cells)
    assert {key: after[key] for key in before} == before, "finished ones are neither computed nor written again"
    elsewhere = results.with_name("elsewhere")
    with monkeypatch.context() as patch:
        patch.setenv("KC_RESULTS", str(elsewhere))
        evaluate(cells)
    torch.set_num_threads(threads)
    for key in after:
        paths = (folder / "cells" / key[:2] / key / "rows.parquet" for folder in (results, elsewhere))
        pd.testing.assert_frame_equal(*map(pd.read_parquet, paths), check_exact=True)


def test_two_engines_and_a_killed_job_lose_nothing(many, project, results, environment):
    """Two engines share one store. A job of the first is killed: it is done again, from where it was."""
    first, second = (start(many, environment, project.root) for _ in range(2))

    def jobs():
        family = psutil.Process(first.pid).children(recursive=True)
        return [p for p in family if "evaluations" in (p.as_dict(["cmdline"])["cmdline"] or ())]  # None of a zombie

    assert soon(lambda: jobs() or first.poll() is not None)
    jobs()[0].kill()
    for engine_ in (first, second):
        _, err = engine_.communicate()
        assert engine_.returncode == 0, err
    cells = load_study(many).cells
    assert len(stored(results)) == len(cells) == sum(store.about(cell.key) is not None for cell in cells)
    assert len(list(results.glob("runs/test/*.ipynb"))) == 1
    assert not list(results.glob("batches/*/*")), "what jobs began with is removed"


def test_the_plan_lists_every_evaluation_once_and_learns_from_finished_ones(many):
    loaded = load_study(many)
    rows = engine.plan(loaded)
    assert [r["recipe"] for r in rows] == ["none", *(f"magnitude@all={s}" for s in SPARSITIES)]
    assert all(r["run"] == "a-run" and not r["done"] and r["estimate_s"] > 0 for r in rows)
    assert {r["questions"] for r in rows} == {120 * 2}
    cell = loaded.cells[1]
    about = evaluate([cell])[cell].record
    (store.folder_of(cell.key) / "cell.json").write_text(
        json.dumps(about | {"made": about["made"] | {"seconds": {"probe": 1e4}}})
    )
    planned = {r["recipe"]: r for r in engine.plan(loaded)}
    assert (planned[cell.recipe]["done"], planned[cell.recipe]["estimate_s"]) == (True, 0.0)
    assert planned["none"]["estimate_s"] > 100 * rows[0]["estimate_s"], "evaluations were slower than expected"


def test_every_compressed_model_is_made_once_for_all_probes(two, in_process):
    study = load_study(two())
    done = compute_study(study, How(2))
    assert (done.cells, done.before, done.failed) == (6, 0, {})
    loads = [store.about(cell.key)["made"]["seconds"]["load"] for cell in study.cells]
    assert sum(seconds > 0 for seconds in loads) == 3, "each compressed model is made for the first of its two probes"
    again = compute_study(study, How(2))
    assert (again.cells, again.before) == (6, 6)


def test_a_part_of_a_study(two, kc, in_process, project, monkeypatch):
    monkeypatch.chdir(project.root)
    study = load_study(two())
    part = ("--models", "path:*", "--recipes", "none", "--recipes", "*=0.2")
    code, out, err = kc("study", "compute", two(), "--cores", "1", *part)
    assert (code, out) == (0, "4 evaluations of " + two() + ", 4 of them computed now\n"), err
    assert [cell.recipe for cell in study.cells if not store.has(cell.key)] == ["magnitude@all=0.5"] * 2
    with pytest.raises(BadRequest, match=r"no model of study .* is 'lab:\*'; it has path:"):
        compute_study(study, How(1), models=["lab:*"])
    code, _, err = kc("study", "compute", two(), "--recipes", "*gptq*")
    assert code == 2 and "no recipe of study" in err and "it has none, magnitude@all=0.2, magnitude@all=0.5" in err


@pytest.fixture
def broken(trained, tmp_path):
    """A model that holds NaN: found only when it is compressed."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(trained.folder, tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return f"path:{folder}"


def test_what_fails_is_recorded_in_one_line_and_the_rest_is_kept(
    broken, study, project, trained, results, in_process, kc, monkeypatch
):
    monkeypatch.chdir(project.root)
    path = study(parameters={"model": broken})
    says = r"none of 2 evaluations could be computed; first, path:.*up_proj\.weight: 1 of"
    with pytest.raises(BadResult, match=says) as error:
        run_study(path, How(1))
    assert "\n" not in str(error.value) and str(error.value).count("broken") == 1
    assert stored(results) == {}
    code, out, _ = kc("study", "status", path)
    assert (code, out.count("up_proj.weight")) == (0, 1) and "2 evaluations: 0 done, 0 running, 0 waiting, 2 failed." in out
    models = {"bad": broken, "good": trained.id}
    runs = {n: {"notebook": "decoder_pruning", "parameters": {"model": m}} for n, m in models.items()}
    path = study(runs=runs)
    before = {f: f.read_bytes() for f in results.glob("failed/*/*.json")}
    with pytest.raises(BadResult, match=r"1 of 2 runs failed; first, bad: .*broken.*up_proj"):
        run_study(path, How(1))
    assert [run.output.is_file() for run in load_study(path).runs] == [False, True]
    assert {f: f.read_bytes() for f in results.glob("failed/*/*.json")} == before, "what failed is not tried again"
    with pytest.raises(BadResult, match=r"1 of 2 runs failed"):
        run_study(path, How(1, again=True))
    assert all(f.read_bytes() != content for f, content in before.items()), "unless it is asked for"
    odd = {"odd": {"notebook": project("decoder_odd", PARAMETERS, GRID, "raise ValueError('in the last cell')")}}
    says = r"1 of 2 runs failed; first, odd: decoder_odd: ValueError: in the last cell .*failed\.ipynb"
    with pytest.raises(BadResult, match=says):
        run_study(study(runs={"good": runs["good"]} | odd), How(1))
    assert len(stored(results)) == 2


def test_a_recipe_that_fails_does_not_stop_its_notebook(study, trained, results, in_process):
    path = study(parameters={"method": "rtn", "sparsities": [4, 3]})
    loaded = load_study(path)
    store.write_failure(loaded.cells[1], "a matrix is singular")
    done = compute_study(loaded, How(1))
    assert done.lines == [f"{trained.id}, {loaded.cells[1].recipe}: a matrix is singular"]
    rows = kc_utils.evaluate(trained.id, [c.recipe for c in loaded.cells], relations="capital", limit=5)
    assert sorted(rows["recipe"].unique()) == ["none", loaded.cells[2].recipe]
    assert rows.attrs["failed"] == {f"{trained.id}, {loaded.cells[1].recipe}": "a matrix is singular"}


def test_a_notebook_that_fails_leaves_no_output_and_says_why(project, tmp_path):
    output = tmp_path / "out" / "done.ipynb"
    source = "from kc_utils.errors import BadResult; raise BadResult('did too little')"
    notebook = project.root / "notebooks" / f"{project('own', 'x = 1', 'recipes = []', source)}.ipynb"
    with pytest.raises(KCError, match="^did too little$"):
        execution.execute(notebook, {}, output)
    assert not output.exists()
    assert nbformat.read(tmp_path / "out" / "done.failed.ipynb", as_version=4).cells


def test_a_process_ends_with_a_parent_that_is_killed(tmp_path, in_project):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(in_project)}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    assert psutil.pid_exists(worker)
    parent.kill()
    parent.communicate()
    assert soon(lambda: not running(worker))


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def soon(holds, seconds: float = 600) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
