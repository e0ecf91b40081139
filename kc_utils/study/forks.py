"""Start the kernels of notebooks and the jobs of a study as forks of one process, which imports their libraries once.

Jupyter starts a client, this file as a script, as the kernel `python3`; Snakemake starts one for each job. The client hands its
folder, environment and streams to the server, passes signals on, and ends as the fork does. Modules run as usual where the
system is not Linux (elsewhere libraries do not survive a fork), where the server is gone, and where an environment leads to other
code or models. Jobs do where there is a GPU, since CUDA does not survive a fork.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile

FOLDER = "kc-forks-"
ADDRESS = "KC_FORKS"
"""Variable of the environment that names the server's address."""
LIBRARIES = "torch transformers.processing_utils scipy.stats seaborn pyarrow.dataset myst_nb ipykernel.ipkernel"
MODELS = ("kc_utils.study.measure", *(f"transformers.models.{name}.modeling_{name}" for name in ("bert", "llama", "t5")))
EARLY = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
IMPORTED_WITH = ("PYTHONPATH", "HF_")
"""How variables begin that libraries read when they are imported and that have to be the server's, as EARLY need not."""


@contextlib.contextmanager
def warm_server(wait: bool = True):
    """Let notebooks and jobs that this process or its children start inside be forks of one server, the same where it is nested.

    wait: until a server that is started is ready; else the first kernels may wait for it, for which Jupyter gives them a minute.
    """
    from ipykernel.kernelspec import get_kernel_dict

    from kc_utils.study.execution import environment

    paths = os.environ.get("JUPYTER_PATH")
    with contextlib.ExitStack() as stack:
        if sys.platform == "linux" and ADDRESS not in os.environ:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=FOLDER))
            os.makedirs(f"{folder}/kernels/python3")
            client = [sys.executable, "-I", "-S", __file__, f"{folder}/server", "ipykernel_launcher", "-f", "{connection_file}"]
            with open(f"{folder}/kernels/python3/kernel.json", "w", encoding="utf-8") as file:
                json.dump(get_kernel_dict() | {"argv": client}, file)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as clients:
                clients.bind(f"{folder}/server")
                clients.listen()
                command = [sys.executable, "-c", f"from kc_utils.study.forks import serve; serve({clients.fileno()})"]
                how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
                server = subprocess.Popen(command, env=os.environ | EARLY, pass_fds=[clients.fileno()], **how)
            stack.enter_context(server)  # at the end its standard input closes, at which it ends
            found = os.pathsep.join(filter(None, (folder, paths)))
            stack.enter_context(environment(**{"JUPYTER_PATH": found, ADDRESS: f"{folder}/server"}))
            if wait:
                server.stdout.readline()
        yield


def serve(listener: int) -> None:
    """Fork for each client, until standard input ends."""
    from kc_utils import PUBLIC

    own = set(PUBLIC.values()) - {"kc_utils.report.plot"}  # which chooses what matplotlib draws with
    for name in (*LIBRARIES.split(), *MODELS, *own):
        with contextlib.suppress(ImportError):  # not installed: a notebook that needs it says so
            importlib.import_module(name)
    importlib.import_module("pandas").set_option("display.max_columns", 20)  # as in a kernel, which this is not yet
    gc.freeze()  # so that no kernel searches all this for garbage
    print("ready", flush=True)
    clients = socket.socket(fileno=listener)
    while clients in select.select([clients, sys.stdin], [], [])[0]:
        client, _ = clients.accept()
        if os.fork() == 0:
            clients.close()
            return _run(client)
        client.close()
    with contextlib.suppress(ChildProcessError):
        while os.wait():
            pass


def _run(client: socket.socket) -> None:
    """Fork once more, run the client's module there, and here end it with its client or the server's standard input."""
    request, streams, *_ = socket.recv_fds(client, 1 << 20, 3)
    folder, variables, module, arguments = json.loads(request)
    now, then = ({k: v for k, v in v.items() if k.startswith(IMPORTED_WITH)} for v in (variables, os.environ))
    pid = os.fork() if now == then else os._exit(0)
    if pid:
        os.setpgid(pid, pid)  # which signals go to
        with contextlib.suppress(OSError):  # the client has ended
            client.send(str(pid).encode())
            if select.select([client, sys.stdin, fork := os.pidfd_open(pid)], [], [])[0] != [fork]:
                os.killpg(pid, signal.SIGKILL)
            client.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
        os._exit(0)
    client.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.path[:] = filter(None, sys.path)  # without the server's folder
    if threads := os.environ.get("OMP_NUM_THREADS"):
        importlib.import_module("torch").set_num_threads(int(threads))
    sys.argv[1:] = [*arguments, *([f"--IPKernelApp.parent_handle={os.getppid()}"] if module == "ipykernel_launcher" else [])]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def follow(address: str, module: str, *arguments: str) -> None:
    """Be the client of a fork that runs a module, until it ends, and end as it did."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        try:
            server.connect(address)
            request = json.dumps([os.getcwd(), dict(os.environ), module, arguments])
            socket.send_fds(server, [request.encode()], [0, 1, 2])
            pid = int(server.recv(20))
        except (OSError, ValueError):  # it has ended, or does not fork for this environment
            os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.killpg(pid, number))
        sys.exit(int(server.recv(20) or 1))


if __name__ == "__main__":
    follow(*sys.argv[1:])
