"""Notebook templates: which there are, what parameters they declare, and how one is executed."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import os
from functools import cache
from pathlib import Path

from kc_utils.errors import BadRequest, BadResult, KCError, listed
from kc_utils.places import complete_or_absent, project_dir


def template_file(template: str) -> Path:
    folder = project_dir() / "notebooks"
    file = folder / f"{template}.ipynb"
    if not file.is_file():
        known = sorted(p.stem for p in folder.glob("*.ipynb"))
        raise BadRequest(f"no notebook {template!r} in {folder.name}/: there are {listed(known, 40)}")
    return file


@cache
def declared_parameters(template: str) -> dict:
    """Name and default of every parameter in the notebook's parameters cell.

    papermill itself only warns about a parameter that the notebook does not declare; the study refuses it.
    """
    from papermill.inspection import inspect_notebook

    logging.getLogger("papermill").setLevel(logging.ERROR)
    found = inspect_notebook(str(template_file(template)))
    if not found:
        raise BadRequest(f"{template}.ipynb has no cell tagged `parameters`")
    try:
        return {name: ast.literal_eval(info["default"]) for name, info in found.items()}
    except (ValueError, SyntaxError) as error:
        raise BadRequest(f"{template}.ipynb: the default of a parameter is not a plain value ({error})") from error


def merged_parameters(template: str, given: dict) -> dict:
    """The notebook's defaults overlaid with what is given. Raises BadRequest for a name it does not declare."""
    declared = declared_parameters(template)
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise BadRequest(f"{template} has no parameter {listed(unknown)}; it takes {listed(declared, 30)}")
    return {**declared, **given}


def execute(template: str, parameters: dict, output: Path) -> None:
    """Run a notebook by papermill. `output` appears only when every cell of it has run.

    A failed run is kept beside it as `<name>.failed.ipynb`; the error that the notebook met is raised as KCError.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    failed = output.with_suffix(".failed.ipynb")
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    with complete_or_absent(output) as scratch:
        scratch.parent.mkdir(parents=True, exist_ok=True)
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                papermill.execute_notebook(
                    str(template_file(template)),
                    str(scratch),
                    parameters=parameters,
                    progress_bar=False,
                    cwd=str(project_dir()),
                    kernel_name="python3",
                    log_output=False,
                )
        except PapermillExecutionError as error:
            os.replace(scratch, failed)
            message = f"{error.ename}: {error.evalue}"
            if error.ename in _error_names():
                raise KCError(error.evalue) from error
            raise BadResult(f"{template}: {message} (see {failed})") from error
    failed.unlink(missing_ok=True)


def _error_names() -> set[str]:
    return {c.__name__ for c in (KCError, *KCError.__subclasses__())}
