"""Lines of models, t intervals over seeds, and questions that all models share."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kc_utils.stats.seeds import by_model, difference_interval, lines_of, over_seeds, rows_by_model, t_interval
from kc_utils.errors import BadRequest
from kc_utils.probing.probe import Probe
from kc_utils.study.cells import Cell
from kc_utils.study.store import CellResult
from tests.stats.made import frame

PROBE = Probe(facts="lab", limit=40, protocols=("cloze",))
REPORT = {"weights_model": 1000, "weights_touched": 500, "sparsity": 0.5, "bytes_compressed": 1500}


def made(right: dict[str, dict[str, int]], n: int = 40, chance: float = 0.1, missing=()) -> dict[Cell, CellResult]:
    """Results of a probe of n facts: right answers by model and recipe. missing: facts that encoders are not asked."""
    found = {}
    for model, recipes in right.items():
        for recipe, count in recipes.items():
            rows = frame([i < count for i in range(n)], chance=chance, protocol="cloze")
            if "encoder-small" in model:
                rows = rows[~rows["fact"].isin(missing)]
            found[Cell(model, recipe, PROBE)] = CellResult(recipe, rows, REPORT, {})
    return found


def test_lab_models_are_lines_by_family_and_seeds_by_number():
    ids = ["lab:decoder-small-s1", "lab:encoder-small-s2", "lab:encoder-decoder-small-s1", "lab:encoder-small-s1"]
    found = lines_of(ids)
    assert list(dict.fromkeys(line for line, _ in found.values())) == ["encoder", "encoder-decoder", "decoder"]
    assert found["lab:encoder-small-s2"] == ("encoder", "s2")
    assert lines_of(["lab:decoder-small-s1", "lab:decoder-large-s1"])["lab:decoder-large-s1"] == (
        "decoder, large",
        "s1",
    )
    assert (
        lines_of(["lab:decoder-small-x4-s1", "lab:decoder-small-s1"])["lab:decoder-small-x4-s1"][0]
        == "decoder, small-x4"
    )


def test_other_models_are_named_by_themselves():
    assert lines_of(["smollm2-135m"]) == {"smollm2-135m": ("decoder", "smollm2-135m")}


def test_the_interval_is_that_of_a_t_test():
    values = [0.91, 0.84, 0.88]
    low, high = t_interval(values)
    reference = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((reference.low, reference.high))
    assert all(math.isnan(x) for x in t_interval([0.9]))
    assert all(math.isnan(x) for x in t_interval([0.9, math.nan]))


def test_a_difference_of_lines_is_that_of_welch():
    a, b = [0.7, 0.75, 0.66], [0.9, 0.91, 0.95, 0.89]
    reference = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert difference_interval(a, b) == pytest.approx((reference.low, reference.high))
    assert difference_interval([1.0, 1.0], [0.5, 0.5]) == (0.5, 0.5)
    assert all(math.isnan(x) for x in difference_interval([1.0], b))


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = [low <= 0.8 <= high for low, high in (t_interval(rng.normal(0.8, 0.05, 3)) for _ in range(2000))]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_retention_and_loss_by_model():
    results = made({"lab:decoder-small-s1": {"none": 40, "magnitude@all=0.5": 22}})
    line = by_model(results, {"taught": PROBE}).set_index("recipe").loc["magnitude@all=0.5"]
    assert (line["line"], line["seed"], line["asked"], line["n"]) == ("decoder", "s1", "taught", 40)
    assert line["retention"] == pytest.approx((22 / 40 - 0.1) / 0.9)
    assert line["lost"] == pytest.approx(18 / 40)
    assert line["weights_removed"] == 250


def test_no_retention_where_the_uncompressed_model_may_be_guessing():
    results = made({"lab:decoder-small-s1": {"none": 6, "magnitude@all=0.5": 1}})
    assert by_model(results, {"taught": PROBE})["retention"].isna().all()


def test_families_are_compared_on_the_facts_that_all_of_them_are_asked():
    counts = {"none": 40, "magnitude@all=0.5": 20}
    results = made({"lab:decoder-small-s1": counts, "lab:encoder-small-s1": counts}, missing=["f00000", "f00039"])
    assert {len(rows) for rows in rows_by_model(results, {"taught": PROBE}, "taught").values()} == {38}
    shares = by_model(results, {"taught": PROBE}).set_index(["line", "recipe"])["accuracy"]
    assert shares["decoder", "magnitude@all=0.5"] == shares["encoder", "magnitude@all=0.5"] == pytest.approx(19 / 38)
    nothing = made(
        {"lab:decoder-small-s1": counts, "lab:encoder-small-s1": counts}, missing=[f"f{i:05}" for i in range(40)]
    )
    with pytest.raises(BadRequest, match="share no question of the probe 'taught'"):
        rows_by_model(nothing, {"taught": PROBE}, "taught")


def test_means_over_seeds():
    single = pd.DataFrame(
        {"line": "decoder", "seed": ["s1", "s2", "s3"], "asked": "taught", "recipe": "r", "n": 40, "x": [0.5, 0.6, 0.7],
         "y": [0.1, math.nan, 0.3]}
    )  # fmt: skip
    (line,) = over_seeds(single, ("x", "y")).to_dict("records")
    assert (line["seeds"], line["n"]) == (3, 40)
    assert line["x"] == pytest.approx(0.6)
    assert (line["x_low"], line["x_high"]) == pytest.approx(t_interval([0.5, 0.6, 0.7]))
    assert (line["y"], line["y_low"]) == pytest.approx((0.2, t_interval([0.1, 0.3])[0]))
