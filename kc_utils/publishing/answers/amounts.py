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
        found = found.iloc[in_order_of_precision(found["precision"]).cat.codes.argsort(kind="stable")]
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


def _begins(part: pd.DataFrame, lose: str) -> str:
    """Where the losses of the curves of one panel begin: `lose knowledge clearly from 20 % (encoder) ... on`."""
    firsts = {line: first_clear(curve) for line, curve in part.groupby("line", sort=False)}
    places: dict[str, list[str]] = {}
    for line, first in firsts.items():
        places.setdefault("" if first is None else amount(first), []).append(line)
    never = places.pop("", [])
    if not places:
        return f"{lose} nothing clearly at any amount tested"
    told = series([f"{at} ({', '.join(lines)})" if len(firsts) > 1 else at for at, lines in places.items()])
    text = f"{lose} knowledge clearly from {told} on"
    return text + (f", and nothing clearly at any amount tested of {series(never)}" if never else "")


def _half(part: pd.DataFrame) -> str:
    """At which amounts half of the knowledge is gone, in one panel."""
    at = {line: half_gone(c["percent"], c["retention"]) for line, c in part.groupby("line", sort=False)}
    gone = [f"{v:.0f}{NBSP}%" + f" ({line})" * (len(at) > 1) for line, v in at.items() if not np.isnan(v)]
    if not gone:
        return ", and more than half is left at every amount tested"
    return f", and half of it is gone at about {series(gone)}"


def _at_four(part: pd.DataFrame) -> str:
    """What the best storage in four bits keeps, in one panel."""
    few = part[(part["bits"] == 4) & part["retention"].notna()]
    if few.empty:
        return ""
    best = few.loc[few.groupby("line", sort=False)["retention"].idxmax()]
    told = [f"{kept(b)} by {b['precision']}" + f" ({b['line']})" * (len(best) > 1) for _, b in best.iterrows()]
    return f"; in four bits, {series(told)} is kept at best"
