"""Figures and sentences: drawn from any comparison, with the numbers that its rows hold, also for readers who see none."""

import numpy as np
import pandas as pd
import pytest

import kc_utils as kc
from kc_utils.report import drawing, phrases
from kc_utils.report.plot import curve, perplexity
from tests.stats import made

N = 200
RIGHT = {
    "none": 160, "magnitude@all=0.2": 150, "magnitude@all=0.5": 60, "magnitude@attention=0.2": 158,
    "magnitude@attention=0.5": 120, "rtn@all=4": 150, "int8@all": 160,
}  # fmt: skip


def rows_of(right=RIGHT, protocol="rank", chance=0.2) -> pd.DataFrame:
    """Of each recipe the first answers are correct, so that losses are nested."""
    relation = ["capital", "currency"] * (N // 2)
    rows = {r: made.frame(np.arange(N) < n, chance, protocol, relation, sparsity=0.1) for r, n in right.items()}
    return made.study({r: rows[r].assign(compression_ratio=1.0 + i / 10) for i, r in enumerate(right)}, model="tiny")


@pytest.fixture(scope="module")
def table():
    return kc.compare(pd.concat([rows_of(), rows_of(protocol="cloze", chance=0.0)]))


def drawn_lines(ax) -> dict[str, list[float]]:
    return {c.get_label(): list(np.round(c.lines[0].get_ydata(), 6)) for c in ax.containers}


def test_a_curve_begins_at_the_uncompressed_model_and_holds_every_number(table):
    pruned = table[table["method"].isin(["none", "magnitude"])]
    picture = curve(pruned, x="pruned", hue="scope", caption="Answers", name="accuracy")
    assert [ax.get_title(loc="left") for ax in picture.figure.axes] == [drawing.label(p) for p in ("rank", "cloze")]
    assert drawn_lines(picture.figure.axes[0]) == {"all layers": [80.0, 75.0, 30.0], "attention": [80.0, 79.0, 60.0]}
    assert picture.figure.axes[0].get_ylabel() == "correct answers (%)" and "(%)" in picture.figure.axes[0].get_xlabel()
    references = {line.get_label(): line.get_ydata()[0] for line in picture.figure.axes[0].get_lines()}
    assert (references["uncompressed"], references["chance"]) == (80.0, 20.0)
    assert "all layers: 80 at 0, 75 at 20, 30 at 50; attention: 80 at 0, 79 at 20, 60 at 50" in picture.alt
    assert picture.caption.startswith("Answers. Bars: 95 % intervals (n = 200). Black line: uncompressed")
    bars = picture.figure.axes[0].containers[0].lines[2][0].get_segments()
    line = pruned[(pruned["recipe"] == "magnitude@all=0.5") & (pruned["protocol"] == "rank")].iloc[0]
    assert bars[2][:, 1] == pytest.approx([100 * line["low"], 100 * line["high"]])


def test_perplexity_stands_below_facts_and_may_be_infinite(table):
    names = ["recipe", "scope", "pruned", "ratio", "ratio_low", "ratio_high"]
    text = [("none", "none", 0.0, 1.0, 1.0, 1.0), ("magnitude@all=0.5", "all", 0.5, np.inf, 2.0, 9.0)]
    one = table[table["recipe"].isin(["none", "magnitude@all=0.5"])]
    picture = perplexity(one, pd.DataFrame(text, columns=names).assign(text="wikitext2"), x="pruned")
    assert "inf at 50" in picture.alt and picture.figure.axes[1].get_yscale() == "log"
    assert any(line.get_marker() == "^" for line in picture.figure.axes[1].get_lines())


def test_losses_are_stated_with_their_first_clear_amount(table):
    text = phrases.state(table[table["protocol"] == "rank"]).data.replace("\u00a0", " ")
    assert "Uncompressed, tiny gives the right answer in the closed-set ranking for **80 %** of 200 facts" in text
    assert "**all layers, magnitude**: the loss is first clear at 20 % sparsity" in text
    assert "**attention, magnitude**: the loss is first clear at 50 % sparsity" in text
    assert "`int8@all` changes no answer from right to wrong or back" in text
    assert "`rtn@all=4` keeps 92 % of what it knew above chance" in text


def test_two_recipes_are_stated_against_each_other():
    pairs = {"magnitude@attention=0.5": "magnitude@all=0.5", "magnitude@attention=0.2": "magnitude@attention=0.2"}
    text = phrases.state(kc.compare(rows_of(), against=pairs)).data.replace("\u00a0", " ")
    assert text.count("\n") == 0  # a recipe against itself is not stated
    assert "60 % against 30 % right" in text and "a clear difference, in favour of `magnitude@attention=0.5`" in text


def test_fates_agreement_and_perplexity_are_stated():
    lost = pd.DataFrame({"fate": ["kept", "forgotten", "broken"], "share": [0.5, 0.3, 0.2], "recipe": "rtn@all=3"})
    lost = lost.assign(n=40, low=0.1, high=0.3, gap=0.2, gap_low=0.1, gap_high=0.3)
    assert "knowledge suffers more than reading" in phrases.state(lost).data
    agreed = pd.DataFrame({"recipe": ["rtn@all=3", "rtn@all=4"], "value": [0.5, 0.8], "protocol": "rank"})
    agreed = agreed.assign(facts=30, baseline_value=0.9, low=0.4, high=0.6)
    assert "least often under `rtn@all=3`" in phrases.state(agreed).data
    read = pd.DataFrame({"recipe": ["none", "rtn@all=4", "rtn@all=3"], "ratio": [1.0, 1.02, 2.0], "text": "t"})
    read = read.assign(perplexity=20.0, bits_per_byte=1.0, tokens=4096, n=8, ratio_low=read.ratio, ratio_high=read.ratio)
    said = phrases.state(read).data.replace("\u00a0", " ")
    assert "no more than 5 % under 1 of 2 recipes" in said and "most under `rtn@all=3`: 2.00 times" in said
