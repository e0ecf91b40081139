"""Figures that can be read alone: axes with units, 95 % intervals, the uncompressed model, chance.

Every function returns a `Picture`, which a notebook shows with caption and alternative text, or None for an empty table.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from kc_utils.report import drawing
from kc_utils.report.drawing import FAINT, INK, Picture, describe, label, steps
from kc_utils.report.phrases import sizes
from kc_utils.report.weights import matrix
from kc_utils.stats.names import UNQUANTIZED, in_order_of_precision, short_protocol

X = {
    "pruned": ("weights of the scope set to zero (%)", 100),
    "sparsity": ("zeros among the scope's weights (%)", 100),
    "weights_removed": ("weights set to zero (millions)", 1e-6),
    "bits": ("bits of a weight of the scope", 1),
    "bits_per_weight": ("bits per weight of the scope, scales included", 1),
    "precision": ("storage of the scope's weights", 1),
    "compression_ratio": ("compression ratio of the whole model", 1),
    "bytes_compressed": ("size of the whole model (MB)", 1e-6),
}
"""Columns that a horizontal axis may show, with their unit and the factor to it."""
Y = {
    "accuracy": ("correct answers (%)", 100),
    "retention": ("retention: knowledge kept (%)", 100),
    "difference": ("difference in correct answers (points)", 100),
    "sparsity": ("zeros after the last step (%)", 100),
    "share": ("share of these facts (%)", 100),
    "value": ("pairs of paraphrases that agree (%)", 100),
    "ratio": ("perplexity / uncompressed", 1),
}
__all__ = ["Picture", "curve", "dots", "matrix", "perplexity", "relations"]
STATIC = "word embeddings alone"
"""The static-embedding control of ranking (`probing.static`), where a table holds it."""
OF_RECIPES = ("scope", "method")
"""Columns in which the uncompressed model has no value: it is the first point of every line."""


def curve(
    table: pd.DataFrame,
    x: str,
    y: str = "accuracy",
    hue: str | None = None,
    col: str | None = "protocol",
    row: str | None = None,
    caption: str = "",
    name: str | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    members: pd.DataFrame | None = None,
) -> Picture | None:
    """Draw a table of `compare`: y against x with 95 % intervals, one line per value of `hue`.

    One panel per value of `col`, one row of panels per value of `row`. x and y: columns; those of `X` and `Y` bring units,
    others take `xlabel` and `ylabel`. members: single values (of models, of seeds) behind the means, drawn faintly.

    >>> curve(compare(rows), x="sparsity", y="retention", hue="scope")
    """
    frame = _frame(table, x, [c for c in (hue, col, row) if c])
    if frame.empty:
        return None
    (xtext, xscale), (ytext, yscale) = X.get(x, (x.replace("_", " "), 1)), Y.get(y, (y.replace("_", " "), 1))
    xtext, ytext = xlabel or xtext, ylabel or ytext
    if members is not None and len(members):
        members = _frame(members, x, [c for c in (hue, col, row) if c])
    if not steps(frame[x]):
        frame, members = (f if f is None else f.assign(**{x: xscale * f[x].astype(float)}) for f in (frame, members))
    hues = list(dict.fromkeys(frame[hue])) if hue else [None]
    at, places = frame.assign(one=0), [row or "one", col or "one"]
    rows, columns = (list(dict.fromkeys(at[c])) for c in places)
    panels = at.groupby(places, sort=False, observed=True)
    parts = dict(sorted(((rows.index(r), columns.index(c)), part) for (r, c), part in panels))
    drawing.theme()
    fig, axes = drawing.grid(parts, frame[x], wrapped=len(rows) == 1 or len(columns) > 2)
    for key, part in parts.items():
        ax = axes[key]
        points = None if members is None else _panel(members, part, row, col)
        drawing.lines(ax, part, x, hue, y, yscale, hues, points)
        _levels(ax, part, y)
        titles = [label(part[c].iloc[0]) for c, many in ((row, len(rows) > 1), (col, True)) if c and many]
        ax.set_title("\n".join(titles), fontsize="small")
        ax.set_xlabel(xtext if ax.lowest else "")
        ax.set_ylabel(ytext if ax.leftmost else "")
    _limits(fig, frame, y, yscale)
    drawing.legend_below(fig)
    what = caption or f"{ytext.partition(' (')[0].capitalize()} by {xtext.partition(' (')[0]}"
    alt = describe(frame, x, hue, y, [c for c in (row, col) if c], f"{what}: {ytext} by {xtext}", yscale)
    note = _note(frame, y, any(map(_one_baseline, parts.values())))
    return Picture(fig, f"{what}. {note}", alt, name or f"{y}-{x}".replace("_", "-"))


def _frame(table: pd.DataFrame, x: str, split: list[str]) -> pd.DataFrame:
    """The lines that are drawn, in order; the uncompressed model begins every line of a scope or a method."""
    if "recipe" not in table or table.empty:
        return table
    base, rest = table[table["recipe"] == "none"], table[table["recipe"] != "none"]
    if keys := [c for c in split if c in OF_RECIPES]:
        starts = rest[keys].drop_duplicates().to_dict("records")
        base = pd.concat([base.assign(**start) for start in starts]) if starts else base
    frame = pd.concat([base, rest], ignore_index=True)
    if "precision" in frame:
        frame = frame.assign(precision=in_order_of_precision(frame["precision"]))
    frame = frame.sort_values([c for c in ("precision", "pruned") if c in frame], kind="stable")
    if x == "bits":
        names = frame["bits"].map(lambda b: UNQUANTIZED if pd.isna(b) else f"{b:g} bits")
        frame = frame.assign(bits=pd.Categorical(names, list(dict.fromkeys(names)), ordered=True))
    return frame.dropna(subset=[x])


def _panel(points: pd.DataFrame, part: pd.DataFrame, *columns: str | None) -> pd.DataFrame:
    for column in filter(None, columns):
        points = points[points[column] == part[column].iloc[0]]
    return points


def _levels(ax, part: pd.DataFrame, y: str) -> None:
    if y == "accuracy":
        if _one_baseline(part):
            drawing.level(ax, 100 * part["baseline_accuracy"].iloc[0], "uncompressed", "-", INK)
        drawing.level(ax, 100 * part["chance"].mean(), "chance", ":")
        _control(ax, part, "static")
    elif y == "value" and "baseline_value" in part:
        drawing.level(ax, 100 * part["baseline_value"].iloc[0], "uncompressed", "-", INK)
    elif y == "retention":
        drawing.level(ax, 100, "nothing lost", "--")
        drawing.level(ax, 0, "guessing", ":")
        _control(ax, part, "static_retention")
    elif y == "difference":
        drawing.level(ax, 0, "uncompressed", "-", INK)


def _one_baseline(part: pd.DataFrame) -> bool:
    return "baseline_accuracy" in part and part["baseline_accuracy"].nunique() == 1


def _control(ax, part: pd.DataFrame, column: str) -> None:
    """Draw what word embeddings alone give, where that is known: of lines that differ in it, the most."""
    values = part[column].dropna() if column in part else part.iloc[:0]
    if len(values):
        drawing.level(ax, 100 * values.max(), f"{STATIC}{', at most' * (values.nunique() > 1)}", "-.")


def _limits(fig, frame: pd.DataFrame, y: str, scale: float) -> None:
    """An axis from 0 that holds every point, and bars as long as they are not far longer than the rest."""
    held = [y, *["baseline_accuracy"] * (y == "accuracy")]
    values, bars = (scale * frame[[c for c in names if c]].to_numpy(float) for names in (held, drawing.bounds(frame, y)))
    values = np.append(values[np.isfinite(values)], [0.0] + [100.0] * (y == "retention"))
    low, high, bars = values.min(), values.max(), bars[np.isfinite(bars)]
    room = 0.4 * max(high - low, 0.01 * scale)
    low, high = max(bars.min(initial=low), low - room), min(bars.max(initial=high), high + room)
    fig.axes[0].set_ylim(1.05 * low, high + 0.06 * (high - low))  # all panels share it


def _note(frame: pd.DataFrame, y: str, baseline: bool = True) -> str:
    """What belongs below every figure: what bars and lines are."""
    n = f" ({sizes(frame)})" if {"protocol", "n"} <= set(frame) else ""
    bars = f"Bars: 95 % intervals{n}." if all(drawing.bounds(frame, y)) else ""
    control = {"accuracy": "static", "retention": "static_retention"}.get(y)
    ranked = control and "rank" in set(frame.get("protocol", ()))
    known = ranked and control in frame and frame[control].notna().any()
    return " ".join(filter(None, [
        bars, f"{'Black line: uncompressed; dotted' if baseline else 'Dotted'}: chance." if y == "accuracy" else "",
        f"Dash-dotted: {STATIC}, without the body." if known else f"Ranking by {STATIC}: not computed here." if ranked else "",
    ]))  # fmt: skip


def perplexity(
    table: pd.DataFrame, ratios: pd.DataFrame, x: str, hue: str = "scope", row: str | None = None, caption: str = ""
) -> Picture | None:
    """Draw accuracy above, perplexity relative to the uncompressed model below, on the same horizontal axis.

    table: of `compare`, whose last protocol of ranking or else first one is drawn; ratios: of `perplexity`. None where
    `ratios` is empty.
    """
    if ratios.empty:
        return None
    protocol = _main_protocol(table)
    split = [c for c in (hue, row) if c]
    above, below = _frame(table[table["protocol"] == protocol], x, split), _frame(ratios, x, split)
    if not steps(above[x]):
        above, below = (f.assign(**{x: X[x][1] * f[x].astype(float)}) for f in (above, below))
    columns = list(dict.fromkeys(above[row])) if row else [None]
    drawing.theme()
    size = (max(4.9 * len(columns), 7.0), 6.6)
    fig, axes = plt.subplots(2, len(columns), figsize=size, squeeze=False, sharex="col", sharey="row")
    shown = below[["ratio", "ratio_low", "ratio_high"]].to_numpy(float)
    shown = shown[np.isfinite(shown)]
    for j, value in enumerate(columns):
        upper, lower = ((f if value is None else f[f[row] == value]) for f in (above, below))
        drawing.lines(axes[0, j], upper, x, hue, "accuracy")
        _levels(axes[0, j], upper, "accuracy")
        drawing.lines(axes[1, j], lower.replace(np.inf, np.nan), x, hue, "ratio", 1)
        drawing.ratio_axis(axes[1, j], lower, x, shown.min(initial=1), shown.max(initial=1))
        axes[0, j].set_title("\n".join(filter(None, [value and label(value), label(protocol)])), fontsize="small")
        axes[1, j].set_title(f"Perplexity of {ratios['text'].iloc[0]}", fontsize="small")
        axes[1, j].set_xlabel(X[x][0])
    axes[0, 0].set_ylim(0, max(105 * above[["high", "baseline_accuracy"]].to_numpy(float).max(), 1))
    axes[0, 0].set_ylabel(Y["accuracy"][0])
    axes[1, 0].set_ylabel(Y["ratio"][0])
    drawing.legend_below(fig)
    what = caption or "Facts and perplexity"
    by = [row] if row else []
    alt = describe(above, x, hue, "accuracy", by, f"{what}: {Y['accuracy'][0]}") + " "
    alt += describe(below, x, hue, "ratio", by, Y["ratio"][0], 1)
    note = "Below: logarithmic; an open triangle at the upper edge is infinite; bars over windows of the text."
    return Picture(fig, f"{what}. {_note(above, 'accuracy')} {note}", alt, "perplexity")


def _main_protocol(table: pd.DataFrame) -> str:
    return "rank" if "rank" in set(table["protocol"]) else table["protocol"].iloc[0]


def dots(
    table: pd.DataFrame, group: str, y: str = "accuracy", hue: str = "recipe", caption: str = "", name: str | None = None,
    xlabel: str | None = None, members: pd.DataFrame | None = None, chance: bool = False,
) -> Picture | None:  # fmt: skip
    """Draw shares of unordered groups, in per cent, from top to bottom: a mark with its interval for each value of `hue`."""
    if table.empty:
        return None
    drawing.theme()
    groups, hues = list(dict.fromkeys(table[group])), list(dict.fromkeys(table[hue]))
    fig, ax = plt.subplots(figsize=(7.6, (0.2 + 0.16 * len(hues)) * len(groups) + 1.6))
    for n, value in enumerate(hues):
        line = table[table[hue] == value].drop_duplicates(group).set_index(group).reindex(groups)
        at = np.arange(len(groups)) + 0.22 * (n - (len(hues) - 1) / 2)
        middle, reach = drawing.with_bars(line, y, 100)
        marks = {"color": drawing.colour(n), "marker": drawing.MARKERS[n % len(drawing.MARKERS)]}
        name_of = "uncompressed" if value == "none" else label(value)
        ax.errorbar(middle, at, xerr=reach, linestyle="none", markersize=6, elinewidth=1.1, capsize=2.5, label=name_of, **marks)
        if members is not None:
            mine = members[(members[hue] == value) & members[group].isin(groups)]
            places = [at[groups.index(g)] for g in mine[group]]
            ax.scatter(100 * mine[y].to_numpy(float), places, s=18, alpha=0.35, linewidths=0, **marks)
    known = chance and "static" in table and table["static"].notna().any()
    if chance:
        guess = 100 * table.groupby(group)["chance"].mean().loc[groups].to_numpy(float)
        ax.plot(guess, range(len(groups)), color=FAINT, linestyle="none", marker="|", markersize=11, label="chance")
        if known:
            alone = 100 * table.groupby(group)["static"].mean().loc[groups].to_numpy(float)
            ax.plot(alone, range(len(groups)), color=FAINT, linestyle="none", marker="x", markersize=5, label=STATIC)
    counts = table.drop_duplicates(group).set_index(group)["n"] if "n" in table else {}
    ax.set_yticks(range(len(groups)), [f"{label(g)} (n = {counts[g]})" if len(counts) else label(g) for g in groups])
    ax.set_ylim(len(groups) - 0.4, -0.6)
    unit = xlabel or Y.get(y, (y, 1))[0]
    ax.set_xlabel(unit)
    drawing.legend_below(fig)
    what = caption or f"{label(y).capitalize()} by {group}"
    alt = describe(table, group, hue, y, [], f"{what}: {unit}")
    levels = f" Grey strokes: chance{f'; crosses: {STATIC}' * bool(known)}." if chance else ""
    return Picture(fig, f"{what}. Bars: 95 % intervals.{levels}", alt, name or group)


def relations(table: pd.DataFrame, caption: str = "") -> Picture | None:
    """Draw each relation before and after the first recipe, best known on top (a table of `compare(rows, by="relation")`).

    Of several protocols, ranking or else the first is drawn.
    """
    if table.empty:
        return None
    protocol, recipe = _main_protocol(table), next(r for r in table["recipe"] if r != "none")
    shown = table[table["recipe"].isin(["none", recipe]) & (table["protocol"] == protocol)]
    best = shown[shown["recipe"] == "none"].sort_values("accuracy", ascending=False)["relation"]
    shown = shown.assign(relation=pd.Categorical(shown["relation"], best)).sort_values("relation")
    shown = shown.assign(relation=shown["relation"].astype(str).str.replace("_", " "))
    what = caption or f"Correct answers ({short_protocol(protocol)}) by relation, before and after `{recipe}`"
    return dots(shown, "relation", caption=what, name="relations", chance=True)
