"""Figures show the numbers they are given; the words for those who cannot see them hold the same numbers."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from kc_utils.report import figures
from kc_utils.stats.summary import by_relation, summarise

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
        ends = [tuple(sorted(segment[:, 1])) for segment in bars.get_segments() if len(segment)]
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


def test_many_protocols_are_set_two_to_a_row(frame):
    more = [frame.assign(protocol=p) for p in ("openbook", "generate", "task boolq")]
    fig = figures.panels(pd.concat([frame, *more]), x="percent", hue="line", xlabel="weights set to zero (%)")
    assert len(fig.axes) == 5
    assert fig.get_figwidth() == pytest.approx(9.8)
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    assert titles[-1] == "Task boolq: answers scored"
    below = [ax for ax in fig.axes if ax.get_xlabel()]
    assert len(below) == 2, "under the last panel of each column"
    assert all(any(label.get_visible() for label in ax.get_xticklabels()) for ax in below)


def test_scopes_in_rows_stand_beside_each_other_where_there_are_many_protocols(frame):
    more = pd.concat([frame, *(frame.assign(protocol=p) for p in ("openbook", "generate"))])
    fig = figures.panels(more, x="percent", hue="method", xlabel="x", row="line")
    assert len(fig.axes) == 8
    assert fig.get_figwidth() == pytest.approx(9.8)
    assert {ax.get_title(loc="left").split("\n")[0] for ax in fig.axes} == {"attention", "feed_forward"}


def test_more_lines_than_colours_still_differ(frame):
    lines = pd.concat([frame[frame["line"] == "attention"].assign(line=f"line {n}") for n in range(14)])
    fig = figures.panels(lines, x="percent", hue="line", xlabel="x")
    looks = {(c[0].get_color(), c[0].get_marker()) for c in fig.axes[0].containers}
    assert len(looks) == 14


def test_what_is_undefined_leaves_a_gap_and_no_error(frame):
    gaps = frame.assign(retention=float("nan"), retention_low=float("nan"), retention_high=float("nan"))
    shares = {"y": "retention", "low": "retention_low", "high": "retention_high"}
    fig = figures.panels(
        gaps,
        x="percent",
        hue="line",
        xlabel="x",
        **shares,
        reference=None,
        chance=None,
        levels=((1.0, "nothing lost"),),
    )
    assert "nothing lost" in {text.get_text() for text in fig.legends[0].get_texts()}
    assert "undefined at 30" in figures.describe(gaps, "percent", "line", "what", y="retention")


def test_perplexity_stands_under_recall_on_the_same_axis(frame):
    recall = frame[frame["protocol"] == "rank"]
    ratio = {30: 1.5, 60: 4.0}
    surprise = recall.assign(ratio=recall["percent"].map(ratio), text="sometext")
    surprise = surprise.assign(ratio_low=0.9 * surprise["ratio"], ratio_high=1.1 * surprise["ratio"])
    surprise.loc[(surprise["line"] == "attention") & (surprise["percent"] == 60), ["ratio", "ratio_low", "ratio_high"]] = [
        float("inf"), float("nan"), float("nan"),
    ]  # fmt: skip
    fig = figures.recall_and_surprise(recall, surprise, "percent", "line", "weights set to zero (%)", None, True)
    above, below = fig.axes
    assert above.get_xlim() == below.get_xlim()
    assert below.get_yscale() == "log"
    (points, bars) = drawn(below)["feed_forward"]
    assert points == pytest.approx([1.5, 4.0])
    assert bars == [pytest.approx((1.35, 1.65)), pytest.approx((3.6, 4.4))]
    (triangle,) = [line for line in below.lines if line.get_marker() == "^" and line.get_label() == "_endless"]
    assert triangle.get_xdata().tolist() == [60]
    assert "1.50 at 30" in figures.describe(surprise, "percent", "line", "x", y="ratio", times=True)


def test_panels_of_perplexity_fill_their_figure(frame):
    recall = frame[frame["protocol"] == "rank"]
    surprise = recall.assign(ratio=1.2, ratio_low=1.1, ratio_high=1.3, text="sometext")
    fig = figures.recall_and_surprise(recall, surprise, "percent", "method", "weights set to zero (%)", "line", True)
    assert len(fig.axes) == 4
    assert all(ax.get_position().width > 0.3 for ax in fig.axes)


@pytest.mark.parametrize(
    ("low", "high", "some"), [(0.95, 1.4, {1, 1.1, 1.2}), (0.95, 12, {1, 2, 5, 10}), (0.9, 1e6, {1, 10, 1e5})]
)
def test_marks_of_a_logarithmic_axis_are_round_and_few(low, high, some):
    ticks = figures._times(low, high)
    assert some <= set(ticks)
    assert 3 <= len(ticks) <= 9
    assert all(low <= tick <= high for tick in ticks)
