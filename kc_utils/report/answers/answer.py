"""The answer to a question of the book: two sentences, a figure, the numbers behind it; nothing where there are no rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd

from kc_utils.report import figures
from kc_utils.stats.claim_rule import Effect
from kc_utils.stats.claims import FAILS, HOLDS, apart, side, together
from kc_utils.stats.findings import NBSP, series
from kc_utils.stats.lab_findings import points
from kc_utils.stats.names import in_order_of_precision, model_name
from kc_utils.report.markdown import figure, markdown_table

LEVELS = ((1.0, "nothing lost"), (0.0, "guessing"))
NO_ROWS = "**No data.** No rows at hand can answer this question.\n"
AXES = {
    "percent": "weights of {} set to zero (%)",
    "removed": "weights set to zero (% of the whole model)",
    "precision": "how the weights of {} are stored",
}


@dataclass(frozen=True)
class Picture:
    """A figure of a finding. name: ends the name of its file and its label."""

    name: str
    draw: Callable[[], plt.Figure]
    caption: str
    alt: str


@dataclass(frozen=True)
class Answer:
    """sentences: the short answer, computed; pictures: the first stands below it; rows: of the table of evidence."""

    sentences: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    rows: tuple[dict, ...] = ()


def rendered(name: str, answer: Answer) -> tuple[dict[str, str], dict[str, bytes]]:
    """Two fragments, `findings/NAME_answer.md` with sentences and figures and `findings/NAME_evidence.md` with the table, and
    the pictures, for `book/results/`."""
    if not answer.sentences:
        return {f"findings/{name}_answer.md": NO_ROWS, f"findings/{name}_evidence.md": NO_ROWS}, {}
    texts, pictures = ["\n\n".join(answer.sentences) + "\n"], {}
    for picture in answer.pictures:
        file = f"findings/{name}-{picture.name}.png"
        pictures[file] = figures.png(picture.draw())
        texts.append(figure(file, f"fig-finding-{name}-{picture.name}", picture.caption, picture.alt))
    return {
        f"findings/{name}_answer.md": "\n".join(texts),
        f"findings/{name}_evidence.md": (markdown_table(list(answer.rows)) if answer.rows else NO_ROWS) + "\n",
    }, pictures


def picture(
    name: str, curves: pd.DataFrame, x: str, what: str, hue: str = "line", of: str = "all layers", note: str = ""
) -> Picture:
    """Knowledge kept against an amount, one panel for each value of `panel`, one colour for each of `hue`.

    x: one of AXES; of: whose weights; what: begins the caption and the words for those who cannot see it.
    """
    frame = with_starts(curves, hue)
    if x == "precision":
        frame["precision"] = in_order_of_precision(frame["precision"].astype(str))
    shown = frame[frame["retention"].notna()]
    return Picture(
        name,
        lambda: figures.panels(
            frame, x, hue, AXES[x].format(of), "knowledge kept (%)", column="panel", y="retention", low="retention_low",
            high="retention_high", reference=None, chance=None, levels=LEVELS, joined=x != "precision",
        ),
        f"{what}, {note or 'as a share of what the uncompressed model knew above chance'}. {basis(curves)}",
        figures.describe(shown, x, hue, f"{what}, in per cent", column="panel", y="retention"),
    )  # fmt: skip


def with_starts(curves: pd.DataFrame, hue: str) -> pd.DataFrame:
    """Every line with the uncompressed model of its panel as first point, and every panel with every line, if without a value:
    a colour means the same in all panels."""
    base, rest = curves[curves["recipe"] == "none"], curves[curves["recipe"] != "none"]
    hues, parts = list(dict.fromkeys(rest[hue])), []
    for panel, mine in rest.groupby("panel", sort=False):
        starts = base[base["panel"] == panel]
        for value in hues:
            line = mine[mine[hue] == value]
            own = starts[starts[hue] == value] if hue == "line" and len(line) else starts
            start = own.iloc[:1].assign(**{hue: value})
            parts += [start, line] if len(line) else [start.assign(retention=float("nan"))]
    return pd.concat(parts, ignore_index=True)


def basis(frame: pd.DataFrame) -> str:
    """What bars are, in a caption."""
    told = []
    if (frame["seeds"] == 1).any():
        told.append("95 % paired bootstrap intervals over facts")
    if (frame["seeds"] > 1).any():
        told.append("for models of the lab 95 % t intervals over seeds")
    return f"Bars: {'; '.join(told)}."


def effect_rows(effects: list[Effect], name: str) -> list[dict]:
    """One row of evidence for each stratum, and the means of language and lab where there are several."""
    rows = [
        {
            "model": f"`{model_name(e.model)}`",
            "facts": f"`{e.facts}`",
            name: points(e.effect, e.low, e.high),
            "n": f"{e.n:,}",
            "rows": e.origin,
        }
        for e in effects
    ]
    for where, group in apart(effects):
        if len(group) > 1:
            n = f"{sum(e.n for e in group):,}"
            rows.append({"model": f"{where}, mean", "facts": "", name: points(*together(group)), "n": n, "rows": ""})
    return rows


def verdict(effects: list[Effect], above: str, below: str, undecided: str, threshold: float = 0) -> str:
    """One of three texts, by where the interval of the mean effect lies."""
    _, low, high = together(effects)
    return {HOLDS: above, FAILS: below}.get(side(low, high, threshold, "above"), undecided)


def clear_sides(effects: list[Effect]) -> tuple[int, int]:
    """In how many strata the effect is clearly above 0, and clearly below."""
    sides = [side(e.low, e.high, 0, "above") for e in effects]
    return sides.count(HOLDS), sides.count(FAILS)


def amounts_of(effects: Iterable[Effect]) -> str:
    """The sparsities that effects are means over: `10, 20 and 30 %`."""
    return series([f"{100 * a:g}" for a in sorted({a for e in effects for a in e.amounts})]) + f"{NBSP}%"


def pairs(count: int) -> str:
    """How many pairs of a model and a source of facts stand behind a number."""
    return (
        "one pair of a model and a source of facts" if count == 1 else f"{count} pairs of a model and a source of facts"
    )
