"""Figures show the numbers they are given; the words for those who cannot see them hold the same numbers."""

import matplotlib.pyplot as plt
import pytest

from kc_utils.analysis import figures
from kc_utils.analysis.summary import by_relation, summarise

METHOD = "magnitude"


@pytest.fixture
def frame(evaluated):
    summary = summarise(evaluated)
    one = summary[(summary["method"] == METHOD) & (summary["steps"] == 1)]
    return one.assign(percent=100 * one["pruned"], line=one["scope"])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def drawn(ax):
    """Of each line in the legend: the heights of its points, and the ends of its bars."""
    found = {}
    for container in ax.containers:
        points, _, (bars,) = container
        ends = [tuple(sorted(segment[:, 1])) for segment in bars.get_segments()]
        found[container.get_label()] = (list(points.get_ydata()), ends)
    return found


def test_a_panel_shows_accuracies_and_intervals_in_per_cent(frame):
    fig = figures.panels(frame, x="percent", hue="line", xlabel="weights set to zero (%)")
    assert len(fig.axes) == 2
    for ax, protocol in zip(fig.axes, dict.fromkeys(frame["protocol"]), strict=True):
        part = frame[frame["protocol"] == protocol]
        shown = drawn(ax)
        assert set(shown) == {"attention", "feed_forward"}
        for scope, (points, bars) in shown.items():
            own = part[part["line"] == scope].sort_values("percent")
            assert points == pytest.approx((100 * own["accuracy"]).tolist())
            assert [low for low, _ in bars] == pytest.approx((100 * own["low"]).tolist())
            assert [high for _, high in bars] == pytest.approx((100 * own["high"]).tolist())
        levels = [
            line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1 and len(line.get_ydata()) == 2
        ]
        assert pytest.approx(100 * part["baseline_accuracy"].iloc[0]) in levels
        assert pytest.approx(100 * part["chance"].mean()) in levels
        assert ax.get_xlabel() == "weights set to zero (%)"
    assert "%" in fig.axes[0].get_ylabel()


def test_points_of_two_lines_do_not_hide_each_other(frame):
    fig = figures.panels(frame, x="percent", hue="line", xlabel="x")
    places = [tuple(container[0].get_xdata()) for container in fig.axes[0].containers]
    assert len(set(places)) == 2
    for xs in places:
        assert xs == pytest.approx((30, 60), abs=3), "and stay near their value"


def test_every_mark_lies_inside_its_axes(frame):
    fig = figures.panels(frame, x="percent", hue="line", xlabel="x")
    for ax in fig.axes:
        low, high = ax.get_ylim()
        for points, bars in drawn(ax).values():
            assert all(low <= value <= high for value in [*points, *(end for bar in bars for end in bar)])


def test_one_legend_names_every_line(frame):
    fig = figures.panels(frame, x="percent", hue="line", xlabel="x")
    (legend,) = fig.legends
    texts = {text.get_text() for text in legend.get_texts()}
    assert {"attention", "feed_forward", "uncompressed", "chance"} <= texts


def test_relations_before_and_after(evaluated):
    frame = by_relation(evaluated, ["none", "magnitude@feed_forward=0.6"])
    fig = figures.relation_bars(frame, "none", "magnitude@feed_forward=0.6", "rank")
    (ax,) = fig.axes
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert len(labels) == 2
    assert all("20" in label for label in labels), "n of each relation"
    values = {round(float(x), 6) for container in ax.containers for x in container[0].get_xdata()}
    assert values == {75.0, 5.0}


def test_the_words_hold_every_number(frame):
    text = figures.describe(frame, "percent", "line", "Right answers")
    assert text.startswith("Right answers")
    for _, line in frame.iterrows():
        assert f"{100 * line['accuracy']:.0f} at {line['percent']:g}" in text
    for name in ("attention", "feed_forward"):
        assert name in text
