"""Sentences of the findings: what models keep and what protocols decide, side by side, first where they disagree."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from kc_utils.models.registry import resolve
from kc_utils.report.phrases import NBSP, interval, number, percent, seen, series, whole
from kc_utils.stats.claims import UNDECIDED, Part
from kc_utils.stats.names import lab_parts, short_protocol

DEPENDS = "it depends on how the model is queried"


def listed_kept(means: pd.DataFrame) -> str:
    """List what the models of one kind keep under each recipe by each protocol (lines of `strata.averages`).

    Where one protocol shows a clear loss and another equality, the line says first that it depends.
    """
    said = [f"Kept of the knowledge of {means['whose'].iloc[0]}:\n"]
    for recipe, lines in means[means["recipe"] != "none"].groupby("recipe", sort=False):
        pruned = lines["pruned"].iloc[0]
        each = [f"{_kept(x)} by {short_protocol(x['protocol'])}" for _, x in lines.iterrows()]
        depends = f", where {DEPENDS}" * bool(lines["clear"].any() and lines["equal"].any())
        said.append(f"- {f'{percent(pruned)} sparsity' if pruned else f'`{recipe}`'}{depends}: {series(each)}")
    return "\n".join(said)


def _kept(line: pd.Series) -> str:
    """What is kept, and what no clear loss leaves open: equality, or the loss that these facts could have shown."""
    note = "" if line["clear"] else "; equal" if line["equal"] else f"; no clear loss, {seen(line['visible'])}"
    return f"{percent(line['retention'])} ({interval(line['retention_low'], line['retention_high'])}{note})"


def cells(table: pd.DataFrame) -> list[str]:
    """Write what is kept, in per cent, its interval, and `clear`, `equal` or the smallest loss that would have shown."""
    notes = ["clear" if c else "equal" if e else whole(v) for c, e, v in table[["clear", "equal", "visible"]].values]
    kept = table[["retention", "retention_low", "retention_high"]].map(whole).values
    return [f"{value} ({low} to {high}; {note})" for (value, low, high), note in zip(kept, notes, strict=True)]


def points(effect: float, low: float, high: float) -> str:
    """Write a difference of shares in points, with its 95 % interval: `12.0 points (9.1 to 15.2)`."""
    return f"{number(100 * effect)}{NBSP}points ({number(100 * low)} to {number(100 * high)})"


def decided(parts: Sequence[Part], names: Mapping[str, str]) -> str:
    """State what the parts of one kind of models decide, by protocol; names: a text for each side (`strata.two_sided`).

    Where protocols disagree the text says so first. One that decides nothing does not hide what another decides, a veto does.
    """
    found = list(dict.fromkeys(part.side for part in parts if part.side != UNDECIDED))
    found = found if len(found) > 1 or not any(part.disagree for part in parts) else []
    first = names[(found or [UNDECIDED])[0]] if len(found) < 2 else DEPENDS
    each = []
    for p in parts:
        text = f"{points(p.effect, p.low, p.high)} by {short_protocol(p.protocol)}"
        text += f", {names[p.side]}" if len({x.side for x in parts}) > 1 else ""
        text += f", where {p.disagree} of {len(p.strata)} models and sources clearly disagree" if p.disagree else ""
        each.append(text)
    return f"{first} ({'; '.join(each)})"


def caveat(models: Iterable[str]) -> str:
    """Write the first note of each registered model among these, which its results have to carry; lab models have none."""
    found = [f"{m}: {resolve(m).notes[0]}" for m in dict.fromkeys(models) if not lab_parts(m) and resolve(m).notes]
    return "\n\n".join(found)
