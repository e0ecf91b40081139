"""Notebooks that leave the book: they install what they need, and the buttons lead to where the workflow puts them."""

import os
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from kc_utils.report import launch
from kc_utils.report.build import build_html
from kc_utils.report.launch import BRANCH, buttons, install_cell, repository
from tests.conftest import ROOT
from tests.report.chapter import chapter

ADDRESS = "https://github.com/somebody/the-cost"
GIT = ("git", "-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "kc-utils"
version = "0"
requires-python = ">=3.11,<3.12"
optional-dependencies = {quantization = [], harness = []}
"""
BACKEND = '''
"""Builds the wheel of a package of one line, without a network."""
import zipfile
from pathlib import Path


def build_wheel(folder, settings=None, metadata=None):
    name, about = "kc_utils-0-py3-none-any.whl", "kc_utils-0.dist-info/"
    tag = "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    said = "Metadata-Version: 2.1\\nName: kc-utils\\nVersion: 0\\nProvides-Extra: quantization\\nProvides-Extra: harness\\n"
    with zipfile.ZipFile(Path(folder) / name, "w") as wheel:
        wheel.writestr("kc_utils/__init__.py", "WHERE = 'installed'\\n")
        wheel.writestr(about + "METADATA", said)
        wheel.writestr(about + "WHEEL", tag)
        wheel.writestr(about + "RECORD", "")
    return name
'''


def git(folder, *arguments):
    return subprocess.run([*GIT, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("given", [ADDRESS, f"{ADDRESS}/", f"{ADDRESS}.git"])
def test_the_address_is_that_of_the_environment_or_of_the_configuration(given, tmp_path, monkeypatch):
    monkeypatch.delenv("KC_REPOSITORY", raising=False)
    assert repository(tmp_path) == ""
    (tmp_path / "_config.yml").write_text(yaml.safe_dump({"repository": {"url": given}}))
    assert repository(tmp_path) == ADDRESS
    monkeypatch.setenv("KC_REPOSITORY", "https://gitlab.com/a/b")
    assert repository(tmp_path) == "https://gitlab.com/a/b"
    monkeypatch.setenv("KC_REPOSITORY", "")
    assert repository(tmp_path) == ""


def test_the_configuration_of_this_book_names_no_repository(monkeypatch):
    monkeypatch.delenv("KC_REPOSITORY", raising=False)
    assert repository(ROOT) == ""
    assert buttons("", "results/a-run") == []


def test_buttons_lead_to_the_branch_of_executed_notebooks():
    links = {b["text"]: b["url"] for b in buttons(ADDRESS, "results/a-run")}
    colab, binder = "https://colab.research.google.com/github", "https://mybinder.org/v2"
    assert links == {
        "Colab": f"{colab}/somebody/the-cost/blob/{BRANCH}/book/results/a-run.ipynb",
        "Binder": f"{binder}/gh/somebody/the-cost/{BRANCH}?urlpath=lab/tree/book/results/a-run.ipynb",
    }
    assert [b["text"] for b in buttons("https://gitlab.com/a/b", "results/a-run")] == ["Binder"]
    assert buttons("https://git.example.org/a/b", "results/a-run") == []


def test_a_notebook_installs_what_it_asks_for():
    assert "'quantization', [])" in install_cell(ADDRESS, ["none", "rtn@all=4"]).source
    assert "'quantization', ['gptqmodel'])" in install_cell(ADDRESS, ["gptq@all=4"]).source
    assert "'quantization,harness', [])" in install_cell(ADDRESS, tasks=True).source
    extras = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "quantization = [" in extras and "harness = [" in extras


def test_nothing_happens_where_the_study_is_installed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", None)
    exec(install_cell(ADDRESS).source, {})
    assert os.getcwd() == str(tmp_path)


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python with pip and nothing else."""
    folder = tmp_path_factory.mktemp("bare") / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return folder / "bin" / "python"


def run_cell(python, source, folder, before=""):
    program = f"{before}\n{source}\nimport os, kc_utils; print(kc_utils.WHERE, os.path.basename(os.getcwd()))"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"PIP_NO_INDEX": "1"}
    return subprocess.run([python, "-c", program], cwd=folder, capture_output=True, text=True, env=environment)


def test_a_bare_environment_gets_the_study_and_its_folder(bare_python, tmp_path):
    origin = tmp_path / "origin"
    origin.mkdir()
    for name, text in {"pyproject.toml": PROJECT, "backend.py": BACKEND, "constraints.txt": "kc-utils==0\n"}.items():
        (origin / name).write_text(text)
    git(origin, "init", "--quiet")
    git(origin, "add", ".")
    git(origin, "commit", "--quiet", "-m", "all")
    place = tmp_path / "elsewhere"
    place.mkdir()
    nowhere = run_cell(bare_python, install_cell("").source, place)
    assert "RuntimeError: kc_utils is missing: run this notebook in the environment of a checkout" in nowhere.stderr
    cell = install_cell(origin.as_uri()).source
    in_use = run_cell(
        bare_python, cell, place, before="import sys, types; sys.modules['numpy'] = types.ModuleType('numpy')"
    )
    assert "RuntimeError: installed, but numpy was in use: restart the session" in in_use.stderr
    for _ in ("after the restart", "and once more"):
        done = run_cell(bare_python, cell, place)
        assert done.stdout.split() == ["installed", "cost-of-compression"], done.stderr[-800:]


