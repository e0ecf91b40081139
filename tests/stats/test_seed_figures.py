"""Figures over seeds: every line, its bar and its single seeds are drawn, colours mean the same in all panels."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from kc_lab.bits_by_model import PUBLISHED
from kc_lab.bits_figures import bits_against_storage, load_curves
from kc_utils.report.seed_figures import bars_of_groups, in_words, panels_of_seeds
from kc_utils.stats.seeds import over_seeds


def singles(lines=("encoder", "decoder"), amounts=(0, 20, 40), panel="taught"):
    found = [
        {"line": line, "seed": f"s{seed}", "panel": panel, "percent": float(at), "retention": 1 - at / 100 - 0.01 * seed, "n": 9}
        for line in lines for at in amounts for seed in (1, 2, 3)
    ]  # fmt: skip
    return pd.DataFrame(found)


def means_of(frame, value="retention", by=("line", "panel", "percent")):
    return over_seeds(frame, (value,), by)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(frame, **more):
    names = {"x": "percent", "hue": "line", "column": "panel", "y": "retention"}
    levels = ((1.0, "nothing lost"),)
    return panels_of_seeds(
        means_of(frame), frame, **names, xlabel="weights (%)", ylabel="kept (%)", levels=levels, **more
    )


def test_axes_say_what_they_are_and_every_seed_is_a_point():
    fig = drawn(singles())
    (ax,) = fig.axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("weights (%)", "kept (%)")
    points = [c for c in ax.collections if isinstance(c, PathCollection)]
    assert [len(c.get_offsets()) for c in points] == [9, 9]
    assert {t.get_text() for t in fig.legends[0].get_texts()} == {"encoder", "decoder", "nothing lost"}


def test_the_axis_holds_every_point():
    fig = drawn(singles(amounts=(0, 50, 100)))
    low, high = fig.axes[0].get_ylim()
    assert low < 100 * (1 - 1.0 - 0.03)
    assert high > 100


def test_a_line_that_a_panel_lacks_leaves_the_colours_of_the_others():
    frame = pd.concat([singles(panel="one"), singles(lines=("decoder",), panel="two")], ignore_index=True)
    fig = drawn(frame)
    first, second = fig.axes
    colour = {
        ax: {c.get_label(): c[0].get_color() for c in ax.containers if c.get_label() in ("encoder", "decoder")}
        for ax in (first, second)
    }
    assert colour[first]["decoder"] == colour[second]["decoder"]
    assert colour[first]["decoder"] != colour[first]["encoder"]


def test_one_seed_has_no_bar_and_no_error():
    frame = singles()
    fig = drawn(frame[frame["seed"] == "s1"])
    assert fig.axes


def test_groups_stand_from_top_to_bottom():
    frame = singles().assign(group=lambda f: f["percent"].map({0.0: "month", 20.0: "field", 40.0: "employer"}))
    means = over_seeds(frame, ("retention",), ("line", "group"))
    fig = bars_of_groups(means, frame, "group", "line", "retention", "lost (%)", "")
    ax = fig.axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["month", "field", "employer"]
    assert ax.yaxis_inverted()


def test_words_hold_every_mean():
    text = in_words(means_of(singles()), "percent", "line", "panel", "retention", "What is kept")
    assert "taught: encoder: 98 at 0, 78 at 20, 58 at 40; decoder: 98 at 0" in text
    assert text.endswith("Means over 3 seeds.")
    gone = means_of(singles()).assign(retention=math.nan)
    assert "undefined at 0" in in_words(gone, "percent", "line", "panel", "retention", "What is kept")


def test_published_points_are_marked_and_a_model_without_knowledge_is_drawn():
    frame = pd.DataFrame(
        {"line": "decoder", "seed": ["s1", "s2"] * 2, "recipe": ["none", "none", "rtn@all=2", "rtn@all=2"],
         "stored": [16.0, 16.0, 7.0, 7.0], "per_parameter": [0.1, 0.12, 0.0, 0.0]}
    )  # fmt: skip
    means = over_seeds(frame, ("per_parameter",), ("line", "recipe"))
    fig = bits_against_storage(means, frame, PUBLISHED, "per_parameter", "bits", "stored bits")
    ax = fig.axes[0]
    assert {t.get_text() for t in ax.texts} == {p.name for p in PUBLISHED}
    assert ax.get_yscale() == "log"
    low, high = sorted(ax.get_xlim())
    assert low < 4 <= 16 < high
    assert ax.xaxis_inverted()


def test_a_load_curve_has_both_panels():
    curve = pd.DataFrame(
        {
            "name": ["a", "b", "c"], "family": "decoder", "size": "small", "seed": [1, 2, 1], "load": [1, 1, 4],
            "people": [300, 300, 1200], "taught_per_parameter": [0.04, 0.04, 0.16], "recall": [0.99, 0.98, 0.6],
            "low": [0.98, 0.97, 0.57], "high": [1.0, 0.99, 0.63], "bits": [9000.0, 8900.0, 12000.0],
            "bits_per_parameter": [0.04, 0.04, 0.08],
        }
    )  # fmt: skip
    fig = load_curves(curve, [(2.0, "2 at 1000 exposures, published")])
    left, right = fig.axes
    assert "answered rightly" in left.get_ylabel()
    assert "bits a parameter" in right.get_ylabel()
    assert [t.get_text() for t in left.get_xticklabels()] == ["300", "1,200"]
    assert np.isclose(right.get_ylim()[0], 0)
