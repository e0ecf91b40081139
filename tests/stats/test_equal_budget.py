"""Attention against feed-forward: differences within seeds, on both axes."""

import pandas as pd
import pytest

from kc_utils.stats.equal_budget import (
    SPARSITY,
    WEIGHTS,
    differences,
    over_amounts,
    paired,
    sentences,
    size_sentences,
    verdict,
)
from kc_utils.stats.seeds import t_interval
from kc_utils.stats.summary import recipe_fields

KEPT = {  # recipe -> retention of three seeds
    "magnitude@attention=0.2": (0.95, 0.96, 0.94), "magnitude@feed_forward=0.2": (0.90, 0.90, 0.90),
    "magnitude@attention=0.5": (0.60, 0.62, 0.61), "magnitude@feed_forward=0.5": (0.40, 0.45, 0.38),
    "magnitude@attention,weights=10k": (0.70, 0.72, 0.69), "magnitude@feed_forward,weights=10k": (0.97, 0.96, 0.98),
    "none": (1.0, 1.0, 1.0), "magnitude@all=0.5": (0.3, 0.3, 0.3),
}  # fmt: skip
SIZES = {"attention": 50_000, "feed_forward": 100_000}


@pytest.fixture
def singles():
    lines = []
    for recipe, values in KEPT.items():
        fields = recipe_fields(recipe)
        for seed, kept in enumerate(values, start=1):
            removed = 10_000 if "weights" in recipe else fields["pruned"] * SIZES.get(fields["scope"], 150_000)
            lines.append(
                {
                    **fields,
                    "line": "decoder",
                    "seed": f"s{seed}",
                    "n": 300,
                    "retention": kept,
                    "weights_removed": removed,
                }
            )
    return pd.DataFrame(lines)


def test_both_scopes_of_one_seed_and_amount_make_a_pair(singles):
    pairs = paired(singles)
    assert len(pairs) == 9
    first = pairs[(pairs["axis"] == SPARSITY) & (pairs["amount"] == 0.5)].set_index("seed")
    assert first["difference"].tolist() == pytest.approx([0.20, 0.17, 0.23])
    assert pairs[pairs["axis"] == WEIGHTS]["amount"].unique().tolist() == [10_000]


def test_an_amount_of_one_scope_alone_has_no_pair(singles):
    assert len(paired(singles[singles["recipe"] != "magnitude@attention=0.5"])) == 6
    assert paired(singles[singles["recipe"] == "none"]).empty


def test_intervals_are_over_seeds(singles):
    means = differences(paired(singles)).set_index(["axis", "amount"])
    line = means.loc[(WEIGHTS, 10_000)]
    expected = t_interval([0.70 - 0.97, 0.72 - 0.96, 0.69 - 0.98])
    assert (line["difference_low"], line["difference_high"]) == pytest.approx(expected)


def test_the_verdict_is_about_the_mean_of_all_amounts(singles):
    whole = over_amounts(paired(singles)).set_index("axis")
    each = [(0.05 + 0.20) / 2, (0.06 + 0.17) / 2, (0.04 + 0.23) / 2]
    assert whole.loc[SPARSITY, "difference"] == pytest.approx(sum(each) / 3)
    assert (whole.loc[SPARSITY, "difference_low"], whole.loc[SPARSITY, "difference_high"]) == pytest.approx(
        t_interval(each)
    )


def test_verdicts():
    assert verdict(-0.2, -0.1) == "pruning attention hurts more"
    assert verdict(0.1, 0.2) == "pruning attention hurts less"
    assert verdict(-0.1, 0.2) == "undecided"
    assert verdict(float("nan"), float("nan")) == "undecided"


def test_what_is_held_equal_may_change_the_verdict(singles):
    (text,) = sentences(paired(singles))
    assert "at equal sparsity, pruning attention hurts less (12 points" in text
    assert "at equal weights removed, pruning attention hurts more (−27 points" in text
    assert text.endswith("The verdict depends on what is held equal.")
    assert "(3 seeds)" in text
    (size,) = size_sentences(singles)
    assert "loses 2.00 times as many weights" in size
