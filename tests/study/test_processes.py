"""Processes beside this one: what they return and raise comes back, and they do not outlive it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from kc_utils.errors import MissingData
from kc_utils.study.processes import processes

PARENT = """
from tests.study.test_processes import tell_and_wait
from kc_utils.study.processes import processes

if __name__ == "__main__":
    with processes(2) as pool:
        list(pool.map(tell_and_wait, [{folder!r}] * 2))
"""


def tell_and_wait(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


def refuse() -> None:
    raise MissingData("no such rows")


def test_each_has_the_threads_that_it_is_given():
    with processes(1, threads=1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
        assert pool.submit(os.getpid).result() != os.getpid()


def test_an_error_keeps_its_kind_and_message():
    with processes(1) as pool, pytest.raises(MissingData, match="no such rows"):
        pool.submit(refuse).result()


def test_they_end_with_a_parent_that_is_killed(tmp_path, in_project):
    script = tmp_path / "parent.py"
    told = tmp_path / "told"
    told.mkdir()
    script.write_text(PARENT.format(folder=str(told)))
    parent = subprocess.Popen([sys.executable, str(script)], env=os.environ | {"PYTHONPATH": str(in_project)})
    try:
        assert soon(lambda: len(list(told.iterdir())) == 2, 120)
        workers = [int(file.name) for file in told.iterdir()]
        assert all(psutil.pid_exists(pid) for pid in workers)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert soon(lambda: not any(running(pid) for pid in workers), 30)


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def soon(holds, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
