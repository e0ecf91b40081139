"""Start the kernels of many notebooks as forks of one process, which imports their libraries once.

    with warm_kernels():
        ...  # papermill, jupyter-cache and what they start find the kernel `python3` here

Jupyter starts a client, this file as a script, in place of a kernel. The client hands its folder, environment and streams to the
server and lives as long as the kernel: a signal to it is one to the kernel, and its end is the kernel's. Where the system is not
Linux, kernels start as usual: elsewhere libraries do not survive a fork, or there is none. Likewise when the server is gone.
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
from pathlib import Path

LIBRARIES = "torch transformers.processing_utils scipy.stats seaborn pyarrow.dataset myst_nb ipykernel.ipkernel"
"""What a notebook needs before its first own line, with the public interface of kc_utils; none starts a thread of torch."""
FOLDER = "kc-kernels-"


@contextlib.contextmanager
def warm_kernels(wait: bool = True):
    """Let notebooks that are executed inside, by this process or its children, start as forks of one server.

    wait: for the libraries, which are imported for the first kernel otherwise, while Jupyter counts the time that it takes
    to start. Inside another `warm_kernels`, that one's server is used.
    """
    paths = os.environ.get("JUPYTER_PATH", "")
    if sys.platform != "linux":
        yield
        return
    with contextlib.ExitStack() as stack:
        if FOLDER not in paths:
            stack.enter_context(_server(paths))
        if wait:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
                server.connect(os.environ["JUPYTER_PATH"].partition(os.pathsep)[0] + "/server")
                server.shutdown(socket.SHUT_WR)
                server.recv(1)  # closed when the libraries are there
        yield


@contextlib.contextmanager
def _server(paths: str):
    from ipykernel.kernelspec import get_kernel_dict

    from kc_utils.study.execution import environment

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=FOLDER)))
        address = str(folder / "server")
        client = [sys.executable, "-I", "-S", __file__, address, "-f", "{connection_file}"]
        (folder / "kernels" / "python3").mkdir(parents=True)
        (folder / "kernels" / "python3" / "kernel.json").write_text(json.dumps(get_kernel_dict() | {"argv": client}))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(address)
            listener.listen()
            command = f"from kc_utils.study.kernels import serve; serve({listener.fileno()})"
            # read when the libraries are imported; a kernel sets them for itself when it begins
            early = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
            server = subprocess.Popen(
                [sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                env=os.environ | early, pass_fds=[listener.fileno()], start_new_session=True,
            )  # fmt: skip
        stack.enter_context(server)  # at the end its standard input closes, at which it ends
        stack.enter_context(environment(JUPYTER_PATH=os.pathsep.join(filter(None, [str(folder), paths]))))
        yield


def serve(listener: int) -> None:
    """Fork a kernel for each client that connects, until standard input ends. Returns in none, but as each kernel's end."""
    kernel = _await(socket.socket(fileno=listener))
    if kernel is None:
        return
    folder, environment, arguments = kernel
    sys.path[:] = filter(None, sys.path)  # without the server's folder
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if threads := os.environ.get("OMP_NUM_THREADS"):  # read when torch was imported
        importlib.import_module("torch").set_num_threads(int(threads))
    from ipykernel.kernelapp import launch_new_instance

    sys.argv[:] = ["ipykernel_launcher", *arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]
    launch_new_instance()


def _await(listener: socket.socket) -> list | None:
    """Return what its client sent in each kernel, and None in the server, at its end."""
    kernels, ready = {}, select.poll()  # of each, by the files that become ready when its client or itself ends
    for file in (sys.stdin, listener):
        ready.register(file, select.POLLIN)
    try:
        while (file := ready.poll()[0][0]) != sys.stdin.fileno():
            if file in kernels:
                pid, client, process = ends = kernels[file]
                if file == client.fileno():
                    os.killpg(pid, signal.SIGKILL)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(OSError):  # the client has ended
                    client.send(str(status).encode())
                for end in ends[1:]:
                    ready.unregister(end)
                    del kernels[end if isinstance(end, int) else end.fileno()]
                client.close()
                os.close(process)
                continue
            _import()
            client, _ = listener.accept()
            request, streams, *_ = socket.recv_fds(client, 1 << 20, 3)
            if request and (pid := os.fork()) == 0:
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                for other in (listener, client, *(other for _, other, _ in kernels.values())):
                    other.close()
                kernels.clear()
                return json.loads(request)
            for stream in streams:
                os.close(stream)
            if not request:  # who waited for the libraries
                client.close()
            else:
                os.setpgid(pid, pid)  # which gets the signals
                with contextlib.suppress(OSError):
                    client.send(str(pid).encode())
                kernel = pid, client, os.pidfd_open(pid)
                for end in kernel[1:]:
                    ready.register(end, select.POLLIN)
                kernels |= dict.fromkeys((client.fileno(), kernel[2]), kernel)
    finally:
        for pid in {pid for pid, *_ in kernels.values()}:
            os.killpg(pid, signal.SIGKILL)
    return None


def _import() -> None:
    """Import what notebooks need, once, and leave it out of the kernels' collections of garbage."""
    import kc_utils

    for name in LIBRARIES.split():
        with contextlib.suppress(ImportError):  # not installed: a notebook that needs it says so
            importlib.import_module(name)
    for name in kc_utils.PUBLIC:
        if name != "plot":  # which chooses what matplotlib draws with
            getattr(kc_utils, name)
    gc.freeze()


def follow(address: str, *arguments: str) -> None:
    """Be a kernel's client until it ends, and end as it did."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        try:
            server.connect(address)
            request = json.dumps([os.getcwd(), dict(os.environ), arguments])
            socket.send_fds(server, [request.encode()], [0, 1, 2])
            pid = int(server.recv(20))
        except (OSError, ValueError):  # it has ended
            os.execv(sys.executable, [sys.executable, "-m", "ipykernel_launcher", *arguments])

        def forward(number: int, _) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, forward)
        status = int(server.recv(20) or 1)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    follow(*sys.argv[1:])
