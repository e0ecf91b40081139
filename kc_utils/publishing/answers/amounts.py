"""How much can I prune? How few bits can I take? What is kept along one amount, of every model at hand."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from kc_utils.analysis.across import LAB_PANEL, curves, first_clear, half_gone
from kc_utils.analysis.claim_rows import Evidence
from kc_utils.analysis.findings import NBSP
from kc_utils.analysis.names import UNQUANTIZED, in_order_of_precision
from kc_utils.publishing.answers.answer import (
    Answer,
    Picture,
    basis,
    in_words,
    kept_panels,
    kept_text,
    named,
    with_start,
)

_PRUNED = re.compile(r"magnitude@all=[\d.]+")
_ROUNDED = re.compile(r"(?:int8@all|(?:rtn|gptq)@all=\d+)(?:,(?:group|samples)=\d+)*")


def prune(evidence: Evidence) -> Answer:
    """Pruning of all layers by magnitude."""
    found = curves(evidence, lambda recipe: bool(_PRUNED.fullmatch(recipe)))
    if found.empty:
        return Answer()
    found = found.assign(percent=100 * found["pruned"].astype(float)).sort_values("percent", kind="stable")
    frame = with_start(found, "percent", 0.0)
    what = "Knowledge kept when all layers are pruned by magnitude"
    return Answer(
        _short(found, lambda line: f"{line['percent']:g}{NBSP}% sparsity", _half),
        (
            Picture(
                "kept",
                lambda: kept_panels(frame, "percent", "weights of all layers set to zero (%)"),
                f"{what}, as a share of what the uncompressed model knew above chance. {basis(found)}",
                in_words(frame, "percent", what),
            ),
        ),
        tuple(_rows(found, lambda line: f"{line['percent']:g}{NBSP}%")),
    )


def bits(evidence: Evidence) -> Answer:
    """Quantization of all layers: int8, rounding to nearest, GPTQ."""
    found = curves(evidence, lambda recipe: bool(_ROUNDED.fullmatch(recipe)))
    if found.empty:
        return Answer()
    found = found.drop_duplicates(["panel", "line", "precision"]).assign(storage=lambda f: f["precision"])
    found["precision"] = in_order_of_precision(found["storage"])
    found = found.sort_values(["bits", "precision"], ascending=[False, True], kind="stable")
    frame = with_start(found, "storage", UNQUANTIZED)
    frame["storage"] = in_order_of_precision(frame["storage"].astype(str))
    what = "Knowledge kept when the weights of all layers are stored in fewer bits"
    return Answer(
        _short(found, lambda line: line["storage"], _at_four),
        (
            Picture(
                "kept",
                lambda: kept_panels(frame, "storage", "how the weights of all layers are stored", joined=False),
                f"{what}, as a share of what the uncompressed model knew above chance. {basis(found)}",
                in_words(frame, "storage", what),
            ),
        ),
        tuple(_rows(found, lambda line: line["storage"])),
    )


def _short(
    found: pd.DataFrame, amount: Callable[[pd.Series], str], more: Callable[[pd.DataFrame], str]
) -> tuple[str, str]:
    """Two sentences: models of language, then the lab. amount: of a line, in words; more: of one panel, how it goes on."""
    sentences = []
    for lab in (False, True):
        part = found[found["panel"].str.startswith(LAB_PANEL) == lab]
        told = [
            f"{'the ' if lab else '`'}{panel}{'' if lab else '`'} {_begins(curves_, amount, lab)}{more(curves_)}"
            for panel, curves_ in part.groupby("panel", sort=False)
        ]
        if told:
            text = "; ".join(told)
            sentences.append(text[0].upper() + text[1:] + ".")
    return tuple(sentences)


def _begins(part: pd.DataFrame, amount: Callable[[pd.Series], str], lab: bool) -> str:
    """Where the losses of the curves of one panel begin: `lose knowledge clearly from 20 % (encoder) ... on`."""
    firsts = {line: first_clear(curve) for line, curve in _by_line(part)}
    clear = {line: amount(first) for line, first in firsts.items() if first is not None}
    never = [line for line, first in firsts.items() if first is None]
    lose = "lose" if lab else "loses"
    if not clear:
        return f"{lose} nothing clearly at any amount tested"
    places: dict[str, list[str]] = {}
    for line, at in clear.items():
        places.setdefault(at, []).append(line)
    if len(firsts) == 1:
        told = next(iter(places))
    else:
        told = named([f"{at} ({', '.join(lines)})" for at, lines in places.items()])
    text = f"{lose} knowledge clearly from {told} on"
    return text + (f", and nothing clearly at any amount tested of {named(never)}" if never else "")


def _half(part: pd.DataFrame) -> str:
    """At which amounts half of the knowledge is gone, in one panel."""
    at = {line: half_gone(curve["percent"], curve["retention"]) for line, curve in _by_line(part, with_base=True)}
    gone = {line: value for line, value in at.items() if not np.isnan(value)}
    if not gone:
        return ", and more than half is left at every amount tested"
    told = [f"{value:.0f}{NBSP}%" + (f" ({line})" if len(at) > 1 else "") for line, value in gone.items()]
    return f", and half of it is gone at about {named(told)}"


def _at_four(part: pd.DataFrame) -> str:
    """What the best storage in four bits keeps, in one panel."""
    few = part[(part["bits"] == 4) & part["retention"].notna()]
    if few.empty:
        return ""
    best = few.loc[few.groupby("line", sort=False)["retention"].idxmax()]
    told = [
        f"{kept_text(line)} by {line['storage']}" + (f" ({line['line']})" if len(best) > 1 else "")
        for _, line in best.iterrows()
    ]
    return f"; in four bits, {named(told)} is kept at best"


def _by_line(part: pd.DataFrame, with_base: bool = False):
    return (part if with_base else part[part["recipe"] != "none"]).groupby("line", sort=False)


def _rows(found: pd.DataFrame, amount) -> list[dict]:
    """The table: amounts as columns would be too wide for a phone, so that each curve is a row for each amount."""
    rows = []
    for _, line in found[found["recipe"] != "none"].iterrows():
        rows.append(
            {
                "model": f"`{line['panel']}`" if not line["panel"].startswith(LAB_PANEL) else line["panel"],
                "facts or family": line["line"],
                "amount": amount(line),
                "kept": kept_text(line),
                "loss": "clear" if line["clear"] else "not clear",
                "n": f"{line['n']:,}" + (f" × {line['seeds']} seeds" if line["seeds"] > 1 else ""),
            }
        )
    return rows
