"""Figures of several models of one kind: a line with its interval over seeds, and each seed as a faint point."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from kc_utils.report.figures import FAINT, MARKERS, PER_ROW, beside, draw_lines, legend_below, theme

PANEL = (4.9, 3.7)  # inches
Level = tuple[float, str]


def panels_of_seeds(
    means: pd.DataFrame,
    points: pd.DataFrame,
    x: str,
    hue: str,
    column: str,
    y: str,
    xlabel: str,
    ylabel: str,
    levels: Sequence[Level] = (),
    joined: bool = True,
    scale: float = 100,
    names: dict | None = None,
    share_x: bool = True,
) -> plt.Figure:
    """One panel per value of `column`, two or three to a row; one colour and marker per value of `hue`.

    means   columns x, hue, column, y, and its interval as `y_low`, `y_high` (see `seeds.over_seeds`)
    points  the same of single members: faint points
    levels  horizontal lines, each a value of y and its name; scale: what values are multiplied by (100: per cent)
    """
    theme()
    columns = list(dict.fromkeys(means[column]))
    hues = list(dict.fromkeys(means[hue]))
    three = len(columns) == 3 and not isinstance(means[x].dtype, pd.CategoricalDtype)
    wide = 3 if three else min(PER_ROW, len(columns))
    rows = -(-len(columns) // wide)
    size = (7.0 if wide == 1 else max(2 * PANEL[0], 3.3 * wide), PANEL[1] * rows + 0.5)
    fig, axes = plt.subplots(rows, wide, figsize=size, squeeze=False, sharex=share_x, sharey=True)
    for place, value in enumerate(columns):
        ax, part = axes.flat[place], _with_all(means[means[column] == value], hue, hues, y)
        mine = points[points[column] == value]
        draw_lines(ax, part, x, hue, y, f"{y}_low", f"{y}_high", joined, scale)
        for number, name in enumerate(hues):
            _faint(ax, part, mine[mine[hue] == name], x, y, number, len(hues), scale)
        for (level, label), style in zip(levels, ("--", ":", "-."), strict=False):
            ax.axhline(scale * level, color=FAINT, linewidth=1.4, linestyle=style, zorder=1, label=label)
        ax.set_title((names or {}).get(value, str(value)), fontsize="small")
        lowest = place + wide >= len(columns)
        ax.set_xlabel(xlabel if lowest else "")
        ax.tick_params(labelbottom=lowest or not share_x)
        ax.set_ylabel(ylabel if place % wide == 0 else "")
    for ax in axes.flat[len(columns) :]:
        fig.delaxes(ax)
    _limits(axes[0, 0], means, points, y, levels, scale)
    legend_below(fig, axes[0, 0])
    return fig


def _with_all(part: pd.DataFrame, hue: str, hues: list, y: str) -> pd.DataFrame:
    """The lines of a panel in the order of `hues`, an empty one for each that it lacks: a colour means the same in all."""
    lines = [part[part[hue] == value] for value in hues]
    empty = part.iloc[:1].assign(**{y: np.nan, f"{y}_low": np.nan, f"{y}_high": np.nan})
    return pd.concat([line if len(line) else empty.assign(**{hue: h}) for h, line in zip(hues, lines, strict=True)])


def _faint(ax, part, points, x, y, number, of, scale) -> None:
    """The single members of a line, beside its marks."""
    if len(points):
        marks = {"color": sns.color_palette("colorblind")[number % 10], "marker": MARKERS[number % len(MARKERS)]}
        at = beside(part, points, x, number, of)
        ax.scatter(at, scale * points[y].to_numpy(float), s=18, alpha=0.35, linewidths=0, zorder=2, **marks)


def _limits(ax, means, points, y, levels, scale) -> None:
    """An axis that holds every point and level, and bars as long as they are not far longer than the rest."""
    values = np.concatenate(
        [points[y].to_numpy(float), means[y].to_numpy(float), [level for level, _ in levels], [0.0]]
    )
    values = values[np.isfinite(values)]
    low, high = values.min(), values.max()
    room = max(high - low, 1e-9)
    bars = means[[f"{y}_low", f"{y}_high"]].to_numpy(float)
    bars = bars[np.isfinite(bars)]
    low = max(min(low, bars.min(initial=low)), low - 0.25 * room)
    high = min(max(high, bars.max(initial=high)), high + 0.25 * room)
    edge = 0.04 * max(high - low, 0.1)
    ax.set_ylim(scale * (low - edge), scale * (high + edge))


def bars_of_groups(
    means: pd.DataFrame,
    points: pd.DataFrame,
    group: str,
    hue: str,
    y: str,
    xlabel: str,
    ylabel: str,
    scale: float = 100,
) -> plt.Figure:
    """Values of unordered groups, a dot with its interval for each group and hue, groups from top to bottom.

    means, points: as in `panels_of_seeds`.
    """
    theme()
    groups, hues = list(dict.fromkeys(means[group])), list(dict.fromkeys(means[hue]))
    fig, ax = plt.subplots(figsize=(7.6, (0.2 + 0.22 * len(hues)) * len(groups) + 1.6))
    palette = sns.color_palette("colorblind")
    for n, name in enumerate(hues):
        line = means[means[hue] == name].set_index(group).reindex(groups)
        at = np.arange(len(groups)) + 0.22 * (n - (len(hues) - 1) / 2)
        middle, low, high = (scale * line[c].to_numpy(float) for c in (y, f"{y}_low", f"{y}_high"))
        reach = [np.nan_to_num(np.maximum(middle - low, 0)), np.nan_to_num(np.maximum(high - middle, 0))]
        marks = {"color": palette[n % 10], "marker": MARKERS[n % len(MARKERS)]}
        ax.errorbar(
            middle, at, xerr=reach, linestyle="none", markersize=6, elinewidth=1.1, capsize=2.5, label=name, **marks
        )
        mine = points[points[hue] == name]
        places = [at[groups.index(g)] for g in mine[group]]
        ax.scatter(scale * mine[y].to_numpy(float), places, s=18, alpha=0.35, linewidths=0, **marks)
    ax.set_yticks(range(len(groups)), [str(g) for g in groups])
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    legend_below(fig, ax)
    return fig


def in_words(means: pd.DataFrame, x: str, hue: str, column: str, y: str, what: str, scale: float = 100) -> str:
    """The content of a figure in words: every line's means, with the number of seeds behind them."""
    parts = [what]
    for value, panel in means.groupby(column, sort=False, observed=True):
        lines = []
        for name, line in panel.groupby(hue, sort=False, observed=True):
            told = ", ".join(
                f"{_number(scale * v, scale)} at {_plain(at)}" for at, v in zip(line[x], line[y], strict=True)
            )
            lines.append(f"{name}: {told}")
        parts.append(f"{value}: " + "; ".join(lines))
    return ". ".join(parts).replace("..", ".") + f". Means over {_seeds(means)} seeds."


def _number(value: float, scale: float) -> str:
    if np.isnan(value):
        return "undefined"
    return f"{round(value)}" if scale == 100 else f"{value:.2g}"


def _plain(value) -> str:
    return f"{value:.3g}" if isinstance(value, int | float | np.number) else str(value)


def _seeds(means: pd.DataFrame) -> str:
    low, high = means["seeds"].min(), means["seeds"].max()
    return f"{low}" if low == high else f"{low} to {high}"
