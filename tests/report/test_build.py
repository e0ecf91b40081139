"""The strict build: a chapter that does not run ends it, and the message says which and why."""

from __future__ import annotations

import pytest
import yaml

from kc_utils.errors import BadResult
from kc_utils.report.build import build_html, complaints
from tests.report.chapter import chapter

CHAPTER = chapter("Broken", 'raise ValueError("the grid has no levels")')


@pytest.fixture
def book(tmp_path, in_project):
    """A book of two pages with the execution settings of this one."""
    folder = tmp_path / "book"
    (folder / "techniques").mkdir(parents=True)
    (folder / "results").mkdir()
    (folder / "intro.md").write_text("# Start\n")
    (folder / "techniques" / "broken.md").write_text(CHAPTER)
    contents = {"format": "jb-book", "root": "intro", "chapters": [{"file": "techniques/broken"}]}
    (folder / "results" / "_toc.yml").write_text(yaml.safe_dump(contents))
    config = yaml.safe_load((in_project / "_config.yml").read_text(encoding="utf-8"))
    config = {"title": "A book", "execute": config["execute"], "sphinx": config["sphinx"]}
    kept = ("nb_execution_raise_on_error", "nb_execution_show_tb")
    config["sphinx"]["config"] = {name: config["sphinx"]["config"][name] for name in kept}
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(config))
    return tmp_path


def test_a_chapter_with_an_error_ends_the_build(book):
    with pytest.raises(BadResult, match="the grid has no levels") as raised:
        build_html(book)
    assert "techniques/broken" in str(raised.value)


def test_warnings_are_named_once_and_a_kernel_about_its_port_is_not_one():
    output = (
        "[IPKernelApp] WARNING | Kernel is running over TCP\n\x1b[91mbook/a.md:3: WARNING: no such term\x1b[0m\n" * 2
    )
    assert complaints(output) == ["book/a.md:3: WARNING: no such term"]


def test_without_a_warning_the_last_lines_are_given():
    assert complaints("\n".join(map(str, range(40)))) == [str(n) for n in range(25, 40)]
