"""Start processes, and execute notebooks in them: what takes long runs beside this process."""

import contextlib
import io
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from kc_utils.errors import BadResult, KCError
from kc_utils.places import complete_or_absent

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


def processes(count: int, threads: int | None = None) -> ProcessPoolExecutor:
    """Start a pool of processes, each with so many threads of torch, which do not survive a fork: they are started afresh, and
    end when this process does, however it ends."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(threads,))


def _begin(threads: int | None) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
