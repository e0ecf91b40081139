import math

import pytest
from scipy.stats import binomtest

from kc_utils.analysis.statistics import wilson
from kc_utils.analysis.summary import by_popularity, by_relation, summarise
from kc_utils.errors import BadRequest
from kc_utils.knowledge.probe import Probe
from kc_utils.study.cells import Cell
from kc_utils.study.evaluate import evaluate
from tests.analysis.conftest import RIGHT, N
from tests.trained import PROBE


@pytest.fixture(scope="module")
def summary(evaluated):
    return summarise(evaluated)


def line(summary, recipe, protocol="rank"):
    return summary.set_index(["recipe", "protocol"]).loc[(recipe, protocol)]


def test_one_line_for_each_recipe_and_protocol_with_its_own_counts(summary):
    assert len(summary) == 2 * len(RIGHT)
    for recipe, right in RIGHT.items():
        for protocol, correct in (("rank", right), ("cloze", max(right - 5, 0))):
            found = line(summary, recipe, protocol)
            assert (found["n"], found["accuracy"]) == (N, correct / N)
            assert (found["low"], found["high"]) == wilson(correct, N)
            assert found["baseline_accuracy"] == (30 if protocol == "rank" else 25) / N
    found = line(summary, "magnitude@attention=0.6")
    assert found["lost"] == 16 / N
    assert found["gained"] == 0
    assert found["retention"] == pytest.approx((14 / N - 0.2) / (30 / N - 0.2))
    assert found["retention_low"] < found["retention"] < found["retention_high"]


@pytest.mark.parametrize(
    ("recipe", "steps", "method", "scope", "amount", "pruned", "precision"),
    [
        ("none", 0, "none", "none", None, 0.0, "not quantized"),
        ("magnitude@attention=0.6", 1, "magnitude", "attention", 0.6, 0.6, "not quantized"),
        ("rtn@all=4", 1, "rtn", "all", 4, 0.0, "4 bits"),
        ("magnitude@all=0.3+rtn@all=4", 2, "magnitude", "all", 0.3, 0.3, "4 bits"),
    ],
)
def test_a_recipe_is_taken_apart(summary, recipe, steps, method, scope, amount, pruned, precision):
    found = line(summary, recipe)
    assert (found["steps"], found["method"], found["scope"]) == (steps, method, scope)
    assert found["amount"] == amount or (amount is None and math.isnan(found["amount"]))
    assert (found["pruned"], found["precision"]) == (pruned, precision)


def test_the_report_reaches_the_line(summary):
    found = line(summary, "rtn@all=4")
    assert (found["touched_fraction"], found["sparsity"], found["bits_per_weight"]) == (0.8, 0.5, 4.5)
    assert found["weights_removed"] == 1_000_000
    assert line(summary, "none")["weights_removed"] == 0


def test_holms_correction_by_hand(summary):
    tested = summary[(summary["protocol"] == "rank") & (summary["recipe"] != "none")]
    raw = {r: binomtest(30 - RIGHT[r], 30 - RIGHT[r]).pvalue if RIGHT[r] < 30 else 1.0 for r in RIGHT if r != "none"}
    expected, largest = {}, 0.0
    for k, (recipe, p) in enumerate(sorted(raw.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(raw) - k) * p))
        expected[recipe] = largest
    assert dict(zip(tested["recipe"], tested["p_holm"], strict=True)) == pytest.approx(expected)
    assert summary[summary["recipe"] == "none"]["p_holm"].isna().all()


def test_a_recipe_without_its_baseline_is_refused(evaluated):
    without = {c: r for c, r in evaluated.items() if c.recipe != "none"}
    with pytest.raises(BadRequest, match="smollm2-135m: the uncompressed model was not evaluated"):
        summarise(without)
    base = next(c for c in evaluated if c.recipe == "none")
    other = {Cell(base.model, "none", Probe(limit=7)): evaluated[base], **without}
    with pytest.raises(BadRequest, match="was not evaluated"):
        summarise(other)


def test_halves_by_popularity(evaluated):
    found = by_popularity(evaluated, ["none", "magnitude@feed_forward=0.3"]).set_index(["recipe", "protocol", "half"])
    assert (
        found.loc[("none", "rank", "head"), "accuracy"] == 1.0
    )  # the 20 most popular of 40 are all among the 30 right
    assert found.loc[("none", "rank", "tail"), "accuracy"] == 10 / 20
    assert found.loc[("magnitude@feed_forward=0.3", "rank", "head"), "accuracy"] == 12 / 20
    assert found.loc[("magnitude@feed_forward=0.3", "rank", "tail"), "accuracy"] == 0
    assert (found["n"] == 20).all()
    assert found.loc[("none", "rank", "tail"), "low"] == wilson(10, 20)[0]


def test_lines_by_relation(evaluated):
    found = by_relation(evaluated, ["magnitude@feed_forward=0.6"]).set_index(["relation", "protocol"])
    assert found.loc[("capital", "rank"), "n"] == 20
    assert found.loc[("capital", "rank"), "accuracy"] == 1 / 20
    assert found.loc[("capital", "rank"), "baseline_accuracy"] == 15 / 20


def test_a_real_evaluation_is_summarised(trained, results):
    recipes = ("none", "magnitude@all=0.9", "rtn@all=2", "int8@all")
    summary = summarise(evaluate([Cell.of(trained.id, r, PROBE) for r in recipes], show_progress=False))
    pruned = line(summary, "magnitude@all=0.9")
    assert pruned["sparsity"] == pytest.approx(0.9, abs=1e-3)
    assert pruned["accuracy"] < pruned["baseline_accuracy"]
    assert pruned["weights_removed"] > 0
    assert 2 < line(summary, "rtn@all=2")["bits_per_weight"] < 4
    assert line(summary, "int8@all")["precision"] == "int8 dynamic"
