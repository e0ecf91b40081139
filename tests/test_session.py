"""A stranger's session: what the README shows runs as it stands, and so does the example of every public name."""

import doctest
import inspect
import re

import pandas as pd
import pytest

import kc_utils as kc
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("in_project", "place")

README = (ROOT / "README.md").read_text(encoding="utf-8")
SESSION = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "import kc_utils as kc" in block)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Results that the tests of this file share."""
    folder = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KC_RESULTS", str(folder / "results"))
        yield folder


def test_the_session_of_the_readme():
    lines = [line for line in SESSION.splitlines() if line.strip()]
    assert len(lines) <= 10
    shown, space = [], {}
    for line in lines:  # as in a shell, where the value of an expression is shown
        try:
            shown.append(eval(line, space))
        except SyntaxError:
            exec(line, space)
    before, after, numbers, picture = shown
    assert before["piece"].iloc[0] == "Paris" != after["piece"].iloc[0]
    assert before["probability"].iloc[0] > 0.1 and (before["probability"].sum()) <= 1
    rows, table = space["rows"], space["table"]
    assert rows.groupby(["recipe", "protocol"])["fact"].nunique().max() == 50
    ranked = table[table["protocol"] == "rank"].set_index("recipe")
    whole, half = ranked.loc["none"], ranked.loc["magnitude@all=0.5"]
    assert whole["accuracy"] > whole["chance"] and half["accuracy"] < whole["accuracy"] and half["lost"] > 0
    assert {"n", "low", "high", "chance"} <= set(numbers)
    assert picture.alt and picture.caption and len(picture.figure.axes) >= 1


class ShownOrNot(doctest.OutputChecker):
    """An example that says nothing of its output only has to run."""

    def check_output(self, want, got, optionflags):
        return not want or super().check_output(want, got, optionflags)


@pytest.fixture(scope="module")
def session(place):
    """What examples may begin with: a small language model, rows of facts and of a text, their comparison."""
    (place / "text.txt").write_text("Anna Berg was born in Oslo. " * 60)
    probe = {"facts": "lab", "limit": 40, "protocols": ["cloze"], "text": str(place / "text.txt")}
    rows = kc.evaluate("lab:decoder-small-s1", ["magnitude@all=0.3", "magnitude@all=0.6"], **probe)
    found = {name: getattr(kc, name) for name in kc.PUBLIC}
    return found | {"kc": kc, "pd": pd, "lm": kc.load("lab:decoder-small-s1"), "rows": rows, "table": kc.compare(rows)}


@pytest.mark.parametrize("name", ["kc_utils", *(n for n in kc.PUBLIC if n != "plot")])
def test_the_example_of_every_public_name(name, session):
    text = inspect.getdoc(kc if name == "kc_utils" else getattr(kc, name))
    assert text and ">>>" in text, f"{name} has no example"
    example = doctest.DocTestParser().get_doctest(text, session, name, None, None)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    complaints = []
    doctest.DocTestRunner(ShownOrNot(), optionflags=flags, verbose=False).run(example, out=complaints.append)
    assert not complaints, "".join(complaints)


def test_every_public_name_is_listed_and_anything_else_refused():
    assert set(kc.PUBLIC) <= set(dir(kc)) and set(kc.__all__) == set(kc.PUBLIC)
    with pytest.raises(AttributeError, match="has no attribute 'prune'; it has list_models, load"):
        _ = kc.prune
