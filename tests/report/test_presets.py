"""The paper's sets of matrices beside those of the study: pairs, what is said of them, what is not there."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
from scipy.stats import binomtest

from kc_utils.report.presets import NONE, paper_preset, without_preset
from kc_utils.study.cells import Cell


def result(right: list[bool], touched: int):
    rows = pd.DataFrame(
        {
            "protocol": "rank", "relation": "capital", "fact": [f"f{i}" for i in range(len(right))], "template": 0,
            "correct": right, "chance": 0.2,
        }
    )  # fmt: skip
    return SimpleNamespace(rows=rows, report={"weights_touched": touched})


def cell(recipe: str) -> Cell:
    return Cell("tiny", recipe, None)


def test_without_such_a_run_the_page_says_so():
    assert paper_preset({cell("int8@all"): result([True], 10)}) == NONE


def test_a_pair_is_compared_fact_by_fact():
    here, paper = [True] * 30, [True] * 20 + [False] * 10
    text = paper_preset(
        {cell("int8@all"): result(here, 80_000_000), cell("int8@all,preset=paper"): result(paper, 108_400_000)}
    )
    assert "28.4\u00a0M weights more" in text
    assert "67\u00a0% right instead of 100\u00a0%, a clear difference" in text
    p = binomtest(0, 10).pvalue
    assert f"| {p:.3f} |" in text
    assert "108.4 M" in text and "80.0 M" in text


def test_differences_by_chance_and_none_at_all():
    few = {cell("int8@all"): result([True, False, True], 10), cell("int8@all,preset=paper"): result([True] * 3, 10)}
    assert "may be chance" in paper_preset(few)
    assert "the same number of weights as without" in paper_preset(few)
    same = {cell("int8@all"): result([True, False], 10), cell("int8@all,preset=paper"): result([True, False], 10)}
    assert "not one answer differs" in paper_preset(same)


def test_a_recipe_without_its_counterpart_is_named():
    text = paper_preset({cell("magnitude@attention=0.5,preset=paper"): result([True], 10)})
    assert "`magnitude@attention=0.5,preset=paper`" in text
    assert "Without a counterpart" in text
    assert "|" not in text


def test_the_counterpart_loses_the_preset_in_every_step():
    both = cell("magnitude@all=0.4,preset=paper+int8@all,per=tensor,preset=paper")
    assert without_preset(both).recipe == "magnitude@all=0.4+int8@all,per=tensor"
