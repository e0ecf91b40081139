"""Start the kernels of many notebooks as forks of one process, which imports their libraries once.

Jupyter starts a client, this file as a script, as the kernel `python3`. The client hands its folder, environment and streams to
the server, passes signals on, and ends as the kernel does. Kernels start as usual where the system is not Linux (elsewhere
libraries do not survive a fork), where the server is gone, and where an environment leads to other code or models.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile

FOLDER = "kc-kernels-"
LIBRARIES = "torch transformers.processing_utils scipy.stats seaborn pyarrow.dataset myst_nb ipykernel.ipkernel"
EARLY = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
IMPORTED_WITH = ("PYTHONPATH", "HF_")
"""How variables begin that libraries read when they are imported and that have to be the server's, as EARLY need not."""


@contextlib.contextmanager
def warm_kernels(wait: bool = True):
    """Let notebooks that this process or its children execute inside start as forks of one server, the same where it is nested.

    wait: until a server that is started is ready; else the first kernels may wait for it, for which Jupyter gives them a minute.
    """
    from ipykernel.kernelspec import get_kernel_dict

    from kc_utils.study.execution import environment

    paths = os.environ.get("JUPYTER_PATH", "")
    with contextlib.ExitStack() as stack:
        if sys.platform == "linux" and FOLDER not in paths:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=FOLDER))
            os.makedirs(f"{folder}/kernels/python3")
            client = [sys.executable, "-I", "-S", __file__, f"{folder}/server", "-f", "{connection_file}"]
            with open(f"{folder}/kernels/python3/kernel.json", "w", encoding="utf-8") as file:
                json.dump(get_kernel_dict() | {"argv": client}, file)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as clients:
                clients.bind(f"{folder}/server")
                clients.listen()
                command = [sys.executable, "-c", f"from kc_utils.study.kernels import serve; serve({clients.fileno()})"]
                how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
                server = subprocess.Popen(command, env=os.environ | EARLY, pass_fds=[clients.fileno()], **how)
            stack.enter_context(server)  # at the end its standard input closes, at which it ends
            stack.enter_context(environment(JUPYTER_PATH=f"{folder}{os.pathsep}{paths}".rstrip(os.pathsep)))
            if wait:
                server.stdout.readline()
        yield


def serve(listener: int) -> None:
    """Fork a kernel for each client, until standard input ends."""
    from kc_utils import PUBLIC

    own = set(PUBLIC.values()) - {"kc_utils.report.plot"}  # which chooses what matplotlib draws with
    for name in (*LIBRARIES.split(), *own):
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
            return _be_kernel(client)
        client.close()
    with contextlib.suppress(ChildProcessError):
        while os.wait():
            pass


def _be_kernel(client: socket.socket) -> None:
    """Fork once more, be the kernel there, and here end it with its client or the server's standard input."""
    request, streams, *_ = socket.recv_fds(client, 1 << 20, 3)
    folder, variables, arguments = json.loads(request)
    now, then = ({k: v for k, v in v.items() if k.startswith(IMPORTED_WITH)} for v in (variables, os.environ))
    pid = os.fork() if now == then else os._exit(0)
    if pid:
        os.setpgid(pid, pid)  # which signals go to
        with contextlib.suppress(OSError):  # the client has ended
            client.send(str(pid).encode())
            if select.select([client, sys.stdin, kernel := os.pidfd_open(pid)], [], [])[0] != [kernel]:
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
    sys.argv[:] = ["ipykernel_launcher", *arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]
    importlib.import_module("ipykernel.kernelapp").launch_new_instance()


def follow(address: str, *arguments: str) -> None:
    """Be a kernel's client until it ends, and end as it did."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        try:
            server.connect(address)
            request = json.dumps([os.getcwd(), dict(os.environ), arguments])
            socket.send_fds(server, [request.encode()], [0, 1, 2])
            pid = int(server.recv(20))
        except (OSError, ValueError):  # it has ended, or is no kernel for this environment
            os.execv(sys.executable, [sys.executable, "-m", "ipykernel_launcher", *arguments])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.killpg(pid, number))
        sys.exit(int(server.recv(20) or 1))


if __name__ == "__main__":
    follow(*sys.argv[1:])
