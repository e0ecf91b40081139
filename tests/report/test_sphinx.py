"""What the book adds to Sphinx: works cited, chapters executed again, notebooks that leave the book, a strict build."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from kc_utils.errors import BadResult
from kc_utils.report import sphinx
from kc_utils.report.build import build_html, complaints
from kc_utils.report.sphinx import BRANCH, WORKS, install_cell, repository, works
from tests.conftest import ROOT
from tests.report.chapter import chapter, small_book

BIB = ROOT / "book" / "references.bib"
ADDRESS = "https://github.com/somebody/the-cost"
CODE = "import uuid\nprint(6 * 7, uuid.uuid4())"
TEXT = "As {cite:t}`namburi2023` say {cite}`wilson1927, jin2024`, and {cite}`namburi2023` again."


def test_works_are_listed_once_by_author_and_only_where_they_are_cited():
    lines = [line for line in works(TEXT, BIB).splitlines() if line.startswith("- ")]
    assert works(TEXT, BIB).count(WORKS) == 1 and len(lines) == 3
    assert [name in line for name, line in zip(("Jin", "Namburi", "Wilson"), lines, strict=True)] == [True] * 3
    assert works("nothing is cited", BIB) == works("{cite}`nobody1900`", BIB) == ""

    used = set()
    for page, expected in (("chapter.md", 1), ("references.md", 0), ("notebook.ipynb", 0)):  # chapters of text alone
        env, source = SimpleNamespace(doc2path=lambda _, p=page: p, note_dependency=used.add), [TEXT]
        sphinx.list_works(SimpleNamespace(srcdir=BIB.parent, env=env), page.partition(".")[0], source)
        assert source[0].count(WORKS) == expected
    assert used == {"references.bib"}


def test_chapters_on_results_are_read_again_when_these_changed(tmp_path):
    env = SimpleNamespace(found_docs={"glossary", "intro", "techniques/one", "findings/two"})
    app = SimpleNamespace(srcdir=tmp_path, doctreedir=tmp_path)
    again = lambda: sphinx.outdated(app, env, set(), set(), set())  # noqa: E731
    assert again() == []
    (tmp_path / "results").mkdir()
    (tmp_path / sphinx.MADE_OF).write_text("other rows")
    assert again() == ["findings/two", "intro"] and again() == []


def test_a_build_writes_what_changed_and_fails_until_the_fault_is_gone(tmp_path, in_project, monkeypatch):
    texts = {
        "intro": "",
        "one": "{ref}`See <place>`",
        "two": "(place)=\n## Place\n",
        "three": "```{include} results/part.md\n```",
    }
    folder = small_book(tmp_path, [{"file": name} for name in ("one", "two", "three")])
    part, two = folder / "results" / "part.md", folder / "two.md"
    part.write_text("A part.\n")
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(f"# {name}\n\n{text}\n")
    html, stamps = tmp_path / "_build" / "html", {}

    def written() -> set[str]:
        build_html(tmp_path)
        now = {name: (html / f"{name}.html").stat().st_mtime_ns for name in texts}
        changed = {name for name in now if now[name] != stamps.get(name)}
        stamps.update(now)
        return changed

    assert written() == {*texts}
    assert written() == set()
    part.write_text("Another part.\n")
    (html / "two.html").unlink()
    assert written() == {"two", "three", "intro"}, "Sphinx always writes the start page, too"
    (tmp_path / "site" / "scipy-2.0.dist-info").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path / 'site'}")
    assert written() == {*texts}, "a package was installed"
    two.write_text(two.read_text().replace("(place)=", "(elsewhere)="))
    for _ in range(2):
        with pytest.raises(BadResult, match="one.md:3: WARNING: undefined label: 'place'"):
            build_html(tmp_path)


@pytest.mark.parametrize("given", [ADDRESS, f"{ADDRESS}/", f"{ADDRESS}.git"])
def test_the_address_is_that_of_the_environment_or_of_the_configuration(given, tmp_path, monkeypatch):
    monkeypatch.delenv("KC_REPOSITORY", raising=False)
    assert repository(tmp_path) == repository(ROOT) == ""
    (tmp_path / "_config.yml").write_text(yaml.safe_dump({"repository": {"url": given}}))
    assert repository(tmp_path) == ADDRESS
    monkeypatch.setenv("KC_REPOSITORY", "https://gitlab.com/a/b")
    assert repository(tmp_path) == "https://gitlab.com/a/b"


def test_a_notebook_installs_what_it_evaluates(tmp_path):
    assert "[quantization]" in install_cell(ADDRESS, ["none", "rtn@all=4"]).source
    assert "for built in ['gptqmodel']" in install_cell(ADDRESS, ["gptq@all=4"]).source
    assert "[quantization,harness]" in install_cell(ADDRESS, tasks=True).source
    extras = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "quantization = [" in extras and "harness = [" in extras
    run = lambda *flags: subprocess.run([sys.executable, *flags], cwd=tmp_path, capture_output=True, text=True)  # noqa: E731
    assert run("-c", install_cell(ADDRESS).source).returncode == 0, "nothing happens where the study is installed"
    missing = run("-I", "-S", "-c", install_cell("").source)
    assert "RuntimeError: kc_utils is missing: run this notebook in the environment of a checkout" in missing.stderr


def test_the_workflow_publishes_on_the_branch_that_buttons_open():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8"))
    (script,) = (step["run"] for step in workflow["jobs"]["book"]["steps"] if "notebooks" in step.get("name", ""))
    assert f"HEAD:refs/heads/{BRANCH}" in script and "_build/html/_sources" in script
    assert "'.[book,quantization]'" in (ROOT / "binder" / "postBuild").read_text()


@pytest.fixture
def book(tmp_path, in_project):
    """A book of a start page, a chapter that is executed and a page of results, with the settings of this book."""
    folder = small_book(tmp_path, [{"file": "techniques/chapter", "sections": [{"file": "results/a-run"}]}])
    (folder / "intro.md").write_text("# Start\n\nA formula: $a^2$.\n")
    (folder / "techniques" / "chapter.md").write_text(chapter("A chapter", "import uuid\nprint(6 * 7, uuid.uuid4())"))
    page = new_notebook(cells=[install_cell(ADDRESS), new_markdown_cell("# A run"), new_code_cell("run()")])
    page.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(page, folder / "results" / "a-run.ipynb")
    return tmp_path


def test_pages_that_are_notebooks_can_be_downloaded_and_opened_elsewhere(book, monkeypatch):
    monkeypatch.setenv("KC_REPOSITORY", "")
    html = build_html(book).parent
    pages = ("results/a-run", "techniques/chapter")
    for page in pages:
        text = (html / f"{page}.html").read_text(encoding="utf-8")
        assert f"_sources/{page}.ipynb" in text and "colab" not in text and "mybinder" not in text
        assert "find_spec" not in text, "the first cell is not for readers of the page"
        first = nbformat.read(html / "_sources" / f"{page}.ipynb", as_version=4).cells[0]
        assert first.source.startswith("# Installs the study where it is missing")
    executed = nbformat.read(html / "_sources" / "techniques" / "chapter.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text.startswith("42 ")
    start = (html / "intro.html").read_text(encoding="utf-8")
    assert start.count("_static/mathjax/tex-svg.js") == 1, "loaded once"
    assert not re.search(r'<(script|link)[^>]+(src|href)="?http|sphinx-thebe.js', start), "no other host is needed"
    monkeypatch.setenv("KC_REPOSITORY", ADDRESS)  # the book again: pages are written anew
    (book / "book" / "techniques" / "chapter.md").write_text(chapter("A chapter with the same code", CODE))
    html = build_html(book).parent
    for page in pages:
        text = (html / f"{page}.html").read_text(encoding="utf-8")
        assert f"https://colab.research.google.com/github/somebody/the-cost/blob/{BRANCH}/book/{page}.ipynb" in text
        assert f"https://mybinder.org/v2/gh/somebody/the-cost/{BRANCH}?urlpath=lab/tree/book/{page}.ipynb" in text
    chapter_ = nbformat.read(html / "_sources" / "techniques" / "chapter.ipynb", as_version=4)
    assert repr(ADDRESS) in chapter_.cells[0].source and len(chapter_.cells) == len(executed.cells)
    assert chapter_.cells[-1].outputs != executed.cells[-1].outputs, "executed again, not taken from the build before"


def test_a_chapter_with_an_error_ends_the_build(book):
    text = chapter("Broken", 'raise ValueError("the grid has no levels")')
    (book / "book" / "techniques" / "chapter.md").write_text(text)
    with pytest.raises(BadResult, match=r"(?s)(?=.*the grid has no levels).*techniques/chapter"):
        build_html(book)


def test_warnings_are_named_once_and_a_kernel_about_its_port_is_not_one():
    kernel, warning = "[IPKernelApp] WARNING | Kernel is running over TCP\n", "book/a.md:3: WARNING: no such term"
    assert complaints((kernel + f"\x1b[91m{warning}\x1b[0m\n") * 2) == [warning]
    assert complaints("\n".join(map(str, range(40)))) == [str(n) for n in range(25, 40)]
