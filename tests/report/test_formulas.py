"""Formulas of the book as pictures, and what is not understood refused."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from kc_utils.report.formulas import drawn
from tests.conftest import ROOT

SVG = "{http://www.w3.org/2000/svg}"
CODE = re.compile(r"^(`{3,}).*?^\1|`[^`\n]*`", re.M | re.S)
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", re.S)


def formulas() -> list[tuple[str, str]]:
    found = []
    for file in sorted((ROOT / "book").rglob("*.md")):
        if "results" not in file.parts:
            text = CODE.sub("", file.read_text(encoding="utf-8"))
            found += [(file.stem, (block or inline).strip()) for block, inline in FORMULA.findall(text)]
    return found


def test_every_formula_of_the_book_is_understood():
    found = formulas()
    assert len(found) > 40
    for page, tex in found:
        assert ET.fromstring(drawn(tex)).get("aria-label") == tex, page


def size(tex: str, inline: bool = True) -> tuple[float, float, float]:
    """Width, height and depth below the line, in em."""
    style = ET.fromstring(drawn(tex, inline)).get("style")
    width, height, below = (float(x) for x in re.findall(r":(-?[\d.]+)em", style))
    return width, height, -below


def test_a_picture_is_as_large_as_what_it_shows():
    (letter, x_high, x_below), (wide, high, below) = size("x"), size("xxx")
    assert wide == pytest.approx(3 * letter, rel=0.1) and high == x_high and 0.4 < x_high < 0.7 and abs(x_below) < 0.05
    _, high, below = size(r"\frac{x}{x}", inline=False)
    assert high > 2.5 * x_high and below > 0.5 * x_high, "a fraction stands on the line, a part below it"
    assert size("p")[2] > 0.2, "what hangs below the line hangs below it"


def test_it_has_the_colour_of_the_text_and_no_names_that_a_page_could_hold_twice():
    tree = ET.fromstring(drawn(r"\hat w_j \le \frac{1}{2}"))
    shapes = [e for e in tree.iter() if e.tag in (f"{SVG}path", f"{SVG}rect")]
    assert len(shapes) >= 6 and {e.get("fill") for e in shapes} == {"currentColor"}
    assert not [e for e in tree.iter() if e.get("id")]


@pytest.mark.parametrize(
    ("tex", "says"),
    [
        (r"\foo x", "unknown command"),
        (r"\frac{a}", "mfrac needs 2 parts"),
        (r"\begin{gathered} a & b \end{gathered}", "ParseError"),
        (r"a \right)", "Right"),
    ],
)
def test_what_is_not_understood_is_refused(tex, says):
    with pytest.raises(ValueError, match=says):
        drawn(tex)


def test_a_page_with_such_a_formula_is_warned_of(tmp_path):
    (tmp_path / "conf.py").write_text(
        "extensions = ['myst_parser', 'kc_utils.report.formulas']\n"
        "myst_enable_extensions = ['dollarmath']\nhtml_math_renderer = 'drawn'\n"
    )
    (tmp_path / "index.md").write_text("# Title\n\nGood: $a^2$. Bad: $\\foo$.\n\n$$\nb = 1\n$$\n")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-b", "html", "-q", str(tmp_path), str(tmp_path / "out")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "index.md:3: WARNING: formula '\\\\foo' cannot be drawn: unknown command \\foo" in done.stderr
    page = (tmp_path / "out" / "index.html").read_text()
    assert (
        page.count("<svg ") == 2 and "<code>\\foo</code>" in page and not re.search(r"<script[^>]*mathjax", page, re.I)
    )
