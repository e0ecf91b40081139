"""The whole way to the book: study, pages, strict build."""

import re
import subprocess
import sys
import time
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

from kc_utils.errors import BadResult
from kc_utils.places import project_dir
from kc_utils.study.forks import warm_server

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CHAPTER = re.compile(r"^myst_nb\.\S*ExecutionError: (.+)$", re.M)
_CELL = re.compile(r"^nbclient\.exceptions\..*?(?=^The above exception)", re.M | re.S)


def make_book(name: str, cores: int | None = None) -> tuple[Path, dict[str, float]]:
    """Run what is missing of a study, write its pages and build the book. Returns the start page and seconds by stage."""
    from kc_utils.report.pages import Pages
    from kc_utils.report.targets import outdated
    from kc_utils.study.engine import How, run_study

    clock = [time.perf_counter()]
    study = run_study(name, How(cores))
    clock.append(time.perf_counter())
    pages = Pages(study)
    waiting = outdated(pages.folder, pages.targets)
    with warm_server(wait=False) if waiting else nullcontext():  # for text notebooks, which the build executes
        pages.write()
        clock.append(time.perf_counter())
        index = build_html(project_dir())
    clock.append(time.perf_counter())
    seconds = (end - begin for begin, end in pairwise(clock))
    return index, dict(zip((f"study {study.name}", "pages", "book"), seconds, strict=True))


def build_html(root: Path, output: Path | None = None, builder: str = "html") -> Path:
    """Build the book strictly: a warning, an unknown reference or a notebook with an error ends it. Returns its start page.

    builder: `html`, or `singlehtml` for all of it on one page. It reads, executes and writes what changed, see `sphinx.py`.
    Raises BadResult with the first complaints of the build.
    """
    from kc_utils.report.sphinx import UNFINISHED

    output = output or root
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(root / "book")]
    command += ["--config", str(root / "_config.yml"), "--toc", str(root / "book" / "results" / "_toc.yml")]
    command += ["--path-output", str(output), "--builder", builder, "-W", "-n", "--keep-going", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    index = output / "_build" / builder / "index.html"
    if done.returncode != 0 or not index.is_file():
        found = complaints(done.stdout + done.stderr)
        raise BadResult("the book does not build strictly:\n" + "\n".join(found[:30]))
    if builder == "html":
        (output / "_build" / ".doctrees" / UNFINISHED).unlink(missing_ok=True)
    return index


def complaints(output: str) -> list[str]:
    """List the faults that a build found: a chapter whose code fails, else warnings and errors, else the last lines."""
    output = _COLOUR.sub("", output)
    chapter, cell = _CHAPTER.search(output), _CELL.search(output)
    if chapter and cell:
        return [f"{chapter[1]} does not run: {cell[0].strip().splitlines()[-1]}"]
    lines = [line for line in output.splitlines() if not line.startswith("[IPKernelApp]")]  # a kernel about its port
    return list(dict.fromkeys(line for line in lines if "WARNING" in line or "ERROR" in line)) or lines[-15:]
