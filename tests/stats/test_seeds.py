"""Lines of models, means over seeds, and questions that all models share."""

import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multicomp import pairwise_tukeyhsd

import kc_utils as kc
from kc_utils.errors import BadRequest
from kc_utils.stats.intervals import t_interval
from kc_utils.stats.seeds import between_lines, clear_over_seeds, knowing, lines_of, over_seeds, shared_questions, with_lines
from tests.stats.made import study

RECIPE = "magnitude@all=0.5"


def models(right: dict[str, tuple[int, int]], n=40, chance=0.1) -> pd.DataFrame:
    """Rows of several models: right answers of n without compression, and under RECIPE."""
    parts = [
        study({r: np.arange(n) < count for r, count in zip(("none", RECIPE), counts, strict=True)}, model, chance=chance,
              protocol="cloze")
        for model, counts in right.items()
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_lab_models_are_lines_by_family_and_seeds_by_number():
    ids = ["lab:decoder-small-s1", "lab:encoder-small-s2", "lab:encoder-decoder-small-s1", "lab:encoder-small-s1"]
    found = lines_of(ids)
    assert list(dict.fromkeys(line for line, _ in found.values())) == ["encoder", "encoder-decoder", "decoder"]
    assert found["lab:encoder-small-s2"] == ("encoder", "s2")
    assert lines_of(["lab:decoder-small-s1", "lab:decoder-large-s1"])["lab:decoder-large-s1"][0] == "decoder, large"
    loaded = lines_of(["lab:decoder-small-x4-s1", "lab:decoder-small-s1"])
    assert loaded["lab:decoder-small-x4-s1"] == ("decoder, small-x4", "s1")
    assert lines_of(["smollm2-135m"]) == {"smollm2-135m": ("decoder", "smollm2-135m")}


def test_means_over_seeds_of_a_comparison():
    rows = models({f"lab:{f}-small-s{s}": (40, 30 - s) for f in ("decoder", "encoder") for s in (1, 2, 3)})
    table = kc.compare(rows)
    means = over_seeds(table)
    assert list(dict.fromkeys(means["line"])) == ["encoder", "decoder"], "in the order of families"
    line = means[(means["line"] == "decoder") & (means["recipe"] == RECIPE)].iloc[0]
    kept = [(a / 40 - 0.1) / 0.9 for a in (29, 28, 27)]
    assert (line["seeds"], line["n"], line["protocol"]) == (3, 40, "cloze")
    assert line["retention"] == pytest.approx(np.mean(kept))
    assert (line["retention_low"], line["retention_high"]) == pytest.approx(t_interval(kept))
    assert clear_over_seeds(means).tolist() == [False, True, False, True]
    with pytest.raises(BadRequest, match="no column bits_a_byte"):
        over_seeds(table, ["bits_a_byte"])


def test_means_are_over_the_members_that_have_the_value():
    single = pd.DataFrame({"line": "decoder", "seed": ["s1", "s2", "s3"], "recipe": "r", "y": [0.1, math.nan, 0.3]})
    (line,) = over_seeds(single, ["y"]).to_dict("records")
    assert (line["y"], line["y_low"]) == pytest.approx((0.2, t_interval([0.1, 0.3])[0]))
    assert math.isnan(over_seeds(single[:1], ["y"])["y_low"].iloc[0]), "one seed has no interval"


def test_families_are_compared_on_the_facts_that_all_of_them_answer():
    rows = models({"lab:decoder-small-s1": (40, 20), "lab:encoder-small-s1": (40, 20)})
    missing = (rows["model"] == "lab:encoder-small-s1") & rows["fact"].isin(["f00000", "f00039"])
    table = kc.compare(shared_questions(rows[~missing])).set_index(["model", "recipe"])
    assert (table["n"] == 38).all()
    assert table["accuracy"].unique().tolist() == pytest.approx([1, 19 / 38])
    with pytest.raises(BadRequest, match="lab:decoder-small-s1, lab:encoder-small-s1 share no question"):
        other = rows["model"] == "lab:encoder-small-s1"
        shared_questions(rows.assign(fact=rows["fact"].mask(other, "x" + rows["fact"])))


def test_no_retention_where_the_uncompressed_model_may_be_guessing():
    table = kc.compare(models({"lab:decoder-small-s1": (6, 1), "lab:decoder-small-s2": (30, 20)}))
    found = knowing(table).set_index(["model", "recipe"])["retention"]
    assert found["lab:decoder-small-s1"].isna().all()
    assert found["lab:decoder-small-s2", RECIPE] == pytest.approx(0.4 / 0.65)


def test_lines_are_compared_with_the_variance_of_all_of_them():
    right = {"decoder": (30, 28, 29), "encoder": (20, 20, 20), "encoder-decoder": (24, 20, 22)}
    rows = models({f"lab:{f}-small-s{s}": (40, n) for f, counts in right.items() for s, n in enumerate(counts, 1)})
    table = with_lines(kc.compare(rows))
    here = table[table["recipe"] == RECIPE]
    found = between_lines(here, "decoder", "encoder", "accuracy")
    assert found["difference"] == pytest.approx((29 - 20) / 40)
    tukey = pairwise_tukeyhsd(here["accuracy"], here["line"]).summary_frame().set_index(["group_t", "group_c"])
    ends = sorted(tukey.loc[("encoder", "decoder"), ["lower", "upper"]].abs())
    assert (found["low"], found["high"]) == pytest.approx(ends, rel=1e-3)
    one = between_lines(here[here["seed"] == "s1"], "decoder", "encoder", "accuracy")
    assert one["difference"] == pytest.approx(0.25) and math.isnan(one["low"]), "one seed each has no interval"
    alike = between_lines(table[table["recipe"] == "none"], "decoder", "encoder", "accuracy")
    assert alike["high"] == -alike["low"] > 0.02, "seeds with equal counts do not vary by nothing"
    assert math.isnan(between_lines(here, "decoder", "nobody", "accuracy")["difference"])
