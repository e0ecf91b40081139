"""Forgotten or broken? A fact from memory, beside its twin that is stated in the question.

Jin et al. (2024, arXiv 2310.04680) tell recall from in-context processing so: a fact that is lost while its open-book twin
is still answered was forgotten; where both are lost the model no longer reads.
"""

import math

import numpy as np
import pandas as pd

from kc_utils.errors import BadRequest
from kc_utils.stats.bootstrap import Resamples
from kc_utils.stats.compare import retention
from kc_utils.stats.intervals import clustered_wilson
from kc_utils.stats.items import Answers, aligned, refuse_missing, sample_of
from kc_utils.stats.names import recipe_fields

FATES = ("kept", "forgotten", "misread", "broken")  # both right; wrong from memory; wrong when stated; both wrong


def fates(rows: pd.DataFrame, memory: str = "rank", stated: str = "openbook") -> pd.DataFrame:
    """Part the facts that the uncompressed model answers both ways by what becomes of them.

    rows: of `evaluate` with both protocols; others are passed over. Returns one line per model, recipe and fate (of FATES):
    share of n facts with its interval low, high, and count; unread, facts that the uncompressed model knew but did not
    answer when stated; gap, retention when stated less retention from memory (above 0 knowledge suffers more than
    reading), with gap_low and gap_high; the fields of the recipe. Intervals are 95 %. Guesses count as answers: with c
    chance, a model that has lost all still seems to keep about c of either kind.

    Empty where no rows of both protocols are there; models that answer no fact both ways are left out. Raises BadRequest
    where the two protocols do not put the same questions, and as `compare`.
    """
    refuse_missing(rows, ["model", "recipe", "protocol"])
    lines = []
    for values, part in rows.groupby(sample_of(rows), sort=False, observed=True, dropna=False):
        own, twins = (part[part["protocol"] == p] for p in (memory, stated))
        if own.empty or twins.empty:
            continue
        closed, opened = aligned(own), aligned(twins)
        keys = [found.rows(next(iter(found.recipes)))[["fact", "template"]] for found in (closed, opened)]
        if not keys[0].equals(keys[1]) or set(closed.recipes) != set(opened.recipes):
            raise BadRequest(
                f"{values[0]}: {len(keys[0])} questions from memory and {len(keys[1])} open-book ones are not the same: "
                "query both of the same facts under the same recipes"
            )
        if "none" not in closed.recipes:
            raise BadRequest(f"{values[0]}: the uncompressed model was not evaluated; evaluate it on the same facts")
        named = dict(zip(sample_of(rows), values, strict=True))
        lines += [named | recipe_fields(recipe) | line for recipe, line in _of_model(closed, opened)]
    return pd.DataFrame(lines)


def _of_model(closed: Answers, opened: Answers) -> list[tuple[str, dict]]:
    """Every recipe with its four lines; two retentions are scored on the same draws of facts."""
    sides, lines = (closed, opened), []
    drawn = [Resamples.of(found.right, found.chance, found.facts) for found in sides]
    before = [found.right[found.recipes["none"]] for found in sides]
    known = before[0] & before[1]
    clusters = np.unique(closed.facts[known], return_inverse=True)[1]
    for recipe in closed.recipes if known.any() else ():
        places = [(found.recipes[recipe], found.recipes["none"]) for found in sides]
        rights = [(f.right[i].mean(), f.right[j].mean(), f.chance.mean()) for f, (i, j) in zip(sides, places, strict=True)]
        gap = retention(*rights[1]) - retention(*rights[0])
        memory, stated = (d.retention(i, j, seed) for seed, (d, (i, j)) in enumerate(zip(drawn, places, strict=True)))
        low, high = (gap, gap) if recipe == "none" or math.isnan(gap) else drawn[0].interval(stated - memory)
        shared = {"n": int(known.sum()), "unread": int((before[0] & ~before[1]).sum())}
        shared |= {"gap": float(gap), "gap_low": low, "gap_high": high}
        after, stated = (found.right[i][known] for found, (i, _) in zip(sides, places, strict=True))
        for fate, so in zip(FATES, (after & stated, ~after & stated, after & ~stated, ~after & ~stated), strict=True):
            low, high = clustered_wilson(so, clusters)
            line = {"fate": fate, "share": float(so.mean()), "low": low, "high": high, "count": int(so.sum())}
            lines.append((recipe, shared | line))
    return lines
