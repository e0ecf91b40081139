"""Kernels that are forks of one process do what kernels do that import everything themselves, and end when they should."""

import os
import signal
import subprocess
import sys

import nbformat
import psutil
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from kc_utils.study.kernels import warm_kernels

RESULT = """\
import os, sys, logging, multiprocessing
import pandas as pd, seaborn as sns, torch
logging.warning("to standard error")
print(os.getcwd(), os.environ["A_VALUE"], torch.get_num_threads(), torch.ones(3) @ torch.ones(3), sys.path[0] == "", sys.argv[1])
os.system("echo from a child")
with multiprocessing.get_context("spawn").Pool(1) as pool:
    print(pool.map(abs, [-1]))
sns.lineplot(pd.DataFrame({"y": [1, 4, 2]}), x=[0, 1, 2], y="y")"""


@pytest.fixture
def alone(monkeypatch):
    """The tests' own server is not seen."""
    monkeypatch.delenv("JUPYTER_PATH", raising=False)


@pytest.fixture
def warm(alone):
    with warm_kernels():
        yield server_of(os.getpid())


def server_of(pid):
    return next((p for p in psutil.Process(pid).children() if "kernels import serve" in " ".join(p.cmdline())), None)


def run(*sources, **settings):
    """Outputs of cells that a kernel executes."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(book, kernel_name="python3", timeout=None, **settings).execute()
    return [output for cell in book.cells for output in cell.outputs]


def kernel_of(client):
    """The process that executes cells."""
    found = []
    client.execute_interactive(
        "import os; print(os.getpid())", output_hook=lambda m: found.append(m["content"].get("text"))
    )
    return psutil.Process(int(next(filter(None, found))))


def test_a_fork_gives_what_a_kernel_started_afresh_does(alone, tmp_path, monkeypatch):
    for name, value in {"A_VALUE": "as given", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    where = {"resources": {"metadata": {"path": str(tmp_path)}}}
    cold = run(RESULT, **where)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with warm_kernels():
        assert "torch" in run("import sys; print('torch' if 'torch' in sys.modules else 'cold')")[0].text
        monkeypatch.setenv("OMP_NUM_THREADS", "1")  # later than the server
        assert run(RESULT, **where) == cold and len(cold) >= 4


def test_an_error_and_the_death_of_a_kernel_are_raised_as_of_any_kernel(warm):
    with pytest.raises(CellExecutionError) as raised:
        run("1 / 0")
    assert (raised.value.ename, raised.value.evalue) == ("ZeroDivisionError", "division by zero")
    with pytest.raises(DeadKernelError, match="Kernel died"):
        run("import os; os._exit(3)")


def test_a_kernel_is_interrupted_and_restarted_and_ends_when_it_is_asked_to(warm):
    manager, client = start_new_kernel(startup_timeout=600)
    kernel = kernel_of(client)
    assert kernel.parent() == warm
    client.execute("print('begun')\nwhile True: pass")
    while client.get_iopub_msg()["content"].get("text") != "begun\n":
        pass
    manager.interrupt_kernel()
    while client.get_iopub_msg()["content"].get("ename") != "KeyboardInterrupt":
        pass
    manager.restart_kernel()
    client.wait_for_ready()
    again = kernel_of(client)
    assert again != kernel and not kernel.is_running() and again.parent() == warm
    manager.shutdown_kernel()
    again.wait()
    client.stop_channels()
    assert not warm.children() and warm.is_running()


def test_a_kernel_ends_with_its_client(warm):
    manager, client = start_new_kernel(startup_timeout=600)
    kernel = kernel_of(client)
    os.kill(manager.provisioner.pid, signal.SIGKILL)
    kernel.wait()
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_no_server_and_no_kernel_is_left(alone):
    before = dict(os.environ)
    with pytest.raises(ValueError, match="of the body"), warm_kernels():
        server = server_of(os.getpid())
        with warm_kernels():
            assert [server_of(os.getpid())] == [p for p in psutil.Process().children() if p == server]
        manager, client = start_new_kernel(startup_timeout=600)
        kernel = kernel_of(client)
        raise ValueError("of the body")
    assert not server.is_running() and os.environ == before
    kernel.wait()
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_a_server_ends_with_the_process_that_started_it(alone):
    code = "from kc_utils.study.kernels import warm_kernels\nwith warm_kernels(wait=False): print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        server = server_of(process.pid)
        process.kill()
        server.wait()


def test_kernels_start_as_usual_once_the_server_is_gone(warm):
    warm.kill()
    warm.wait()
    assert run("print(6 * 7)")[0].text == "42\n"