def test_the_workflow_puts_notebooks_where_the_buttons_lead(tmp_path):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8"))
    (script,) = (step["run"] for step in workflow["jobs"]["book"]["steps"] if "notebooks" in step.get("name", ""))
    remote, checkout = tmp_path / "remote.git", tmp_path / "checkout"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=master", str(remote))
    git(tmp_path, "clone", "--quiet", str(remote), str(checkout))
    for name in ("book/techniques/gptq.md", ".gitignore", "_build/html/_sources/intro.md"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("book/results/\n_build/\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "the code")
    pages = ("results/a-run", "techniques/gptq")
    for page in pages:
        file = checkout / "_build" / "html" / "_sources" / f"{page}.ipynb"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    (checkout / "book" / "results").mkdir()
    for _ in range(2):  # the second time as from a fresh checkout
        git(checkout, "checkout", "--quiet", "master")
        git(checkout, "checkout", "--quiet", "--detach")
        subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=checkout, check=True)
    tracked = git(remote, "ls-tree", "-r", "--name-only", BRANCH).split()
    assert set(tracked) == {".gitignore", "book/techniques/gptq.md", *(f"book/{page}.ipynb" for page in pages)}
    for page in pages:
        assert all(f"{BRANCH}" in b["url"] and b["url"].endswith(f"book/{page}.ipynb") for b in buttons(ADDRESS, page))


def test_binder_installs_what_pages_need():
    """`binder/` is what Binder looks at first; it runs `postBuild` in the checkout."""
    script = ROOT / "binder" / "postBuild"
    assert os.access(script, os.X_OK) and script.read_text().startswith("#!/bin/bash\n")
    assert "'.[book,quantization]'" in script.read_text() and "--constraint constraints.txt" in script.read_text()
    assert "python=3.11" in yaml.safe_load((ROOT / "binder" / "environment.yml").read_text())["dependencies"]


CHAPTER = chapter("A chapter", 'print("executed", 6 * 7)')


@pytest.fixture
def book(tmp_path, in_project):
    """A book of a start page, a chapter that is executed and a page of results, with the settings of this book."""
    folder = tmp_path / "book"
    for name in ("techniques", "results"):
        (folder / name).mkdir(parents=True)
    (folder / "references.bib").write_text("")
    (folder / "intro.md").write_text("# Start\n")
    (folder / "techniques" / "chapter.md").write_text(CHAPTER)
    page = new_notebook(cells=[install_cell(ADDRESS), new_markdown_cell("# A run"), new_code_cell("run()")])
    page.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(page, folder / "results" / "a-run.ipynb")
    contents = {
        "format": "jb-book", "root": "intro", "chapters": [{"file": "techniques/chapter"}, {"file": "results/a-run"}],
    }  # fmt: skip
    (folder / "results" / "_toc.yml").write_text(yaml.safe_dump(contents))
    config = yaml.safe_load((in_project / "_config.yml").read_text(encoding="utf-8"))
    del config["logo"], config["html"]["favicon"]
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(config))
    return tmp_path


def test_pages_that_are_notebooks_can_be_downloaded_and_opened_elsewhere(book, monkeypatch):
    monkeypatch.setenv("KC_REPOSITORY", "")
    html = build_html(book).parent
    pages = ("results/a-run", "techniques/chapter")
    for page in pages:
        text = (html / f"{page}.html").read_text(encoding="utf-8")
        assert f"_sources/{page}.ipynb" in text
        assert "_install" not in text, "the first cell is not for readers of the page"
        assert "colab" not in text and "mybinder" not in text
        first = nbformat.read(html / "_sources" / f"{page}.ipynb", as_version=4).cells[0]
        assert first.source.startswith("# Installs the study where it is missing")
    chapter = nbformat.read(html / "_sources" / "techniques" / "chapter.ipynb", as_version=4)
    assert chapter.cells[-1].outputs[0].text == "executed 42\n"

    monkeypatch.setenv("KC_REPOSITORY", ADDRESS)  # the same book again: pages are written anew
    html = build_html(book).parent
    for page in pages:
        text = (html / f"{page}.html").read_text(encoding="utf-8").replace("&amp;", "&")
        assert all(link["url"] in text for link in buttons(ADDRESS, page))
    assert "colab" not in (html / "intro.html").read_text(encoding="utf-8")
    chapter = nbformat.read(html / "_sources" / "techniques" / "chapter.ipynb", as_version=4)
    assert repr(ADDRESS) in chapter.cells[0].source


def test_a_page_of_text_is_not_offered():
    context = {"page_source_suffix": ".md", "header_buttons": []}
    app = SimpleNamespace(config=SimpleNamespace(kc_repository=ADDRESS), outdir="nowhere")
    launch.offer_download(app, "techniques/unbuilt", "page.html", context, None)
    launch.offer_launch(app, "techniques/unbuilt", "page.html", context, None)
    assert context == {"page_source_suffix": ".md", "header_buttons": []}
