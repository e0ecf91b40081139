"""Figures of knowledge in bits, with published points marked."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from kc_lab.bits_by_model import Published
from kc_utils.report.figures import FAINT, INK, MARKERS, legend_below, theme

TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


def bits_against_storage(
    means: pd.DataFrame, singles: pd.DataFrame, published: Sequence[Published], y: str, ylabel: str, xlabel: str
) -> plt.Figure:
    """Knowledge against the bits that a parameter takes: one colour and marker per line, one point per recipe, published
    points as stars with their names. Both axes are logarithmic, fewer stored bits to the right; a recipe that leaves no
    knowledge has no place on the axis and stands at its lower edge.

    means, singles: columns line, stored, y (`y_low`, `y_high` in means).
    """
    theme()
    fig, ax = plt.subplots(figsize=(7.6, 5.0))
    stars = [(point.stored, getattr(point, y), point.name) for point in published]
    positive = np.concatenate([means[y], singles[y], [value for _, value, _ in stars]])
    positive = positive[positive > 0]
    bottom = max(positive.min() / 1.5, positive.max() / 1000)
    for n, name in enumerate(dict.fromkeys(means["line"])):
        line = means[means["line"] == name]
        marks = {"color": sns.color_palette("colorblind")[n % 10], "marker": MARKERS[n % len(MARKERS)]}
        middle, low, high = (line[c].to_numpy(float) for c in (y, f"{y}_low", f"{y}_high"))
        shown = np.maximum(middle, bottom)
        reach = [
            np.nan_to_num(np.clip(shown - np.maximum(low, bottom), 0, None)),
            np.nan_to_num(np.clip(high - shown, 0, None)),
        ]
        ax.errorbar(
            line["stored"].to_numpy(), shown, yerr=reach, linestyle="none", markersize=6, elinewidth=1.1, capsize=2.5,
            label=name, **marks,
        )  # fmt: skip
        mine = singles[singles["line"] == name]
        ax.scatter(mine["stored"], np.maximum(mine[y], bottom), s=18, alpha=0.35, linewidths=0, **marks)
    for number, (stored, value, name) in enumerate(stars):
        ax.plot([stored], [value], "*", color=INK, markersize=12, label="published, quoted" if not number else None)
        ax.annotate(name, (stored, value), xytext=(6, 6), textcoords="offset points", fontsize="small", color=INK)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    x = np.concatenate([means["stored"], [stored for stored, _, _ in stars]])
    ax.set_xlim(1.15 * x.max(), x.min() / 1.25)
    ticks = [t for t in (2, 3, 4, 6, 8, 12, 16) if x.min() / 1.25 <= t <= 1.15 * x.max()]
    ax.set_xticks(ticks, [f"{t}" for t in ticks])
    ax.set_ylim(bottom, 1.6 * positive.max())
    _plain_ticks(ax, bottom, 1.6 * positive.max())
    ax.minorticks_off()
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    legend_below(fig, ax)
    return fig


def _plain_ticks(ax, low: float, high: float) -> None:
    shown = [t for t in TICKS if low <= t <= high]
    ax.set_yticks(shown, [f"{t:g}" for t in shown])


def load_curves(curve: pd.DataFrame, levels: Sequence[tuple[float, str]]) -> plt.Figure:
    """Recall, and bits a parameter, against the number of people taught: a colour and marker for each family and size, a
    faint point for each model, the means over seeds joined.

    curve: of `bits.load_curve`; levels: published limits in bits a parameter, with their names.
    """
    theme()
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.8, 4.2))
    curve = curve.assign(line=curve["family"] + ", " + curve["size"])
    for n, name in enumerate(dict.fromkeys(curve["line"])):
        mine = curve[curve["line"] == name]
        marks = {"color": sns.color_palette("colorblind")[n % 10], "marker": MARKERS[n % len(MARKERS)]}
        joined = mine.groupby("people")[["recall", "bits_per_parameter", "taught_per_parameter"]].mean()
        middle, low, high = (100 * mine[name].to_numpy(float) for name in ("recall", "low", "high"))
        reach = [np.maximum(middle - low, 0), np.maximum(high - middle, 0)]
        bars = {"linestyle": "none", "capsize": 2.5, "alpha": 0.5, "markersize": 4}
        left.errorbar(mine["people"].to_numpy(), middle, yerr=reach, **bars, **marks)
        left.plot(joined.index, 100 * joined["recall"], linewidth=1.6, markersize=6, label=name, **marks)
        right.scatter(mine["people"], mine["bits_per_parameter"], s=18, alpha=0.35, linewidths=0, **marks)
        right.plot(joined.index, joined["bits_per_parameter"], linewidth=1.6, markersize=6, **marks)
        right.plot(joined.index, joined["taught_per_parameter"], color=marks["color"], linewidth=1, linestyle=":")
    right.plot([], [], color=FAINT, linewidth=1, linestyle=":", label="if all were known")
    for (level, label), style in zip(levels, ("--", "-."), strict=False):
        right.axhline(level, color=INK, linewidth=1.2, linestyle=style, label=label)
    people = sorted(set(curve["people"]))
    for ax in (left, right):
        ax.set_xscale("log", base=2)
        ax.set_xticks(people, [f"{count:,}" for count in people])
        ax.minorticks_off()
        ax.set_xlabel("people taught, six facts each")
    left.set_ylim(0, 105)
    left.set_ylabel("trained facts answered rightly (%)")
    right.set_ylim(0, None)
    right.set_ylabel("knowledge, at least (bits a parameter)")
    legend_below(fig, left)
    return fig
