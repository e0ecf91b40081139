"""Execute a notebook with parameters: what Snakemake starts for each run of a study."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path

from kc_utils.errors import BadResult, KCError
from kc_utils.places import complete_or_absent, project_dir, write_text
from kc_utils.study.processes import environment

PLACES = ("KC_RESULTS", "KC_REFERENCE", "KC_CACHE", "KC_DATA")
"""Folders that the environment may name: a notebook runs in a folder of its own."""


def error_file(output: Path) -> Path:
    return output.with_suffix(".error.txt")


def execute_run(given: Path) -> None:
    """Execute the notebook that a run's file names, beside that file (what Snakemake calls).

    What stopped it is written beside its output for `run_study` to report.
    """
    found, output = json.loads(given.read_text(encoding="utf-8")), given.with_suffix(".ipynb")
    report = error_file(output)
    report.unlink(missing_ok=True)
    try:
        execute(project_dir() / "notebooks" / f"{found['notebook']}.ipynb", found["parameters"], output)
    except KCError as error:
        write_text(report, f"{error}\n")
        raise


def execute(notebook: Path, parameters: dict, output: Path) -> None:
    """Run a notebook by papermill, in its own folder. `output` appears only when every cell of it has run.

    A failed run is kept beside it as `<name>.failed.ipynb`; the error that the notebook met is raised as KCError.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    failed = output.with_suffix(".failed.ipynb")
    places = {name: str(Path(os.environ[name]).expanduser().absolute()) for name in PLACES if os.environ.get(name)}
    with environment(PYDEVD_DISABLE_FILE_VALIDATION="1", **places), complete_or_absent(output) as scratch:
        scratch.parent.mkdir(parents=True, exist_ok=True)
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                papermill.execute_notebook(
                    *(str(notebook), str(scratch), parameters),
                    progress_bar=False,
                    cwd=str(notebook.parent),
                    kernel_name="python3",
                    log_output=False,
                )
        except PapermillExecutionError as error:
            os.replace(scratch, failed)
            if error.ename in {c.__name__ for c in (KCError, *KCError.__subclasses__())}:
                raise KCError(error.evalue) from error
            raise BadResult(f"{notebook.stem}: {error.ename}: {error.evalue} (see {failed})") from error
    failed.unlink(missing_ok=True)
