"""How much can I prune? How few bits can I take? What is kept along one amount, of every model at hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from kc_utils.stats.across import LAB_PANEL, PRUNED, curves, first_clear, half_gone
from kc_utils.stats.claim_rows import Evidence
from kc_utils.stats.findings import NBSP, interval, percent, series
from kc_utils.stats.lab_findings import amount, kept
from kc_utils.stats.names import in_order_of_precision
from kc_utils.report.answers.answer import Answer, picture

STORED = re.compile(r"int8@all|rtn@all=\d+|gptq@all=\d+(?:,\w+=\w+)*")


def prune(evidence: Evidence) -> Answer:
    """Pruning of all layers by magnitude."""
    what = "Knowledge kept when all layers are pruned by magnitude"
    return _along(curves(evidence, PRUNED), "percent", what, _half)


def bits(evidence: Evidence) -> Answer:
    """Quantization of all layers: int8, rounding to nearest, GPTQ."""
    found = curves(evidence, STORED)
    if len(found):
        panels = pd.factorize(found["panel"])[0]
        found = found.iloc[np.lexsort((in_order_of_precision(found["precision"]).cat.codes, panels))]
    return _along(
        found, "precision", "Knowledge kept when the weights of all layers are stored in fewer bits", _at_four
    )


def _along(found: pd.DataFrame, x: str, what: str, more: Callable[[pd.DataFrame], str]) -> Answer:
    """The curves against one amount. more: how the short answer about a panel goes on."""
    if found.empty:
        return Answer()
    compressed = found[found["recipe"] != "none"]
    rows = [
        {
            "model": _name(line["panel"]),
            "facts or family": line["line"],
            "amount": amount(line),
            "kept": kept(line),
            "loss": "clear" if line["clear"] else "not clear",
            "n": f"{line['n']:,}" + (f" × {line['seeds']} seeds" if line["seeds"] > 1 else ""),
        }
        for _, line in compressed.iterrows()
    ]
    return Answer(tuple(_short(found, more)), (picture("kept", found, x, what),), tuple(rows))


def _name(panel: str) -> str:
    return f"the lab's {panel.removeprefix(LAB_PANEL)}" if panel.startswith(LAB_PANEL) else f"`{panel}`"


def _short(found: pd.DataFrame, more: Callable[[pd.DataFrame], str]) -> Iterator[str]:
    """A sentence on each model of language, and one on the lab."""
    in_lab = found["panel"].str.startswith(LAB_PANEL)
    for panel, mine in found[~in_lab].groupby("panel", sort=False):
        yield f"{_begins(mine, _name(panel))}{more(mine)}."
    lab = found[in_lab]
    if len(lab):
        sizes = lab["panel"].str.removeprefix(LAB_PANEL).str.removesuffix(" models")
        lab = lab.assign(line=sizes + " " + lab["line"])
        yield f"{_begins(lab, 'the models of the lab')}{more(lab)}."


FEW = 2
"""So many curves of a sentence are told one by one; of more, the two ends."""


def _begins(part: pd.DataFrame, whose: str) -> str:
    """Where the losses of some curves begin: `The first clear loss of ... comes at 20 % sparsity (small encoder) or ...`."""
    order = list(dict.fromkeys(amount(line) for _, line in part.sort_values("percent", kind="stable").iterrows()))
    firsts = {line: first_clear(curve) for line, curve in part.groupby("line", sort=False)}
    places: dict[str, list[str]] = {}
    for line, first in firsts.items():
        places.setdefault("" if first is None else amount(first), []).append(line)
    never = places.pop("", [])
    if not places:
        return f"No loss of {whose} is clear at any amount tested"
    mild_to_harsh = sorted(places, key=order.index)
    told = [f"{at} ({_of(places[at], len(firsts))})" if len(firsts) > 1 else at for at in mild_to_harsh]
    where = f"at {' or '.join(told)}" if len(told) <= FEW else f"between {told[0]} and {told[-1]}"
    text = f"The first clear loss of {whose} comes {where}"
    return text + (f", and at no amount tested for {_of(never, len(firsts))}" if never else "")


def _of(lines: list[str], all_lines: int) -> str:
    """Some of so many curves by name, or counted where they are many."""
    return series(lines) if len(lines) <= FEW else f"{len(lines)} of {all_lines}"


def _half(part: pd.DataFrame) -> str:
    """At which amounts half of the knowledge is gone."""
    at = {line: half_gone(c["percent"], c["retention"]) for line, c in part.groupby("line", sort=False)}
    gone = sorted((value, line) for line, value in at.items() if not np.isnan(value))
    if not gone:
        return ", and more than half of the knowledge is left at every amount tested"
    told = [f"{value:.0f}{NBSP}%" + f" ({line})" * (len(at) > 1) for value, line in gone]
    return f", and half of the knowledge is gone at about {_ends(told)}"


def _at_four(part: pd.DataFrame) -> str:
    """What the best storage in four bits keeps."""
    few = part[(part["bits"] == 4) & part["retention"].notna()]
    if few.empty:
        return ""
    best = few.loc[few.groupby("line", sort=False)["retention"].idxmax()].sort_values("retention", kind="stable")
    alike = best["precision"].nunique() == 1
    told = []
    for _, line in best.iterrows():
        notes = ([line["line"]] if len(best) > 1 else []) + ([] if alike else [line["precision"]])
        between = interval(line["retention_low"], line["retention_high"])
        told.append(f"{percent(line['retention'])} ({'; '.join([between, *notes])})")
    by = f" by {best['precision'].iloc[0]}" if alike else ""
    return f"; in four bits, {_ends(told)} of the knowledge is kept at best{by}"


def _ends(told: list[str]) -> str:
    return series(told) if len(told) <= FEW else f"{told[0]} to {told[-1]}"
