"""Figures that can be read alone: axes with units, 95 % intervals, the uncompressed model, chance.

Every function returns a matplotlib figure; `describe` puts the same content in words for readers who cannot see it.
"""

from __future__ import annotations

import io
import math

import matplotlib

matplotlib.use("Agg", force=False)

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from kc_utils.stats.names import protocol_name

MARKERS = ["o", "s", "D", "^", "v", "P", "X"]  # seven beside ten colours: the first seventy lines differ
PER_ROW = 2  # panels side by side before they shrink too far
MANY_STEPS = 7  # on an axis of names: from here on a panel takes the width of two
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
    levels: tuple[tuple[float, str], ...] = (),
    joined: bool = True,
    names: dict | None = None,
) -> plt.Figure:
    """One panel per value of `column` (and `row`); one colour and marker per value of `hue`; 95 % intervals as bars.

    `x` may hold numbers or, as an ordered categorical, steps. Values of y, low, high, reference and chance are
    fractions and are drawn in per cent. `levels` are further horizontal lines, each a fraction and its name. `joined` draws
    lines between the points of a hue. Panels are set two to a row where they have no `row`, or more than two columns.
    """
    theme()
    places = _places(frame, x, column, row)
    rows, columns = (1 + max(place[i] for place in places) for i in (0, 1))
    wide = 9.8 if columns == 1 and _steps(frame, x) >= MANY_STEPS else 7.4 if len(places) == 1 else 4.9
    size = (wide * columns, 3.7 * rows + 0.5)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey="row")
    for (i, j), part in places.items():
        ax = axes[i, j]
        draw_lines(ax, part, x, hue, y, low, high, joined)
        _references(ax, part, reference, chance, levels)
        ax.set_title(
            _title(part, column, row if row and frame[row].nunique() > 1 else None, names or {}), fontsize="small"
        )
        lowest = (i + 1, j) not in places
        ax.set_xlabel(xlabel if lowest else "")
        ax.tick_params(labelbottom=lowest)
        ax.set_ylabel(ylabel if j == 0 else "")
    for i in range(rows):
        drawn = pd.concat([part for (at, _), part in places.items() if at == i])
        values = 100 * drawn[[c for c in (low, high, y, reference) if c]].astype(float).to_numpy()
        values = np.append(values[np.isfinite(values)], [100 * level for level, _ in levels])
        axes[i, 0].set_ylim(min(0, 1.08 * values.min(initial=0)), max(1.08 * values.max(initial=0), 1))
    for i, j in np.ndindex(axes.shape):
        if (i, j) not in places:
            fig.delaxes(axes[i, j])
    legend_below(fig, axes[0, 0])
    return fig


