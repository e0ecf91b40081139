"""Do the families differ? An encoder, an encoder-decoder and a decoder that were taught the same world."""

from __future__ import annotations

import re

import pandas as pd

from kc_utils.stats.across import PRUNED, lab_curves, lab_singles, matching
from kc_utils.stats.claim_rows import Evidence
from kc_utils.stats.lab_findings import amount, first_to_lose, kept
from kc_utils.stats.names import in_order_of_precision
from kc_utils.report.answers.answer import Answer, Picture, picture

ROUNDED = re.compile(r"int8@all|rtn@all=\d+")
SIZE = "small"
NOTE = "the same facts, nearly equal numbers of parameters, as a share of what was known above chance"


def families(evidence: Evidence) -> Answer:
    """The small models of the lab, three seeds a family, on the same facts."""
    sentences, pictures, rows = [], [], []
    for name, wanted, x, what in (
        ("pruning", PRUNED, "percent", "Knowledge that families keep when all layers are pruned"),
        ("rounding", ROUNDED, "precision", "Knowledge that families keep when weights are stored in fewer bits"),
    ):
        singles = _singles(evidence, wanted)
        if singles is None or singles["line"].nunique() < 2:
            continue
        sentence, drawn, told = _compared(name, singles, x, what)
        sentences.append(sentence)
        pictures.append(drawn)
        rows += told
    return Answer(tuple(sentences), tuple(pictures), tuple(rows))


def _singles(evidence: Evidence, wanted: re.Pattern) -> pd.DataFrame | None:
    strata = evidence.of_knowledge(lambda s: matching(s, wanted))
    return lab_singles(strata, wanted).get(SIZE)


def _compared(name: str, singles: pd.DataFrame, x: str, what: str) -> tuple[str, Picture, list[dict]]:
    means = lab_curves(SIZE, singles)
    if x == "precision":
        means = means.iloc[in_order_of_precision(means["precision"]).cat.codes.argsort(kind="stable")]
    compressed = means[means["recipe"] != "none"]
    recipes = list(dict.fromkeys(compressed["recipe"]))
    first = first_to_lose(means, singles, recipes) or "No family loses clearly at any amount tested."
    rows = []
    for recipe, part in compressed.groupby("recipe", sort=False):
        told = {line["line"]: kept(line) for _, line in part.iterrows()}
        own = {line: told.get(line, "") for line in dict.fromkeys(compressed["line"])}
        n = f"{part['n'].iloc[0]:,} × {part['seeds'].max()} seeds"
        rows.append({"recipe": f"`{recipe}`", "amount": amount(part.iloc[0]), **own, "n": n})
    return f"*{name.capitalize()}.* {first}", picture(name, means, x, what, note=NOTE), rows
