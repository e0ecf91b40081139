"""Figures that can be read alone: axes with units, 95 % intervals, the uncompressed model, chance.

Every function returns a matplotlib figure; `describe` puts the same content in words for readers who cannot see it.
"""

from __future__ import annotations

import io

import matplotlib

matplotlib.use("Agg", force=False)

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from kc_utils.analysis.summary import PROTOCOL_NAMES

MARKERS = ["o", "s", "D", "^", "v", "P"]
INK, FAINT = "#222222", "#555555"


def theme() -> None:
    """seaborn's white grid and its colour-blind-safe palette, at a size that survives a phone."""
    sns.set_theme(
        style="whitegrid",
        palette="colorblind",
        context="notebook",
        font_scale=0.95,
        rc={
            "axes.titlelocation": "left",
            "axes.titlesize": "medium",
            "axes.titleweight": "bold",
            "figure.dpi": 110,
            "grid.color": "#e6e6e6",
            "axes.edgecolor": "#bbbbbb",
        },
    )


def png(fig: plt.Figure) -> bytes:
    """The figure as a PNG on white, closed afterwards."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=160, bbox_inches="tight", facecolor="white")
    plt.close(fig)
    return buffer.getvalue()


def panels(
    frame: pd.DataFrame,
    x: str,
    hue: str,
    xlabel: str,
    ylabel: str = "right answers (%)",
    column: str = "protocol",
    row: str | None = None,
    y: str = "accuracy",
    low: str = "low",
    high: str = "high",
    reference: str | None = "baseline_accuracy",
    chance: str | None = "chance",
    joined: bool = True,
    names: dict | None = None,
) -> plt.Figure:
    """One panel per value of `column` (and `row`); one colour and marker per value of `hue`; 95 % intervals as bars.

    `x` may hold numbers or, as an ordered categorical, steps. Values of y, low, high, reference and chance are
    fractions and are drawn in per cent. `joined` draws lines between the points of a hue.
    """
    theme()
    names = {**PROTOCOL_NAMES, **(names or {})}
    columns, rows = list(dict.fromkeys(frame[column])), list(dict.fromkeys(frame[row])) if row else [None]
    fig, axes = plt.subplots(
        len(rows),
        len(columns),
        figsize=(4.9 * len(columns), 3.7 * len(rows) + 0.5),
        squeeze=False,
        sharex=True,
        sharey="row",
    )
    for i, row_value in enumerate(rows):
        in_row = frame if row is None else frame[frame[row] == row_value]
        for j, column_value in enumerate(columns):
            ax = axes[i, j]
            part = in_row[in_row[column] == column_value]
            draw_lines(ax, part, x, hue, y, low, high, joined)
            _references(ax, part, reference, chance)
            title = names.get(column_value, str(column_value))
            ax.set_title(
                title if row_value is None or len(rows) == 1 else f"{names.get(row_value, row_value)}\n{title}",
                fontsize="small",
            )
            ax.set_xlabel(xlabel if i == len(rows) - 1 else "")
            ax.set_ylabel(ylabel if j == 0 else "")
        lowest, highest = (
            100 * in_row[[c for c in (low, high, reference) if c]].astype(float).agg(f).agg(f) for f in ("min", "max")
        )
        axes[i, 0].set_ylim(min(0, lowest * 1.08), max(highest * 1.08, 1))
    legend_below(fig, axes[0, 0])
    return fig


def legend_below(fig: plt.Figure, ax: plt.Axes) -> None:
    """One legend for the figure in a strip of its own under the axes."""
    handles, labels = ax.get_legend_handles_labels()
    strip = 0.42 / fig.get_figheight()
    fig.legend(handles, labels, loc="lower center", ncols=min(6, len(labels)), frameon=False, bbox_to_anchor=(0.5, 0))
    fig.tight_layout(rect=(0, strip, 1, 1))


def draw_lines(ax, part, x, hue, y, low, high, joined) -> None:
    hues = list(dict.fromkeys(part[hue]))
    categorical = isinstance(part[x].dtype, pd.CategoricalDtype)
    for n, value in enumerate(hues):
        line = part[part[hue] == value].sort_values(x)
        at = line[x].cat.codes.to_numpy(float) if categorical else line[x].to_numpy(float)
        span = 1.0 if categorical else _span(part[x])
        at = at + span * 0.12 * (n - (len(hues) - 1) / 2) * (1.0 if categorical else 0.12)
        middle, below, above = (100 * line[c].to_numpy(float) for c in (y, low, high))
        ax.errorbar(
            at,
            middle,
            yerr=[np.maximum(middle - below, 0), np.maximum(above - middle, 0)],
            color=sns.color_palette("colorblind")[n],
            marker=MARKERS[n % len(MARKERS)],
            markersize=6,
            linestyle="-" if joined else "none",
            linewidth=1.6,
            elinewidth=1.1,
            capsize=2.5,
            label=str(value),
        )
    if categorical:
        ax.set_xticks(
            range(len(part[x].cat.categories)), [str(c).replace(" ", "\n", 1) for c in part[x].cat.categories]
        )


def _span(values: pd.Series) -> float:
    span = float(values.max() - values.min())
    return span or 1.0


def _references(ax, part, reference, chance) -> None:
    if reference:
        ax.axhline(
            100 * part[reference].iloc[0], color=INK, linewidth=1.2, linestyle="-", zorder=1, label="uncompressed"
        )
    if chance:
        ax.axhline(100 * part[chance].mean(), color=FAINT, linewidth=1.8, linestyle=":", zorder=1, label="chance")


def relation_bars(frame: pd.DataFrame, before: str, after: str, protocol: str) -> plt.Figure:
    """Accuracy of each relation before and after one recipe, as dots joined by a line, best known relation on top."""
    theme()
    frame = frame[frame["protocol"] == protocol]
    order = frame[frame["recipe"] == before].sort_values("accuracy")["relation"].tolist()
    fig, ax = plt.subplots(figsize=(7.6, 0.36 * len(order) + 1.6))
    palette = sns.color_palette("colorblind")
    for colour, marker, recipe, label in ((palette[0], "o", before, "uncompressed"), (palette[1], "s", after, after)):
        line = frame[frame["recipe"] == recipe].set_index("relation").loc[order]
        middle, below, above = (100 * line[c].to_numpy(float) for c in ("accuracy", "low", "high"))
        offset = 0.13 if recipe == before else -0.13
        ax.errorbar(
            middle,
            np.arange(len(order)) + offset,
            xerr=[np.maximum(middle - below, 0), np.maximum(above - middle, 0)],
            fmt=marker,
            color=colour,
            markersize=6,
            elinewidth=1.1,
            capsize=2.5,
            label=label,
        )
    chance = 100 * frame.groupby("relation")["chance"].mean().loc[order].to_numpy()
    ax.plot(chance, np.arange(len(order)), color=FAINT, linestyle="none", marker="|", markersize=11, label="chance")
    counts = frame[frame["recipe"] == before].set_index("relation")["n"]
    ax.set_yticks(range(len(order)), [f"{r.replace('_', ' ')} (n = {counts[r]})" for r in order])
    ax.set_xlabel("right answers (%)")
    ax.set_xlim(0, 102)
    legend_below(fig, ax)
    return fig


def describe(frame: pd.DataFrame, x: str, hue: str, what: str, column: str = "protocol", y: str = "accuracy") -> str:
    """The content of a panel figure in words: what is drawn, then every line's values in per cent."""
    parts = [what]
    for value, panel in frame.groupby(column, sort=False, observed=True):
        lines = []
        for name, line in panel.groupby(hue, sort=False, observed=True):
            values = ", ".join(f"{100 * v:.0f} at {_plain(k)}" for k, v in zip(line[x], line[y], strict=True))
            lines.append(f"{name}: {values}")
        parts.append(f"{PROTOCOL_NAMES.get(value, value)}: " + "; ".join(lines))
    return ". ".join(parts).replace("..", ".") + "."


def _plain(value) -> str:
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)
