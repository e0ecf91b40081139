import os
import sys
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from kc_utils.study.forks import warm_server

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # so that `tests.trained` is found by `pytest`

SLOW = ("test_smoke.py", "test_engine.py", "test_session.py", "test_contributing.py", "test_lab_notebooks.py", "test_slurm.py")

settings.register_profile("shared machine", deadline=None)  # one slow example says nothing here
settings.load_profile("shared machine")


def pytest_configure(config):
    """Let the kernels of all processes of a parallel run be forks of one."""
    if getattr(config.option, "numprocesses", None):
        kernels = warm_server(wait=False)
        kernels.__enter__()
        config.add_cleanup(lambda: kernels.__exit__(None, None, None))


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, so that no process is left alone with them at the end."""
    items.sort(key=lambda item: SLOW.index(item.path.name) if item.path.name in SLOW else len(SLOW))


@pytest.fixture(scope="session")
def trained_as(tmp_path_factory, worker_id):
    """Of a family, a tiny model that knows 30 capitals, as a folder, trained when first needed, once for all processes of this
    run; do not change it."""
    from tests.trained import PROBE, TRAIN, Trained

    own = tmp_path_factory.getbasetemp()
    home = own if worker_id == "master" else own.parent

    @cache
    def train(family: str):
        folder = home / f"tiny-{family}"
        with FileLock(f"{folder}.lock"):
            return Trained(folder, PROBE.factset()) if folder.exists() else TRAIN[family](folder)

    return train


@pytest.fixture(scope="session")
def trained(trained_as):
    """The tiny decoder."""
    return trained_as("decoder")


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An empty results folder of this test's own."""
    folder = tmp_path / "results"
    monkeypatch.setenv("KC_RESULTS", str(folder))
    return folder


@pytest.fixture
def in_project(monkeypatch):
    """The test runs in the checkout, as a user's commands do."""
    monkeypatch.chdir(ROOT)
    return ROOT


@pytest.fixture
def environment(tmp_path):
    """Environment of a command started by a test: own results folder, one thread, no colours."""
    return os.environ | {
        "KC_RESULTS": str(tmp_path / "results"),
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        "COLUMNS": "200",
        "PYTHONWARNINGS": "ignore",
    }


@pytest.fixture
def kc(monkeypatch, capfd, results, in_project):
    """Run `kc` with these arguments in this process; returns exit code, standard output and standard error."""
    from kc_utils import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["kc", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as leave:
            code = leave.code
        return code, *capfd.readouterr()

    return run
