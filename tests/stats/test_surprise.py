"""Perplexities against the definition in `knowledge.perplexity`, a t interval, and simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kc_utils.stats.bootstrap import mean_interval
from kc_utils.stats.surprise import _blocks, compare_surprise
from kc_utils.errors import BadRequest, BadResult
from kc_utils.probing.perplexity import perplexity


def windows(nll, tokens=100, size=450, name="text"):
    n = len(nll)
    return pd.DataFrame(
        {
            "protocol": "perplexity", "relation": name, "fact": [f"{name}/{i:08d}" for i in range(n)], "template": 0,
            "window": range(n), "nll": np.asarray(nll, float), "tokens": tokens, "words": 70, "bytes": size,
            "score": -np.asarray(nll, float) / tokens, "valid": np.isfinite(nll), "popularity": None,
        }
    )  # fmt: skip


def test_the_numbers_are_those_of_each_model_alone():
    rng = np.random.default_rng(0)
    tokens, size = rng.integers(50, 100, 40), rng.integers(200, 500, 40)
    before, after = (windows(rng.normal(m, 20, 40), tokens, size) for m in (300, 330))
    found = compare_surprise(after.sample(frac=1, random_state=1), before)
    for rows, prefix in ((after, ""), (before, "baseline_")):
        expected = perplexity(rows)
        assert getattr(found, f"{prefix}perplexity") == pytest.approx(expected["token_perplexity"])
        assert getattr(found, f"{prefix}bits_per_byte") == pytest.approx(expected["bits_per_byte"])
    assert found.ratio == pytest.approx(found.perplexity / found.baseline_perplexity)
    assert found.extra_bits_per_byte == pytest.approx(found.bits_per_byte - found.baseline_bits_per_byte)
    assert found.ratio_ci95[0] < found.ratio < found.ratio_ci95[1]
    assert (found.n, found.tokens, found.invalid) == (40, tokens.sum(), 0)


def test_the_interval_is_that_of_paired_windows():
    rng = np.random.default_rng(1)
    level = rng.normal(300, 60, 400)  # windows differ far more than the two models do
    extra = rng.normal(10, 5, 400)
    found = compare_surprise(windows(level + extra), windows(level), block=1)
    expected = stats.t.interval(0.95, 399, extra.mean() / 100, stats.sem(extra) / 100)
    assert np.log(found.ratio_ci95) == pytest.approx(expected, abs=2e-3)
    in_bits = np.array(expected) * 100 / 450 / math.log(2)
    assert found.extra_bits_per_byte_ci95 == pytest.approx(in_bits, abs=1e-3)


def test_coverage_where_neighbouring_windows_resemble_each_other():
    """The blocks and the bootstrap of `compare_surprise`, without its checks: articles two windows long."""
    rng, covered, windows_alone = np.random.default_rng(3), 0, 0
    blocks = _blocks(windows(np.zeros(200)), round(200 ** (1 / 3)))
    for i in range(200):
        extra = np.repeat(rng.normal(10, 5, 100), 2) + rng.normal(0, 2, 200)
        low, high = mean_interval(extra, blocks, i)
        covered += low <= 10 <= high
        low, high = mean_interval(extra, np.arange(200), i)
        windows_alone += low <= 10 <= high
    assert 0.92 <= covered / 200 <= 0.98
    assert windows_alone / 200 < 0.9, "windows taken as independent promise too much"


def test_texts_do_not_share_blocks():
    one = windows([300.0] * 5, name="a")
    both = pd.concat([one, windows([310.0] * 5, name="b")], ignore_index=True)
    assert compare_surprise(both, both, block=4).block == 4
    assert compare_surprise(both, both).ratio_ci95 == (1, 1)


def test_a_window_without_numbers_makes_all_infinite():
    rows, base = windows([300.0, math.inf, 310.0]), windows([300.0, 290.0, 310.0])
    found = compare_surprise(rows, base)
    assert (found.perplexity, found.bits_per_byte, found.ratio, found.invalid) == (math.inf, math.inf, math.inf, 1)
    assert math.isfinite(found.baseline_perplexity)
    assert all(math.isnan(x) for x in (*found.ratio_ci95, *found.extra_bits_per_byte_ci95))
    assert math.isnan(compare_surprise(base, rows).ratio), "nothing is a multiple of the infinite"


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (lambda r: r.iloc[:-1], BadRequest, "do not ask the same"),
        (lambda r: r.assign(tokens=99), BadRequest, "same tokens"),
        (lambda r: r.assign(bytes=99), BadRequest, "same bytes"),
        (lambda r: r.assign(nll=-1.0), BadResult, "negative surprise"),
        (lambda r: r.drop(columns="nll"), BadRequest, "no column nll"),
        (lambda r: r.iloc[:0], BadResult, "no rows"),
    ],
)
def test_windows_that_cannot_be_compared(damage, error, says):
    base = windows([300.0] * 4)
    with pytest.raises(error, match=says):
        compare_surprise(damage(base), base)


def test_empty_windows_and_impossible_blocks():
    base = windows([300.0] * 4)
    with pytest.raises(BadResult, match="no tokens"):
        compare_surprise(base.assign(tokens=0), base.assign(tokens=0))
    with pytest.raises(BadRequest, match="blocks of 9"):
        compare_surprise(base, base, block=9)
