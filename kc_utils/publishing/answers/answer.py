"""The answer to a question of the book: two sentences, a figure, the numbers behind it; nothing where there are no rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from kc_utils.analysis import figures
from kc_utils.analysis.claim_rule import Effect
from kc_utils.analysis.claims import together
from kc_utils.analysis.findings import NBSP, interval, percent
from kc_utils.analysis.lab_findings import points
from kc_utils.analysis.names import model_name
from kc_utils.publishing.tables import markdown_table

KEPT = ((1.0, "nothing lost"), (0.0, "guessing"))
NO_ROWS = "**No data.** No rows at hand can answer this question.\n"


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
    rows: tuple[Mapping[str, object], ...] = field(default=())


def rendered(name: str, answer: Answer) -> tuple[dict[str, str], dict[str, bytes]]:
    """Two fragments, `findings/NAME_answer.md` with sentences and figures and `findings/NAME_evidence.md` with the table, and
    the pictures, for `book/results/`."""
    if not answer.sentences:
        return {f"findings/{name}_answer.md": NO_ROWS, f"findings/{name}_evidence.md": NO_ROWS}, {}
    texts, pictures = [" ".join(answer.sentences)], {}
    for picture in answer.pictures:
        file = f"findings/{name}-{picture.name}.png"
        pictures[file] = figures.png(picture.draw())
        alt = picture.alt.replace("\n", " ").replace(NBSP, " ")
        texts.append(
            f"```{{figure}} /results/{file}\n:name: fig-finding-{name}-{picture.name}\n:alt: {alt}\n:width: 100%\n\n"
            f"{picture.caption}\n```"
        )
    table = markdown_table([dict(row) for row in answer.rows]) if answer.rows else NO_ROWS
    return {
        f"findings/{name}_answer.md": "\n\n".join(texts) + "\n",
        f"findings/{name}_evidence.md": table + "\n",
    }, pictures


def with_start(curves: pd.DataFrame, x: str, start, by: str | None = None) -> pd.DataFrame:
    """Curves that begin with the uncompressed model at `start`, and every panel with an entry for every line, so that a colour
    means the same in all of them. by: a column to make lines of within `line`."""
    hues = list(dict.fromkeys(curves[curves["recipe"] != "none"][by or "line"]))
    parts = []
    for _, panel in curves.groupby("panel", sort=False):
        base, rest = panel[panel["recipe"] == "none"], panel[panel["recipe"] != "none"]
        for hue in hues:
            mine = rest[rest[by or "line"] == hue]
            first = base if by else base[base["line"] == hue]
            if mine.empty:
                empty = panel.iloc[:1].assign(retention=np.nan, low=np.nan, high=np.nan)
                parts.append(empty.assign(**{x: start, by or "line": hue}))
            else:
                parts += [first.iloc[:1].assign(**{x: start, by or "line": hue}), mine]
    return pd.concat(parts, ignore_index=True)


def kept_panels(frame: pd.DataFrame, x: str, xlabel: str, hue: str = "line", joined: bool = True) -> plt.Figure:
    """Knowledge kept against an amount, one panel for each model or size of the lab's."""
    return figures.panels(
        frame, x, hue, xlabel, "knowledge kept (%)", column="panel", y="retention", low="low", high="high",
        reference=None, chance=None, levels=KEPT, joined=joined,
    )  # fmt: skip


def in_words(frame: pd.DataFrame, x: str, what: str, hue: str = "line") -> str:
    frame = frame[frame["retention"].notna()]
    return figures.describe(frame, x, hue, f"{what}, knowledge kept in per cent", column="panel", y="retention")


def kept_text(line: pd.Series) -> str:
    """`93 % (88 to 97 %)`; without an interval where there is one seed alone."""
    if np.isnan(line["low"]):
        return percent(line["retention"])
    return f"{percent(line['retention'])} ({interval(line['low'], line['high'])})"


def basis(frame: pd.DataFrame) -> str:
    """What bars are, in a caption."""
    told = []
    if (frame["seeds"] == 1).any():
        told.append("95 % paired bootstrap intervals over facts")
    if (frame["seeds"] > 1).any():
        told.append("for models of the lab 95 % t intervals over seeds")
    return f"Bars: {'; '.join(told)}."


def effect_rows(effects: list[Effect], name: str) -> list[dict]:
    """One row of evidence for each stratum, and their mean where there are several."""
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
    if len(effects) > 1:
        count = f"{sum(e.n for e in effects):,}"
        rows.append({"model": "together", "facts": "", name: points(*together(effects)), "n": count, "rows": ""})
    return rows


def named(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def strata(count: int) -> str:
    """How many pairs of a model and a source of facts stand behind a number."""
    return "one model asked one source of facts" if count == 1 else f"{count} pairs of a model and a source of facts"
