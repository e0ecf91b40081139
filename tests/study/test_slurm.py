"""A study on a Slurm cluster of one node: what a cluster computes and loses, and the profiles that lead to one."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch

from kc_utils.errors import BadRequest
from kc_utils.study.engine import How
from kc_utils.study.store import evaluate
from kc_utils.study.studyfile import load_study
from tests.conftest import ROOT
from tests.study.slurm_node import DAEMONS, Node, program
from tests.study.test_engine import soon, stored

QUICK = """
slurm-init-seconds-before-status-checks: 1
"""
ALONE = """
import sys
from pathlib import Path
from tests.study.slurm_node import Node
node = Node(Path(sys.argv[1]))
print("started", flush=True)
sys.stdin.read()
"""
needs_slurm = pytest.mark.skipif(not all(map(program, DAEMONS)), reason="Slurm is not installed: apt-get install slurm-wlm")
needs_plugin = pytest.mark.skipif(
    not find_spec("snakemake_executor_plugin_slurm"), reason="Snakemake's plugin is not installed: pip install -e .[cluster]"
)


@pytest.fixture
def node(tmp_path, monkeypatch):
    found = Node(tmp_path / "slurm")
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    assert soon(lambda: found.state == "idle")
    yield found
    found.stop()


@pytest.fixture
def profile(tmp_path):
    """The repository's profile, with the shortest waits that Snakemake's plugin allows."""
    folder = shutil.copytree(ROOT / "profiles" / "slurm", tmp_path / "profile")
    with (folder / "config.yaml").open("a", encoding="utf-8") as file:
        file.write(QUICK)
    return folder


@needs_slurm
@needs_plugin
def test_a_study_on_a_cluster_that_loses_its_node(node, profile, study, project, results, environment, monkeypatch):
    path = study(parameters={"sparsities": [0.1, 0.5, 0.9], "limit": 150})
    cells = load_study(path).cells
    command = [sys.executable, "-m", "kc_utils", "study", "run", path, "--profile", str(profile)]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    how = {"cwd": project.root, "env": environment | node.environment | {"PYTHONPATH": paths}, "text": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how) as process:
        assert soon(lambda: stored(results) or process.poll() is not None)
        node.fail()
        before = stored(results)
        assert 1 <= len(before) < len(cells), "the node has to be lost between the first and the last evaluation"
        assert node.state.startswith("down")
        node.start()
        out, err = process.communicate()
    assert process.returncode == 0, err + (results / "logs" / "test.log").read_text()
    assert Path(out.strip()).is_file(), "the notebook was executed on the cluster, too"
    after = stored(results)
    assert len(after) == len(cells)
    assert {key: after[key] for key in before} == before, "finished evaluations are neither computed nor written again"
    states = node.says("squeue", "--states=all", "--noheader", "--format=%T").split()
    assert states.count("COMPLETED") == 2 and len(states) == 3, "a lost job, its second try, and the notebook"
    again = subprocess.run(command, capture_output=True, **how)
    assert (again.returncode, again.stdout) == (0, out), again.stderr
    assert len(node.says("squeue", "--states=all", "--noheader").splitlines()) == 3, "no job for what is there"
    monkeypatch.setenv("KC_RESULTS", str(results.with_name("elsewhere")))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    evaluate(cells)
    torch.set_num_threads(threads)
    for cell in cells:
        here, there = (r / "cells" / cell.key[:2] / cell.key / "rows.parquet" for r in (results.with_name("elsewhere"), results))
        pd.testing.assert_frame_equal(pd.read_parquet(here), pd.read_parquet(there), check_exact=True)


@needs_slurm
def test_the_cluster_ends_with_a_killed_test(tmp_path):
    command = [sys.executable, "-c", ALONE, str(tmp_path / "slurm")]
    how = {"env": os.environ | {"PYTHONPATH": str(ROOT)}, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **how) as process:
        process.stdout.readline()
        (serving,) = psutil.Process(process.pid).children()
        assert soon(lambda: {p.name() for p in serving.children(recursive=True)} >= set(DAEMONS))
        left = [serving, *serving.children(recursive=True)]
        process.kill()
    assert soon(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in left))


@needs_plugin
@pytest.mark.parametrize("name", ["local", "slurm", "kubernetes"])
def test_the_profiles_list_jobs_with_what_they_need(name, kc, study, project, monkeypatch):
    monkeypatch.chdir(project.root)
    shutil.copytree(ROOT / "profiles", project.root / "profiles")
    code, out, err = kc("study", "run", study(parameters={"model": "smollm2-135m"}), "--profile", name, "--dry-run", "--json")
    assert code == 0, err
    jobs = json.loads(out)
    assert [job["evaluations"] for job in jobs] == [1, 1], "a large model has a job for each recipe, and each core one"
    assert all(job["mem_mb"] > 2000 and job["runtime"] >= 10 and job["gpu"] == 1 for job in jobs)


def test_what_a_profile_lacks_is_said(tmp_path):
    (tmp_path / "config.yaml").write_text("executor: no-such\n")
    with pytest.raises(BadRequest, match=r"needs snakemake-executor-plugin-no-such: pip install .*\[cluster\]"):
        _ = How(profile=str(tmp_path)).settings
    with pytest.raises(BadRequest, match="no profile 'nowhere': choose"):
        _ = How(profile="nowhere").settings
