"""Import optimum's GPTQ and gptqmodel without what the import does to the rest of the process.

Importing gptqmodel 7.6.0 prints a banner and warnings of kernels that a CPU cannot use, sets the root logger to print
everything, and changes environment variables, among them the folder of the model hub's cache (`HF_HOME`).
"""

import contextlib
import io
import logging
import os
from functools import cache
from importlib.util import find_spec
from types import ModuleType

from kc_utils.errors import MissingData

PACKAGES = ("optimum", "gptqmodel")
INSTALL = "pip install -c constraints.txt optimum && pip install -c constraints.txt --no-build-isolation gptqmodel"


def require() -> None:
    """Raises MissingData, with the command that installs them, when the libraries are not there."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingData(f"GPTQ needs {' and '.join(missing)}, not installed here; run, with torch there: {INSTALL}")


@cache
def solver() -> ModuleType:
    """`gptq_solver`, imported with its libraries. Raises MissingData when they are missing or do not import."""
    require()
    with quiet():
        try:
            import transformers  # noqa: F401  reads the hub's folders before gptqmodel moves them

            from kc_utils.compression import gptq_solver
        except ImportError as error:
            raise MissingData(f"GPTQ: optimum or gptqmodel does not import ({error}); run: {INSTALL}") from error
    return gptq_solver


@contextlib.contextmanager
def quiet():
    """Silence around the import of gptqmodel; loggers and environment are as before after it."""
    root = logging.getLogger()
    level, handlers, environment, disabled = root.level, root.handlers[:], os.environ.copy(), root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if find_spec("logbar"):
                from logbar import LogBar

                LogBar.shared().setLevel("ERROR")
            yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        logging.getLogger("optimum").setLevel(logging.WARNING)
