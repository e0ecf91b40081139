"""Targets: nothing is made twice, what changed is made again and nothing else, what is gone comes back."""

import pytest

from kc_utils.report import targets
from kc_utils.report.targets import LIST, Target, made_with, make


@pytest.fixture
def made(tmp_path):
    """A function that makes two targets of these texts, and returns the names of those that were made."""

    def run(**texts):
        given = [
            Target(name, text, lambda t=text, n=name: {f"{n}/{n}.md": t, f"{n}.png": t.encode()}) for name, text in texts.items()
        ]
        return make(tmp_path, given)

    return run


def files(folder):
    found = (file for file in folder.rglob("*") if file.is_file() and file.name != LIST)
    return {str(file.relative_to(folder)): file.read_text() for file in found}


def test_only_what_changed_is_made_again(made, tmp_path):
    assert made(a="1", b="2") == ["a", "b"]
    whole = {"a/a.md": "1", "a.png": "1", "b/b.md": "2", "b.png": "2"}
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    assert made(a="1", b="2") == [] and files(tmp_path) == whole
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == stamps
    assert made(a="1", b="3") == ["b"] and files(tmp_path) == whole | {"b/b.md": "3", "b.png": "3"}


def test_files_that_are_gone_or_altered_are_made_again_and_those_of_no_target_go(made, tmp_path):
    made(a="1", b="2")
    whole = files(tmp_path)
    (tmp_path / "a" / "a.md").unlink()
    assert made(a="1", b="2") == ["a"]
    (tmp_path / "b.png").write_text("another")
    (tmp_path / "stale").mkdir()
    (tmp_path / "stale" / "c.md").write_text("of an earlier study")
    assert made(a="1", b="2") == ["b"] and files(tmp_path) == whole
    (tmp_path / LIST).write_text("{")
    assert made(a="1", b="2") == ["a", "b"]
    assert made(b="2") == [] and not (tmp_path / "a").exists() and not (tmp_path / "stale").exists()


def test_a_target_that_fails_leaves_the_others_made(made, tmp_path):
    made(a="1", b="2")

    def fail():
        raise ValueError("no rows")

    given = [Target("a", "new", lambda: {"a.md": "new"}), Target("b", "new", fail)]
    with pytest.raises(ValueError, match="no rows"):
        make(tmp_path, given)
    given[1] = Target("b", "new", lambda: {"b.md": "new"})
    assert make(tmp_path, given) == ["b"] and files(tmp_path) == {"a.md": "new", "b.md": "new"}


@pytest.mark.parametrize("name, counts", [
    ("kc_utils/style.py", True), ("kc_lab/words.yaml", True), ("data/facts.jsonl", True), ("site/scipy-2.0.dist-info/x", True),
    ("kc_utils/style.pyc", False), ("kc_lab/weights.safetensors", False), ("kc_utils/.style.py.swp", False),
])  # fmt: skip
def test_code_data_and_packages_count_for_every_target(name, counts, made, tmp_path_factory, monkeypatch):
    root = tmp_path_factory.mktemp("checkout")
    monkeypatch.setattr(targets, "PACKAGE", root / "kc_utils")
    monkeypatch.syspath_prepend(root / "site")
    made_with.cache_clear()
    assert made(a="1") == ["a"] and made(a="1") == []
    (root / name).parent.mkdir(parents=True)
    (root / name).write_text("x")
    made_with.cache_clear()
    assert made(a="1") == ["a"] * counts


@pytest.fixture(autouse=True)
def afterwards():
    yield
    made_with.cache_clear()