def _places(frame: pd.DataFrame, x: str, column: str, row: str | None) -> dict[tuple[int, int], pd.DataFrame]:
    """What each panel draws, by its row and column in the figure."""
    columns = list(dict.fromkeys(frame[column]))
    rows = list(dict.fromkeys(frame[row])) if row else [None]
    parts = {}
    for j, value in enumerate(columns):
        for i, row_value in enumerate(rows):
            part = frame[(frame[column] == value) & (True if row is None else frame[row] == row_value)]
            if len(part):
                parts[i, j] = part
    if len(rows) > 1 and len(columns) <= PER_ROW:
        return parts
    width = 1 if _steps(frame, x) >= MANY_STEPS else PER_ROW
    return {(n // width, n % width): part for n, part in enumerate(parts.values())}


def _steps(frame: pd.DataFrame, x: str) -> int:
    """How many names stand on an axis of names; 0 for numbers."""
    return len(frame[x].cat.categories) if isinstance(frame[x].dtype, pd.CategoricalDtype) else 0


def _title(part: pd.DataFrame, column: str, row: str | None, names: dict) -> str:
    values = [part[c].iloc[0] for c in (row, column) if c]
    return "\n".join(names.get(v, protocol_name(str(v))) for v in values)


def legend_below(fig: plt.Figure, ax: plt.Axes) -> None:
    """One legend for the figure in a strip of its own under the axes: what any of them draws, each name once."""
    entries = {}
    for axes in (ax, *fig.axes):
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    longest = 0.6 + 0.095 * max(map(len, entries))  # inches that an entry takes
    columns = max(1, min(6 if fig.get_figwidth() > 6 else 3, len(entries), int(fig.get_figwidth() / longest)))
    rows = -(-len(entries) // columns)
    strip = (0.18 + 0.24 * rows) / fig.get_figheight()
    fig.legend(entries.values(), entries, loc="lower center", ncols=columns, frameon=False, bbox_to_anchor=(0.5, 0))
    fig.tight_layout(rect=(0, strip, 1, 1))


def draw_lines(ax, part, x, hue, y, low, high, joined, scale: float = 100) -> None:
    """The lines of one panel, in units of `scale` (100: per cent). Points of one place stand slightly side by side."""
    hues = list(dict.fromkeys(part[hue]))
    categorical = isinstance(part[x].dtype, pd.CategoricalDtype)
    for n, value in enumerate(hues):
        line = part[part[hue] == value].sort_values(x)
        at = beside(part, line, x, n, len(hues))
        middle, below, above = (scale * line[c].to_numpy(float) for c in (y, low, high))
        ax.errorbar(
            at,
            middle,
            yerr=_bars(middle, below, above),
            color=sns.color_palette("colorblind")[n % 10],
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


def beside(part: pd.DataFrame, line: pd.DataFrame, x: str, number: int, of: int) -> np.ndarray:
    """Where the points of one of several lines of a panel stand on its horizontal axis: slightly side by side."""
    categorical = isinstance(part[x].dtype, pd.CategoricalDtype)
    at = line[x].cat.codes.to_numpy(float) if categorical else line[x].to_numpy(float)
    apart = min(0.12, 0.6 / of) if categorical else min(0.0144, 0.036 / of) * _span(part[x])
    return at + apart * (number - (of - 1) / 2)


def _bars(middle, below, above) -> list[list[float]]:
    """Lengths of bars below and above each point."""
    return [np.maximum(middle - below, 0).tolist(), np.maximum(above - middle, 0).tolist()]


def _span(values: pd.Series) -> float:
    span = float(values.max() - values.min())
    return span or 1.0


def _references(ax, part, reference, chance, levels=()) -> None:
    if reference:
        ax.axhline(
            100 * part[reference].iloc[0], color=INK, linewidth=1.2, linestyle="-", zorder=1, label="uncompressed"
        )
    if chance:
        ax.axhline(100 * part[chance].mean(), color=FAINT, linewidth=1.8, linestyle=":", zorder=1, label="chance")
    for (value, label), style in zip(levels, ("--", ":", "-."), strict=False):
        ax.axhline(100 * value, color=FAINT, linewidth=1.4, linestyle=style, zorder=1, label=label)


def recall_and_surprise(
    recall: pd.DataFrame, surprise: pd.DataFrame, x: str, hue: str, xlabel: str, row: str | None, joined: bool
) -> plt.Figure:
    """Above, right answers of one protocol; below, on the same horizontal axis, how many times the perplexity of a text is
    that of the uncompressed model, on a logarithmic scale. One column per value of `row`.

    surprise: columns ratio, ratio_low, ratio_high, 1 for nothing lost. An endless ratio stands as an open triangle at the
    upper edge.
    """
    theme()
    columns = list(dict.fromkeys(recall[row])) if row else [None]
    size = (max(4.9 * len(columns), 7.0), 6.6)
    fig, axes = plt.subplots(2, len(columns), figsize=size, squeeze=False, sharex="col", sharey="row")
    for j, value in enumerate(columns):
        above, below = (f if value is None else f[f[row] == value] for f in (recall, surprise))
        draw_lines(axes[0, j], above, x, hue, "accuracy", "low", "high", joined)
        _references(axes[0, j], above, "baseline_accuracy", "chance")
        draw_ratio(axes[1, j], below, x, hue, joined, _span_of_ratio(surprise))
        title = protocol_name(above["protocol"].iloc[0])
        axes[0, j].set_title(title if value is None else f"{value}\n{title}", fontsize="small")
        axes[1, j].set_title(f"Perplexity of {below['text'].iloc[0]}", fontsize="small")
        axes[1, j].set_xlabel(xlabel)
    axes[0, 0].set_ylim(0, max(105 * recall[["high", "baseline_accuracy"]].to_numpy(float).max(), 1))
    axes[0, 0].set_ylabel("right answers (%)")
    axes[1, 0].set_ylabel("times the uncompressed one")
    legend_below(fig, axes[0, 0])
    return fig


def draw_ratio(ax, part: pd.DataFrame, x: str, hue: str, joined: bool, span: tuple[float, float] | None = None) -> None:
    """Perplexity as a multiple of the uncompressed one, on a logarithmic axis; an endless one as an open triangle at its upper
    edge. span: of the axis, by default what this panel needs."""
    bottom, top = span or _span_of_ratio(part)
    endless = part[np.isinf(part["ratio"])]
    draw_lines(ax, part.replace(np.inf, np.nan), x, hue, "ratio", "ratio_low", "ratio_high", joined, scale=1)
    if len(endless):  # an empty line that is not clipped would be laid out as if it stood in the corner
        at = endless[x].cat.codes if _steps(endless, x) else endless[x]
        marks = {"color": INK, "mfc": "none", "markersize": 8, "clip_on": False, "label": "_endless"}
        ax.plot(at, [top] * len(endless), "^", **marks)
    ax.axhline(1, color=INK, linewidth=1.2, zorder=1)
    ax.set_yscale("log")
    ax.set_ylim(bottom, top)
    ticks = _times(bottom, top)
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()


def _span_of_ratio(frame: pd.DataFrame) -> tuple[float, float]:
    shown = frame[["ratio", "ratio_low", "ratio_high"]].to_numpy(float)
    shown = shown[np.isfinite(shown)]
    return min(0.95, 0.97 * shown.min(initial=1)), max(1.3, 1.25 * shown.max(initial=1))


def _times(low: float, high: float) -> list[float]:
    """Round numbers between two bounds of a logarithmic axis, finer where these lie close together."""
    digits = (
        (1, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
        if high / low < 4
        else (1, 2, 5)
        if high < 200
        else (1,)
    )
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for power in powers for d in digits if low <= (value := round(d * 10.0**power, 6)) <= high]


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
            xerr=_bars(middle, below, above),
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


def describe(
    frame: pd.DataFrame,
    x: str,
    hue: str,
    what: str,
    column: str = "protocol",
    y: str = "accuracy",
    row: str | None = None,
    times: bool = False,
) -> str:
    """The content of a panel figure in words: what is drawn, then every line's values in per cent, or as they are (`times`)."""
    written = (lambda v: f"{v:.2f}") if times else (lambda v: f"{round(100 * v)}")
    parts = [what]
    for values, panel in frame.groupby([c for c in (row, column) if c], sort=False, observed=True):
        lines = []
        for name, line in panel.groupby(hue, sort=False, observed=True):
            told = zip(line[x], line[y], strict=True)
            lines.append(
                f"{name}: " + ", ".join(f"{'undefined' if pd.isna(v) else written(v)} at {_plain(k)}" for k, v in told)
            )
        parts.append(", ".join(protocol_name(str(v)) for v in values) + ": " + "; ".join(lines))
    return ". ".join(parts).replace("..", ".") + "."


def _plain(value) -> str:
    return f"{value:.3g}" if isinstance(value, int | float | np.number) else str(value)
