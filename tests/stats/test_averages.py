"""Micro and macro averages by hand, and the coverage of their intervals."""

import math

import numpy as np
import pandas as pd
import pytest

from kc_utils.stats.averages import _line, averages, types_of
from kc_utils.stats.intervals import wilson
from kc_utils.errors import BadRequest, BadResult
from tests.stats.made import beta, frame, worded

TYPES = {"a": "N-1", "b": "N-1", "c": "1-1"}


def rows_of(counts: dict[str, tuple[int, int]], **columns):
    """Relations with (right, wrong) facts."""
    relation = [r for r, (right, wrong) in counts.items() for _ in range(right + wrong)]
    return frame(
        [x for right, wrong in counts.values() for x in [1] * right + [0] * wrong], relation=relation, **columns
    )


def test_averages_by_hand():
    rows = rows_of({"a": (60, 20), "b": (2, 8), "c": (5, 5)}, chance=np.repeat([0.1, 0.2, 0.5], [80, 10, 10]))
    found = averages(rows, TYPES).set_index(["average", "type"])
    assert found["accuracy"].to_dict() == pytest.approx(
        {
            ("micro", "all"): 0.67,
            ("macro", "all"): (0.75 + 0.2 + 0.5) / 3,
            ("macro by type", "all"): ((0.75 + 0.2) / 2 + 0.5) / 2,
            ("micro", "1-1"): 0.5,
            ("macro", "1-1"): 0.5,
            ("micro", "N-1"): 62 / 90,
            ("macro", "N-1"): (0.75 + 0.2) / 2,
        }
    )
    assert found.loc[("macro", "all"), "chance"] == pytest.approx(0.8 / 3)
    assert found.loc[("micro", "all"), "chance"] == pytest.approx(0.15)
    assert found["n"].tolist() == [100, 100, 100, 10, 10, 90, 90]
    assert found["relations"].tolist() == [3, 3, 3, 1, 1, 2, 2]
    assert found.loc[("micro", "all"), ["low", "high"]].tolist() == list(wilson(67, 100))
    assert ((found["low"] < found["accuracy"]) & (found["accuracy"] < found["high"])).all()


def test_the_macro_interval_by_its_formula():
    """Independent relations, their variances added; Student's quantile on Satterthwaite's degrees of freedom."""
    from scipy import stats

    rows = rows_of({"a": (60, 20), "b": (2, 8), "c": (5, 5)})
    line = averages(rows).set_index("average").loc["macro"]
    shares, sizes = np.array([0.75, 0.2, 0.5]), np.array([80, 10, 10])
    parts = shares * (1 - shares) / (sizes - 1) / 9
    variance, p = parts.sum(), shares.mean()
    q = stats.t.ppf(0.975, variance**2 / (parts**2 / (sizes - 1)).sum())
    n = p * (1 - p) / variance
    middle, half = (
        (p + q**2 / 2 / n) / (1 + q**2 / n),
        q / (1 + q**2 / n) * math.sqrt(p * (1 - p) / n + q**2 / 4 / n**2),
    )
    assert (line["low"], line["high"]) == pytest.approx((middle - half, middle + half))


def test_relations_of_one_size_have_one_average():
    rng = np.random.default_rng(0)
    rows = frame(rng.random(400) < 0.4, relation=np.repeat([f"r{i}" for i in range(20)], 20))
    for cluster in ("fact", "relation"):
        found = averages(rows, cluster=cluster).set_index("average")
        assert found.loc["micro", "accuracy"] == pytest.approx(found.loc["macro", "accuracy"])
        assert found.loc["micro", "low"] == pytest.approx(found.loc["macro", "low"], abs=0.012)


def test_wordings_are_no_more_facts():
    rows = rows_of({"a": (12, 8), "b": (5, 9)})
    once, thrice = averages(rows), averages(worded(rows, 3))
    for column in ("accuracy", "low", "high"):
        assert thrice[column].tolist() == pytest.approx(once[column].tolist(), abs=0.01)


@pytest.mark.parametrize("cluster", ["fact", "relation"])
def test_coverage_of_macro_intervals(cluster):
    """Relations of very different size; `fact`: their own probabilities are the truth, `relation`: the mean of all."""
    rng = np.random.default_rng(3)
    sizes = np.round(20 * np.exp(np.linspace(-1, 1.2, 16))).astype(int)
    relation = np.repeat([f"r{i:02}" for i in range(16)], sizes)
    fixed, hits = beta(0.35, 0.15, 16, rng), 0
    rows = frame(np.zeros(len(relation)), relation=relation)
    one = pd.Series("all", rows.index)
    for _ in range(120):
        own = fixed if cluster == "fact" else beta(0.35, 0.15, 16, rng)
        answers = rows.assign(correct=rng.random(len(relation)) < np.repeat(own, sizes))
        line = _line("macro", "all", answers, "correct", cluster, one)
        hits += line["low"] <= (fixed.mean() if cluster == "fact" else 0.35) <= line["high"]
    assert 0.915 <= hits / 120 <= 0.985


def test_few_relations_say_nothing_of_others():
    found = averages(rows_of({"a": (6, 2), "b": (2, 8), "c": (5, 5)}), TYPES, cluster="relation")
    assert found["low"].isna().all()
    assert found["accuracy"].notna().all()


def test_relations_of_one_fact_each():
    found = averages(frame([1, 0, 1, 0, 1, 0, 0, 0], relation=list("abcdefgh"))).set_index("average")
    assert found.loc["macro", "accuracy"] == 0.375
    assert 0.05 < found.loc["macro", "low"] < 0.25
    assert 0.5 < found.loc["macro", "high"] < 0.85


def test_what_has_no_average():
    rows = rows_of({"a": (6, 2), "d": (2, 8)})
    with pytest.raises(BadRequest, match="no type is given for d"):
        averages(rows, TYPES)
    with pytest.raises(BadRequest, match="over protocols cloze, rank means nothing"):
        averages(pd.concat([rows, rows.assign(protocol="cloze")]))
    with pytest.raises(BadRequest, match="no cluster"):
        averages(rows, cluster="task")
    with pytest.raises(BadResult, match="no rows"):
        averages(rows[:0])
    assert types_of(rows, {"a": "x", "d": "y"}).tolist() == ["x"] * 8 + ["y"] * 10
