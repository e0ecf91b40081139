"""What figures are drawn with: one look, lines with intervals, reference lines, a legend below, the content in words."""

import base64
import io
from dataclasses import dataclass

import matplotlib

matplotlib.use("Agg", force=False)

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import LogLocator

from kc_utils.stats.names import METHOD_NAMES, SCOPE_NAMES, protocol_name

MARKERS = ("o", "s", "D", "^", "v", "P", "X")  # seven beside ten colours: the first seventy lines differ
MANY_STEPS = 7  # names on an axis: from here on a panel takes the width of two
INK, FAINT = "#222222", "#555555"
PAGE_INCHES = 9.8  # width of a figure that fills the page


def theme() -> None:
    """Set seaborn's white grid and its colour-blind-safe palette, at a size that survives a phone."""
    look = {"axes.titlelocation": "left", "axes.titlesize": "medium", "axes.titleweight": "bold", "figure.dpi": 110}
    look |= {"grid.color": "#e6e6e6", "axes.edgecolor": "#bbbbbb"}
    sns.set_theme(style="whitegrid", palette="colorblind", context="notebook", font_scale=0.95, rc=look)


def png(fig: plt.Figure) -> bytes:
    """The figure as a PNG on white, closed afterwards."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=160, bbox_inches="tight", facecolor="white")
    plt.close(fig)
    return buffer.getvalue()


@dataclass(frozen=True)
class Picture:
    """A figure with its caption, its label in the book (`name`) and its content in words (`alt`)."""

    figure: plt.Figure
    caption: str
    alt: str
    name: str

    def _repr_mimebundle_(self, include=None, exclude=None):
        width = min(100, round(100 * self.figure.get_figwidth() / PAGE_INCHES))
        about = {"name": self.name, "caption": self.caption, "alt": self.alt, "width": f"{width}%"}
        image = base64.b64encode(png(self.figure)).decode()
        return {"image/png": image, "text/plain": self.alt}, {"kc": about}


def label(value) -> str:
    """A scope, method, protocol, relation or number as figures name it."""
    if isinstance(value, float | np.floating | int | np.integer) and not isinstance(value, bool):
        return f"{value:.3g}"
    return (METHOD_NAMES | SCOPE_NAMES).get(value) or protocol_name(str(value))


def steps(values: pd.Series) -> int:
    """How many names stand on an axis of names; 0 for an axis of numbers."""
    return len(values.cat.categories) if isinstance(values.dtype, pd.CategoricalDtype) else 0


def grid(parts: dict, x: pd.Series, wrapped: bool = True) -> tuple[plt.Figure, dict]:
    """A figure with one axes for each key of `parts`, a pair (row, column). Returns axes by key.

    Panels of one row are wrapped, two side by side (one where many names stand on the axis) if `wrapped`.
    """
    many = steps(x) >= MANY_STEPS
    at = {key: key for key in parts}
    if wrapped:
        width = 1 if many else 3 if len(parts) == 3 and not steps(x) else 2
        at = {key: divmod(number, width) for number, key in enumerate(parts)}
    rows, columns = (1 + max(place[i] for place in at.values()) for i in (0, 1))
    wide = 9.8 if columns == 1 and many else 7.4 if len(parts) == 1 else 4.9 if columns < 3 else 3.4
    size = (wide * columns, 3.7 * rows + 0.5)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True)
    for place in np.ndindex(axes.shape):
        if place not in at.values():
            fig.delaxes(axes[place])
    for i, j in at.values():
        lowest = (i + 1, j) not in at.values()
        axes[i, j].tick_params(labelbottom=lowest)
        axes[i, j].lowest, axes[i, j].leftmost = lowest, j == 0
    return fig, {key: axes[place] for key, place in at.items()}


def lines(
    ax, part: pd.DataFrame, x: str, hue: str | None, y: str, scale: float = 100, hues=None, points: pd.DataFrame | None = None
) -> None:  # fmt: skip
    """Draw one line per value of `hue` with its intervals (`low`, `high` or `Y_low`, `Y_high`), slightly side by side; no line
    joins precisions.

    scale: what values are multiplied with (100: fractions as per cent); hues: all values in order, so that a colour
    means the same in every panel; points: single members behind a mean (one model of several, one seed), drawn faintly.
    """
    hues = list(hues or (dict.fromkeys(part[hue]) if hue else [None]))
    for n, value in enumerate(hues):
        line = (part if value is None else part[part[hue] == value]).sort_values(x)
        if line.empty:
            continue
        middle, bars = with_bars(line, y, scale)
        look = {"color": colour(n), "marker": MARKERS[n % len(MARKERS)]}
        ax.errorbar(
            beside(part, line, x, n, len(hues)), middle, yerr=bars, markersize=6, linewidth=1.6, elinewidth=1.1, capsize=2.5,
            linestyle="none" if x == "precision" else "-", label=None if value is None else label(value), **look,
        )  # fmt: skip
        if points is not None:
            mine = points[points[hue] == value]
            at = beside(part, mine, x, n, len(hues))
            ax.scatter(at, scale * mine[y].to_numpy(float), s=18, alpha=0.35, linewidths=0, zorder=2, **look)
    if steps(part[x]):
        names = [str(name).replace(" ", "\n", 1) for name in part[x].cat.categories]
        ax.set_xticks(range(len(names)), names)


def with_bars(line: pd.DataFrame, y: str, scale: float) -> tuple[np.ndarray, list[np.ndarray] | None]:
    """The values of a column, and how far their intervals reach below and above them; None for a column without any."""
    middle = scale * line[y].to_numpy(float)
    low, high = bounds(line, y)
    if low is None:
        return middle, None
    below, above = middle - scale * line[low].to_numpy(float), scale * line[high].to_numpy(float) - middle
    return middle, [np.nan_to_num(np.maximum(reach, 0)) for reach in (below, above)]


def colour(number: int):
    return sns.color_palette("colorblind")[number % 10]


def bounds(table: pd.DataFrame, y: str) -> tuple[str | None, str | None]:
    """The columns that hold the interval of a column; None where there are none."""
    for low, high in ((f"{y}_low", f"{y}_high"), ("low", "high")):
        if {low, high} <= set(table.columns) and (low != "low" or y in ("accuracy", "share", "value", "effect")):
            return low, high
    return None, None


def beside(part: pd.DataFrame, line: pd.DataFrame, x: str, number: int, of: int) -> np.ndarray:
    """Where the points of one of several lines stand on the horizontal axis."""
    if steps(part[x]):
        return line[x].cat.codes.to_numpy(float) + min(0.12, 0.6 / of) * (number - (of - 1) / 2)
    span = float(part[x].max() - part[x].min()) or 1.0
    return line[x].to_numpy(float) + min(0.0144, 0.036 / of) * span * (number - (of - 1) / 2)


def level(ax, value: float, name: str, look: str = "--", ink: str = FAINT) -> None:
    """Draw a horizontal line that values are read against."""
    ax.axhline(value, color=ink, linewidth=1.8 if look == ":" else 1.3, linestyle=look, zorder=1, label=name)


def legend_below(fig: plt.Figure) -> None:
    """Draw one legend for the figure in a strip under the axes, each name once."""
    entries = {}
    for axes in fig.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    fig.set_layout_engine("constrained")
    if entries:
        longest = 0.6 + 0.095 * max(map(len, entries))  # inches that an entry takes
        columns = max(1, min(6 if fig.get_figwidth() > 6 else 3, len(entries), int(fig.get_figwidth() / longest)))
        fig.legend(entries.values(), entries, loc="outside lower center", ncols=columns, frameon=False)


def ratio_axis(ax, part: pd.DataFrame, x: str, low: float, high: float) -> None:
    """Make a vertical axis logarithmic with round numbers; an infinite ratio stands as an open triangle at its upper edge."""
    low, high = min(0.95, 0.97 * low), max(1.3, 1.25 * high)
    infinite = part[np.isinf(part["ratio"])]
    if len(infinite):
        at = infinite[x].cat.codes if steps(infinite[x]) else infinite[x]
        marks = {"color": INK, "mfc": "none", "markersize": 8, "clip_on": False, "label": "_infinite"}
        ax.plot(at, [high] * len(infinite), "^", **marks)
    fine = (1, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    digits = fine if high / low < 4 else (1, 2, 5) if high < 200 else (1,)
    ax.axhline(1, color=INK, linewidth=1.2, zorder=1)
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    ax.yaxis.set_major_locator(LogLocator(subs=digits, numticks=99))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()


def describe(table: pd.DataFrame, x: str, hue: str | None, y: str, by: list[str], what: str, scale: float = 100) -> str:
    """The content of a figure in words: what is drawn, then the values of every line of every panel."""
    write = (lambda v: f"{round(scale * v)}") if scale == 100 else (lambda v: f"{v:.3g}")
    parts = [what]
    for keys, panel in table.groupby(by, sort=False, observed=True) if by else [((), table)]:
        said = []
        for name, line in panel.groupby(hue, sort=False, observed=True) if hue else [("", panel)]:
            values = zip(line[x], line[y], strict=True)
            points = ", ".join(f"{'undefined' if pd.isna(v) else write(v)} at {label(at)}" for at, v in values)
            said.append(f"{label(name)}: {points}" if name != "" else points)
        parts.append(": ".join([*(label(key) for key in keys), "; ".join(said)]))
    return ". ".join(parts).replace("..", ".") + "."
