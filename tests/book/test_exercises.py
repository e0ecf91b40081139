"""The exercises across chapters: the code of their solutions runs, and shows the numbers that the answers give."""

import contextlib
import io
import re

import pytest

from tests.conftest import ROOT

TEXT = (ROOT / "book" / "exercises.md").read_text(encoding="utf-8")
SHOWN = {
    1: r"\[-0\.5666\d+ +0\. +1\.1333\d+ +0\. *\]",
    3: r"^0\.[1-9]\d+ \d\.\d+e-1\d$",
    5: r"^\(0\.334\d+, 0\.469\d*\)\n\(0\.366\d+, 0\.434\d*\)$",
}
"""By the number of the exercise: what its code prints."""


def solutions() -> dict[int, str]:
    parts = re.findall(r"^## (\d+)\. .*?\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    code = {int(number): "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)) for number, text in parts}
    return {number: text for number, text in code.items() if text}


@pytest.mark.parametrize("number", SHOWN | solutions())
def test_a_solution_shows_what_its_answer_says(number):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(solutions()[number], "solution", "exec"), {"__name__": "solution"})
    assert re.search(SHOWN[number], said.getvalue(), re.M), said.getvalue()
