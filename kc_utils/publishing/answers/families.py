"""Do the families differ? An encoder, an encoder-decoder and a decoder that were taught the same world."""

from __future__ import annotations

import re

import pandas as pd

from kc_utils.analysis import lab_findings
from kc_utils.analysis.across import LAB_PANEL, curves, lab_singles
from kc_utils.analysis.claim_rows import Evidence
from kc_utils.analysis.names import UNQUANTIZED, in_order_of_precision
from kc_utils.analysis.seeds import over_seeds
from kc_utils.publishing.answers.answer import Answer, Picture, basis, in_words, kept_panels, kept_text, with_start

PRUNING = re.compile(r"magnitude@all=[\d.]+")
ROUNDING = re.compile(r"(?:int8@all|rtn@all=\d+)")
SMALL = "small"


def families(evidence: Evidence) -> Answer:
    """The small models of the lab, three seeds a family, on the same facts."""
    pruned, rounded = (_of(evidence, pattern) for pattern in (PRUNING, ROUNDING))
    if pruned.empty or pruned["line"].nunique() < 2:
        return Answer()
    pruned = pruned.assign(percent=100 * pruned["pruned"].astype(float)).sort_values("percent", kind="stable")
    sentences, pictures = [_first(evidence, PRUNING, pruned, "Pruning")], [_pruning(pruned)]
    rows = _rows(pruned, lambda line: f"{line['percent']:g} % pruned")
    if len(rounded):
        rounded = rounded.assign(storage=rounded["precision"])
        rounded["precision"] = in_order_of_precision(rounded["storage"])
        rounded = rounded.sort_values("precision", kind="stable")
        sentences.append(_first(evidence, ROUNDING, rounded, "Rounding"))
        pictures.append(_rounding(rounded))
        rows += _rows(rounded, lambda line: line["storage"])
    return Answer(tuple(sentences), tuple(pictures), tuple(rows))


def _of(evidence: Evidence, pattern: re.Pattern) -> pd.DataFrame:
    found = curves(evidence, lambda recipe: bool(pattern.fullmatch(recipe)))
    return found[found["panel"] == f"{LAB_PANEL}{SMALL} models"] if len(found) else found


def _first(evidence: Evidence, pattern: re.Pattern, ordered: pd.DataFrame, what: str) -> str:
    """Who loses first, and whether the difference is clear."""
    wanted = lambda recipe: bool(pattern.fullmatch(recipe))  # noqa: E731
    singles = lab_singles(evidence.of_knowledge(lambda s: any(map(wanted, s.recipes))), wanted)[SMALL]
    means = over_seeds(singles, ("retention",))
    recipes = [r for r in dict.fromkeys(ordered["recipe"]) if r != "none"]
    told = lab_findings.first_losses(means, singles, recipes)
    if told and told[-1].startswith("**First to lose**"):
        return f"{what}: {told[-1].removeprefix('**First to lose** ').replace('is ', 'first to lose is ', 1)}"
    return f"{what}: no family loses clearly at any amount tested."


def _pruning(pruned: pd.DataFrame) -> Picture:
    frame, what = with_start(pruned, "percent", 0.0), "Knowledge that three families keep when all layers are pruned"
    return Picture(
        "pruning",
        lambda: kept_panels(frame, "percent", "weights of all layers set to zero (%)"),
        f"{what}: the same facts, equal numbers of parameters. {basis(pruned)}",
        in_words(frame, "percent", what),
    )


def _rounding(rounded: pd.DataFrame) -> Picture:
    frame = with_start(rounded, "storage", UNQUANTIZED)
    frame["storage"] = in_order_of_precision(frame["storage"].astype(str))
    what = "Knowledge that three families keep when weights are stored in fewer bits"
    return Picture(
        "rounding",
        lambda: kept_panels(frame, "storage", "how the weights of all layers are stored", joined=False),
        f"{what}: the same facts, equal numbers of parameters. {basis(rounded)}",
        in_words(frame, "storage", what),
    )


def _rows(found: pd.DataFrame, amount) -> list[dict]:
    rows, lines = [], list(dict.fromkeys(found["line"]))
    for recipe, part in found[found["recipe"] != "none"].groupby("recipe", sort=False):
        kept = {line["line"]: kept_text(line) for _, line in part.iterrows()}
        rows.append({"recipe": f"`{recipe}`", "amount": amount(part.iloc[0]), **{f: kept.get(f, "") for f in lines}})
    return rows
