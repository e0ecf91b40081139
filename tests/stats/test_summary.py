import math

import pandas as pd
import pytest
from scipy.stats import binomtest

from kc_utils.stats.names import (
    METHOD_NAMES,
    PRECISIONS,
    in_order_of_precision,
    model_name,
    protocols_in_order,
)
from kc_utils.stats.statistics import wilson
from kc_utils.stats.summary import by_popularity, by_relation, recipe_fields, summarise
from kc_utils.compression.methods import METHODS
from kc_utils.errors import BadRequest
from kc_utils.probing.probe import Probe
from kc_utils.study.cells import Cell
from kc_utils.study.evaluate import evaluate
from kc_utils.study.store import CellResult
from tests.stats.conftest import RIGHT, N
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
        ("rtn@all=4", 1, "rtn", "all", 4, 0.0, "RTN 4 bits"),
        ("magnitude@all=0.3+rtn@all=4", 2, "magnitude", "all", 0.3, 0.3, "RTN 4 bits"),
    ],
)
def test_a_recipe_is_taken_apart(summary, recipe, steps, method, scope, amount, pruned, precision):
    found = line(summary, recipe)
    assert (found["steps"], found["method"], found["scope"]) == (steps, method, scope)
    assert found["amount"] == amount or (amount is None and math.isnan(found["amount"]))
    assert (found["pruned"], found["precision"]) == (pruned, precision)


@pytest.mark.parametrize(
    ("recipe", "precision", "bits"),
    [
        ("none", "not quantized", None),
        ("magnitude@all=0.3", "not quantized", None),
        ("int8@all", "int8 dynamic", 8),
        ("int8@all,engine=torch", "int8 dynamic", 8),
        ("int8-weight@all", "int8 weights", 8),
        ("llm-int8@all", "LLM.int8()", 8),
        ("int4-weight@all", "int4 weights", 4),
        ("nf4@all", "NF4", 4),
        ("gptq@all=3", "GPTQ 3 bits", 3),
        ("rtn@all=2", "RTN 2 bits", 2),
        ("magnitude@all=0.3+nf4@all", "NF4", 4),
    ],
)
def test_every_way_to_store_weights_has_a_name_and_a_place_on_the_axis(recipe, precision, bits):
    found = recipe_fields(recipe)
    assert (found["precision"], found["bits"]) == (precision, bits)
    assert precision in PRECISIONS


def test_every_quantizing_method_of_the_table_is_named():
    for name, row in METHODS.items():
        assert name in METHOD_NAMES
        if not row.prunes:
            recipe = f"{name}@all" + ("=4" if row.amount else "")
            assert recipe_fields(recipe)["precision"] in PRECISIONS, name


def test_precisions_fall_along_their_axis():
    given = pd.Series(["RTN 2 bits", "NF4", "not quantized", "GPTQ 4 bits", "int8 dynamic", "RTN 4 bits"])
    ordered = in_order_of_precision(given)
    assert list(ordered.cat.categories) == [
        "not quantized", "int8 dynamic", "RTN 4 bits", "GPTQ 4 bits", "NF4", "RTN 2 bits",
    ]  # fmt: skip
    assert ordered.astype(str).tolist() == given.tolist()


def test_a_task_is_a_protocol_of_its_own_and_a_text_is_none(evaluated):
    def with_more(result, right):
        task = pd.DataFrame(
            {
                "protocol": "harness", "fact": [f"{t}/{i}" for t in "ab" for i in range(10)], "template": 0,
                "relation": ["a"] * 10 + ["b"] * 10, "chance": [0.5] * 10 + [0.25] * 10, "popularity": None, "valid": True,
                "correct": [True] * right + [False] * (10 - right) + [True] * 4 + [False] * 6,
            }
        )  # fmt: skip
        text = pd.DataFrame({"protocol": "perplexity", "fact": ["t/0"], "template": 0, "relation": "t", "nll": [3.0]})
        rows = pd.concat([result.rows, task, text], ignore_index=True)
        rows["correct"] = rows["correct"].astype("boolean")
        return CellResult(result.key, rows, result.report, result.record)

    results = {c: with_more(r, 9 if c.recipe == "none" else 6) for c, r in evaluated.items()}
    found = summarise(results)
    assert set(found["protocol"]) == {"rank", "cloze", "task a", "task b"}
    first, second = (line(found, "rtn@all=4", f"task {t}") for t in "ab")
    assert (first["n"], first["accuracy"], first["baseline_accuracy"], first["chance"]) == (10, 0.6, 0.9, 0.5)
    assert first["retention"] == pytest.approx(0.1 / 0.4)
    assert (second["accuracy"], second["chance"], second["retention"]) == (0.4, 0.25, 1.0)
    facts = summarise(evaluated).set_index(["recipe", "protocol"])["accuracy"]
    assert found.set_index(["recipe", "protocol"])["accuracy"].loc[facts.index].equals(facts)
    halves = by_popularity(results, ["none"])
    assert set(halves["protocol"]) == {"rank", "cloze"}, "items of tasks have no popularity"
    assert protocols_in_order(found["protocol"]) == ["cloze", "rank", "task a", "task b"]


def test_a_folder_is_named_without_where_it_lies():
    assert model_name("path:/some/where/tiny-model") == "tiny-model"
    assert model_name("path:tiny-model/") == "tiny-model"
    assert model_name("smollm2-135m") == "smollm2-135m"


def test_the_report_reaches_the_line(summary):
    assert line(summary, "rtn@all=4")["compression_ratio"] == 2.5
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
