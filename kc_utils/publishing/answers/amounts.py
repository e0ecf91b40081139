"""How much can I prune? How few bits can I take? What is kept along one amount, of every model at hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from kc_utils.analysis.across import LAB_PANEL, PRUNED, curves, first_clear, half_gone
from kc_utils.analysis.claim_rows import Evidence
from kc_utils.analysis.findings import NBSP, series
from kc_utils.analysis.lab_findings import amount, kept
from kc_utils.analysis.names import in_order_of_precision
from kc_utils.publishing.answers.answer import Answer, picture

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
    """A sentence on models of language, and one on the lab."""
    in_lab = found["panel"].str.startswith(LAB_PANEL)
    for lab, part in ((False, found[~in_lab]), (True, found[in_lab])):
        told = [
            f"{_name(panel)} {_begins(mine, 'lose' if lab else 'loses')}{more(mine)}"
            for panel, mine in part.groupby("panel", sort=False)
        ]
        if told:
            text = "; ".join(told)
            yield text[0].upper() + text[1:] + "."


FEW = 2
"""So many curves of a model are told one by one; of more, the two ends."""


def _begins(part: pd.DataFrame, lose: str) -> str:
    """Where the losses of the curves of one panel begin: `lose knowledge clearly from 20 % (encoder) ... on`."""
    order = list(dict.fromkeys(amount(line) for _, line in part.sort_values("percent", kind="stable").iterrows()))
    firsts = {line: first_clear(curve) for line, curve in part.groupby("line", sort=False)}
    places: dict[str, list[str]] = {}
    for line, first in firsts.items():
        places.setdefault("" if first is None else amount(first), []).append(line)
    never = places.pop("", [])
    if not places:
        return f"{lose} nothing clearly at any amount tested"
    mild_to_harsh = sorted(places, key=order.index)
    told = [f"{at} ({_of(places[at], len(firsts))})" if len(firsts) > 1 else at for at in mild_to_harsh]
    text = f"{lose} knowledge clearly from {series(told) if len(told) <= FEW else f'{told[0]} to {told[-1]}'} on"
    return text + (f", and nothing clearly at any amount tested of {_of(never, len(firsts))}" if never else "")


def _of(lines: list[str], all_lines: int) -> str:
    """Some of a panel's curves by name, or counted where they are many."""
    return series(lines) if len(lines) <= FEW else f"{len(lines)} of {all_lines}"


def _half(part: pd.DataFrame) -> str:
    """At which amounts half of the knowledge is gone, in one panel."""
    at = {line: half_gone(c["percent"], c["retention"]) for line, c in part.groupby("line", sort=False)}
    gone = sorted((value, line) for line, value in at.items() if not np.isnan(value))
    if not gone:
        return ", and more than half is left at every amount tested"
    told = [f"{value:.0f}{NBSP}%" + f" ({line})" * (len(at) > 1) for value, line in gone]
    return f", and half of it is gone at about {series(told) if len(told) <= FEW else f'{told[0]} to {told[-1]}'}"


def _at_four(part: pd.DataFrame) -> str:
    """What the best storage in four bits keeps, in one panel."""
    few = part[(part["bits"] == 4) & part["retention"].notna()]
    if few.empty:
        return ""
    best = few.loc[few.groupby("line", sort=False)["retention"].idxmax()].sort_values("retention", kind="stable")
    alike = best["precision"].nunique() == 1
    told = [
        kept(b) + ("" if alike else f" by {b['precision']}") + f" ({b['line']})" * (len(best) > 1)
        for _, b in best.iterrows()
    ]
    by = f" by {best['precision'].iloc[0]}" if alike else ""
    return f"; in four bits, {series(told) if len(told) <= FEW else f'{told[0]} to {told[-1]}'}{by} is kept at best"
