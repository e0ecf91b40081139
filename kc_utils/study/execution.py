"""Start what takes long beside this process: Snakemake, and notebooks by papermill."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from kc_utils.errors import BadResult, KCError
from kc_utils.places import complete_or_absent, project_dir, write_text

PLACES = ("KC_RESULTS", "KC_REFERENCE", "KC_CACHE", "KC_DATA")
"""Folders that the environment may name: a notebook runs in a folder of its own."""


@contextlib.contextmanager
def environment(**values: str):
    """Set what processes that are started inside find in their environment."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def execute(notebook: Path, parameters: dict, output: Path) -> None:
    """Run a notebook by papermill, in its own folder. `output` appears only when every cell of it has run.

    A failed run is kept beside it as `<name>.failed.ipynb`; the error that the notebook met is raised as KCError.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    failed = output.with_suffix(".failed.ipynb")
    places = {name: str(Path(os.environ[name]).expanduser().absolute()) for name in PLACES if os.environ.get(name)}
    with environment(PYDEVD_DISABLE_FILE_VALIDATION="1", **places), complete_or_absent(output) as scratch:
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                how = {"cwd": str(notebook.parent), "kernel_name": "python3", "progress_bar": False}
                papermill.execute_notebook(str(notebook), str(scratch), parameters, **how)
        except PapermillExecutionError as error:
            os.replace(scratch, failed)
            if error.ename in {c.__name__ for c in (KCError, *KCError.__subclasses__())}:
                raise KCError(error.evalue) from error
            raise BadResult(f"{notebook.stem}: {error.ename}: {error.evalue} (see {failed})") from error
    failed.unlink(missing_ok=True)


def snakemake(targets: Iterable[Path], log: Path, options: Sequence[str], look: Callable[[], float]) -> int:
    """Let Snakemake make files by the rules of the checkout's `Snakefile`, as many of them as it can.

    options: of its command line; look: called while it works, returns the seconds until it is to be called again. What
    Snakemake says goes to `log`. Returns its exit status.
    """
    folder = project_dir()
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(folder / "Snakefile"), "--directory", str(folder)]
    command += ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "--keep-going", "--drop-metadata"]
    command += ["--scheduler", "greedy", "--quiet", "all", *options, "--", *map(str, targets)]
    write_text(log, "")  # refused here where the disk is full
    started = {"KC_ENGINE": str(os.getpid()), "TQDM_DISABLE": "1"}  # one bar is enough
    with (
        log.open("w", encoding="utf-8") as stream,
        environment(**started),
        subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT) as process,
    ):
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=look())
        finally:
            process.send_signal(signal.SIGINT)  # it cancels its jobs, on a cluster, too; SIGTERM would wait for them
    look()
    return process.returncode


def end_with_parent(parent: int | None = None) -> None:
    """End this process soon after its parent has ended, however that ended, so that nothing goes on behind a user's back.

    parent: only where this is the parent's number.
    """
    now = os.getppid()
    if now == 1 or parent not in (None, now):
        return

    def watch():
        while os.getppid() == now:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
