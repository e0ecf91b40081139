"""Perplexities against the definition in `probing.perplexity`, a t interval, and simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import kc_utils as kc
from kc_utils.errors import BadRequest, BadResult
from kc_utils.probing.perplexity import perplexity as of_one_model
from tests.stats.made import frame, study

RECIPE = "magnitude@all=0.3"


def windows(nll, tokens=100, size=450, name="text"):
    n = len(nll)
    return pd.DataFrame(
        {
            "protocol": "perplexity", "relation": name, "fact": [f"{name}/{i:08d}" for i in range(n)], "template": 0,
            "window": range(n), "nll": np.asarray(nll, float), "tokens": tokens, "words": 70, "bytes": size,
            "score": -np.asarray(nll, float) / tokens, "valid": np.isfinite(nll), "popularity": None,
        }
    )  # fmt: skip


def line_of(after, before, recipe=RECIPE):
    return kc.perplexity(study({"none": before, RECIPE: after})).set_index("recipe").loc[recipe]


def test_the_numbers_are_those_of_each_model_alone():
    rng = np.random.default_rng(0)
    tokens, size = rng.integers(50, 100, 40), rng.integers(200, 500, 40)
    before, after = (windows(rng.normal(m, 20, 40), tokens, size) for m in (300, 330))
    found = line_of(after.sample(frac=1, random_state=1), before)
    assert found["perplexity"] == pytest.approx(of_one_model(after)["token_perplexity"])
    assert found["bits_per_byte"] == pytest.approx(of_one_model(after)["bits_per_byte"])
    assert found["baseline_perplexity"] == pytest.approx(of_one_model(before)["token_perplexity"])
    assert found["ratio"] == pytest.approx(found["perplexity"] / found["baseline_perplexity"])
    assert found["ratio_low"] < found["ratio"] < found["ratio_high"]
    assert (found["n"], found["tokens"], found["invalid"], found["text"]) == (40, tokens.sum(), 0, "text")
    base = line_of(after, before, "none")
    assert (base["ratio"], base["ratio_low"], base["ratio_high"]) == (1, 1, 1)


def test_the_interval_is_that_of_paired_windows():
    rng = np.random.default_rng(1)
    level = rng.normal(300, 60, 400)  # windows differ far more than the two models do
    extra = np.repeat(rng.normal(10, 5, 58), 7)[:400]
    found = line_of(windows(level + extra), windows(level))
    assert found["block"] == 7, "the cube root of 400"
    blocks = extra[::7]
    expected = stats.t.interval(0.95, 57, blocks.mean() / 100, stats.sem(blocks) / 100)
    assert np.log([found["ratio_low"], found["ratio_high"]]) == pytest.approx(expected, abs=2e-3)


def test_texts_and_models_are_lines_of_their_own_and_questions_make_none():
    rows = study({"none": windows([300.0] * 5), RECIPE: windows([310.0] * 5)})
    other = study({"none": windows([300.0] * 5, name="b"), RECIPE: windows([330.0] * 5, name="b")}, model="lab:x")
    table = kc.perplexity(pd.concat([rows, other]))
    assert table[["model", "text"]].drop_duplicates().values.tolist() == [["smollm2-135m", "text"], ["lab:x", "b"]]
    assert kc.perplexity(study({"none": frame([1, 0])})).empty


def test_a_window_without_numbers_makes_all_infinite():
    rows, base = windows([300.0, math.inf, 310.0]), windows([300.0, 290.0, 310.0])
    found = line_of(rows, base)
    assert (found["perplexity"], found["bits_per_byte"], found["ratio"], found["invalid"]) == (math.inf,) * 3 + (1,)
    assert math.isfinite(found["baseline_perplexity"])
    assert math.isnan(found["ratio_low"])
    assert math.isnan(line_of(base, rows)["ratio"]), "nothing is a multiple of the infinite"


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (lambda r: r.iloc[:-1], BadRequest, "window of the two models differ"),
        (lambda r: r.assign(window=[0, 1, 2, 2]), BadRequest, "window of the two models differ"),
        (lambda r: r.assign(tokens=99), BadRequest, "tokens of the two models differ"),
        (lambda r: r.assign(bytes=99), BadRequest, "bytes of the two models differ"),
        (lambda r: r.assign(nll=-1.0), BadResult, "negative surprise"),
    ],
)
def test_windows_that_cannot_be_compared(damage, error, says):
    base = windows([300.0] * 4)
    with pytest.raises(error, match=says):
        line_of(damage(base), base)


def test_what_is_lacking():
    base = windows([300.0] * 4)
    with pytest.raises(BadResult, match="no tokens"):
        line_of(base.assign(tokens=0), base.assign(tokens=0))
    with pytest.raises(BadRequest, match="no column nll"):
        kc.perplexity(study({"none": base.drop(columns="nll")}))
    with pytest.raises(BadRequest, match="uncompressed model was not evaluated on text"):
        kc.perplexity(study({RECIPE: base}))
