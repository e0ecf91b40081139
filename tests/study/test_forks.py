"""Kernels that are forks of one process do what kernels do that import everything themselves, and end when they should."""

import os

import nbformat
import psutil
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from kc_utils.study.forks import ADDRESS, warm_server

RESULT = """\
import os, sys, logging, multiprocessing, pandas as pd, seaborn as sns, torch
logging.warning("to standard error")
print(os.getcwd(), os.environ["A_VALUE"], torch.get_num_threads(), torch.ones(3) @ torch.ones(3), sys.path, sys.argv[1])
os.system("echo from a child")
display(pd.DataFrame([[0] * 30]))
print(multiprocessing.get_context("spawn").Pool(1).map(abs, [-1]))
sns.lineplot(pd.DataFrame({"y": [1, 4, 2]}), x=[0, 1, 2], y="y")"""
WARM = "import sys; print('torch' in sys.modules)"


def run(source, folder=None):
    """Outputs of a cell that a kernel executes."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(book, timeout=None, resources={"metadata": {"path": folder}}).execute()
    return book.cells[0].outputs


def alone(monkeypatch):
    """Do without the server of all tests."""
    for name in ("JUPYTER_PATH", ADDRESS):
        monkeypatch.delenv(name, raising=False)


def process_of(client):
    said = []
    client.execute_interactive("import os; print(os.getpid())", output_hook=said.append)
    return psutil.Process(int(next(m["content"]["text"] for m in said if "text" in m["content"])))


def test_a_fork_does_what_a_kernel_started_afresh_does(tmp_path, monkeypatch):
    alone(monkeypatch)
    monkeypatch.setenv("A_VALUE", "as given")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    cold = run(RESULT, str(tmp_path))
    with warm_server():
        assert run(RESULT, str(tmp_path)) == cold and len(cold) >= 4
        with pytest.raises(CellExecutionError) as raised:
            run(WARM + "; 1 / 0")
        assert (raised.value.ename, raised.value.evalue) == ("ZeroDivisionError", "division by zero")
        with pytest.raises(DeadKernelError, match="Kernel died"):
            run("import os; os._exit(3)")
        assert run(WARM)[0].text == "True\n"
        monkeypatch.setenv("PYTHONPATH", "other code", prepend=os.pathsep)
        assert run(WARM)[0].text == "False\n"


def test_a_kernel_is_interrupted_and_restarted_and_ends_with_its_client_as_the_server_does_with_its_own(monkeypatch):
    alone(monkeypatch)
    before, started = dict(os.environ), set(psutil.Process().children())
    with pytest.raises(ValueError, match="of the body"), warm_server():
        (server,) = set(psutil.Process().children()) - started
        with warm_server():
            assert {*started, server} == set(psutil.Process().children())
        manager, client = start_new_kernel()
        first = process_of(client)
        client.execute("print('begun', flush=True)\nwhile True: pass")
        while "begun" not in client.get_iopub_msg()["content"].get("text", ""):  # an interrupt before it does nothing
            pass
        manager.interrupt_kernel()
        while client.get_iopub_msg()["content"].get("ename") != "KeyboardInterrupt":
            pass
        manager.restart_kernel()
        client.wait_for_ready()
        second = process_of(client)
        assert not first.is_running() and server in second.parents()
        psutil.Process(manager.provisioner.pid).kill()
        second.wait()
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        raise ValueError("of the body")
    assert not server.is_running() and os.environ == before
    with warm_server():
        (set(psutil.Process().children()) - started).pop().kill()
        assert run("print(6 * 7)")[0].text == "42\n"
