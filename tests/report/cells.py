"""The cells of a notebook, run in this process one after the other, as papermill runs them in a kernel."""

import sys
from contextlib import contextmanager

import matplotlib.pyplot as plt
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display
from IPython.utils.capture import capture_output
from traitlets.config import Config

from kc_utils.report import drawing
from tests.conftest import ROOT


def outputs_of(book):
    return [o for c in book.cells for o in c.get("outputs", ())]


def figures_of(book):
    return {o.metadata["kc"]["name"]: o.metadata["kc"] for o in outputs_of(book) if "kc" in o.metadata}


def words_of(book):
    return "\n".join(o.data.get("text/markdown", "") for o in outputs_of(book)).replace("\u00a0", " ")


def html_of(book, word):
    return [o.data["text/html"] for o in outputs_of(book) if word in o.data.get("text/html", "")]


def changed_prompts(book) -> bool:
    """Whether prompts are completed before and after, and not alike."""
    before, after = html_of(book, "probability")
    return before != after


@contextmanager
def shell(results):
    """A function (template, parameters) that gives the executed notebook; figures are drawn but not turned into pictures."""
    main = sys.modules["__main__"]  # which the shell replaces, and which processes that tests start look at
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))

    def run(template, given):
        shell.reset(new_session=False)
        book = nbformat.read(ROOT / "notebooks" / f"{template}.ipynb", as_version=4)
        for cell in book.cells:
            if cell.cell_type != "code":
                continue
            with capture_output() as captured:
                done = shell.run_cell(cell.source)
                done.raise_error()
                if done.result is not None:  # the shell's own hook would print it
                    display(done.result)
            cell.outputs = [nbformat.v4.new_output("display_data", o.data, metadata=o.metadata or {}) for o in captured.outputs]
            if "parameters" in cell.metadata.get("tags", []):
                shell.push(given)
        return book

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            patch.setenv("KC_RESULTS", str(results))
            patch.setattr(drawing, "png", lambda fig: plt.close(fig) or b"a picture")
            patch.setattr(plt.Figure, "tight_layout", lambda self, **_: None)
            yield run
    finally:
        InteractiveShell.clear_instance()
        sys.modules["__main__"] = main
