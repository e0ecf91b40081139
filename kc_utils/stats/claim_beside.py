"""Rules that look at more than what is kept: at perplexity beside facts, at answers that turn, at bits of knowledge."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from kc_utils import lab
from kc_utils.stats.bootstrap import mean_interval
from kc_utils.stats.claim_rows import Evidence, Stratum, kept, knows_something
from kc_utils.stats.claim_rule import Effect, Recipes, effect, filled
from kc_utils.stats.items import checked, clusters_of
from kc_utils.stats.surprise import compare_surprise
from kc_utils.probing.sources import load_source

DRAWN = ("lab:people", "lab")
"""Sources with facts that were drawn evenly from known tables: those about people."""


class LostUnnoticed(Recipes):
    """flat: a perplexity up to so many times the uncompressed model's, with its whole interval, counts as flat; least: share of
    knowledge whose loss matters. Of the recipes under which perplexity is flat, the one that loses most is looked at."""

    kind: Literal["lost while perplexity is flat"]
    flat: float = Field(gt=1)
    least: float = Field(gt=0, lt=1)
    unit: ClassVar[str] = "points of knowledge lost"

    @property
    def threshold(self) -> float:
        return self.least

    @property
    def says(self) -> str:
        return (
            "the knowledge lost under the largest of the amounts at which the perplexity of a text is at most "
            f"{self.flat:g} times the uncompressed model's, with its whole interval; the claim needs it above "
            f"{100 * self.least:g} points"
        )

    def effects(self, evidence: Evidence) -> Iterator[Effect]:
        texts = {s.model: s for s in reversed(evidence.reading_texts(lambda s: len(self.usable(s))))}
        for stratum in evidence.of_knowledge(lambda s: len(self.usable(s)) * (s.model in texts)):
            shared = [a for a in self.usable(stratum) if a in self.usable(texts[stratum.model])]
            flat = [a for a in shared if self.is_flat(texts[stratum.model], a)]
            if flat and knows_something(stratum.rows("none", stratum.memory)):
                recipe = filled(self.recipe, max(flat))
                found = kept(stratum, (recipe,), stratum.memory)
                yield effect(stratum, found, (max(flat),), 1 - found.at[recipe], 1 - found.draws[recipe])

    def is_flat(self, text: Stratum, amount) -> bool:
        rows, base = (
            text.rows(r, "perplexity").drop(columns="chance", errors="ignore") for r in (*self.needs(amount), "none")
        )
        return bool(compare_surprise(rows, base).ratio_ci95[1] <= self.flat)


class AnswersTurn(Recipes):
    """within: accuracy that changes by no more counts as unchanged; least: share of answers that turn, one way or the other."""

    kind: Literal["answers turn while accuracy stays"]
    within: float = Field(gt=0, lt=1)
    least: float = Field(gt=0, lt=1)
    unit: ClassVar[str] = "answers that turn, in points"

    @property
    def threshold(self) -> float:
        return self.least

    @property
    def says(self) -> str:
        return (
            f"the share of answers that turn from right to wrong or back, where the share of right ones changes by no more than "
            f"{100 * self.within:g} points; the claim needs it above {100 * self.least:g} points"
        )

    def usable(self, stratum: Stratum) -> tuple[float, ...]:
        return tuple(a for a in super().usable(stratum) if stratum.memory and self._stays(stratum, a))

    def _stays(self, stratum: Stratum, amount) -> bool:
        after, before = (
            stratum.rows(r, stratum.memory)["correct"].astype(float).mean() for r in (*self.needs(amount), "none")
        )
        return bool(abs(after - before) <= self.within)

    def effect_in(self, stratum: Stratum) -> Effect:
        amounts = self.usable(stratum)
        base = checked(stratum.rows("none", stratum.memory))
        turned = np.mean(
            [
                (checked(stratum.rows(*self.needs(a), stratum.memory))["correct"] != base["correct"]).to_numpy(float)
                for a in amounts
            ],
            axis=0,
        )
        low, high = mean_interval(turned, clusters_of(base, "fact"))
        return Effect(
            stratum.model,
            stratum.facts,
            stratum.origin,
            len(base),
            amounts,
            float(turned.mean()),
            low,
            high,
            None,
            len(base),
        )


class BitsAtMost(Recipes):
    """bound: bits of knowledge for each parameter of the model. Only models that hold more than that uncompressed can tell."""

    kind: Literal["bits at most"]
    bound: float = Field(gt=0)
    unit: ClassVar[str] = "bits of knowledge a parameter"
    scale: ClassVar[float] = 1
    claims: ClassVar[Literal["above", "below"]] = "below"

    @property
    def threshold(self) -> float:
        return self.bound

    @property
    def says(self) -> str:
        return (
            "bits of knowledge for each parameter, from the likelihoods of drawn facts, of models that hold more than "
            f"{self.bound:g} uncompressed; the claim needs them below {self.bound:g}"
        )

    def effects(self, evidence: Evidence) -> Iterator[Effect]:
        drawn = lambda s: len(self.usable(s)) * (s.facts in DRAWN and s.asks("cloze"))  # noqa: E731
        for stratum in evidence.of_knowledge(drawn):
            parameters = stratum.report("none")["weights_model"]
            values, clusters = bits_of_facts(stratum.rows("none", "cloze"))
            if values.sum() / parameters <= self.bound:
                continue
            amounts = self.usable(stratum)
            after = np.mean([bits_of_facts(stratum.rows(*self.needs(a), "cloze"))[0] for a in amounts], axis=0)
            low, high = (len(after) * x / parameters for x in mean_interval(after, clusters))
            value = float(after.sum() / parameters)
            yield Effect(
                stratum.model, stratum.facts, stratum.origin, len(after), amounts, value, low, high, None, len(after)
            )


def bits_of_facts(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Bits that each asked fact of the lab's people stands for, those of its relation that were not asked included (see `bits`),
    and the number of what is drawn together. A fact may count below 0; a score that is not a number is worth nothing."""
    tables = lab.bit_tables(load_source(DRAWN[0]))
    rows = checked(rows[rows["relation"].isin(tables)], "correct", ["relation", "score"])
    entropy = rows["relation"].map({r: t.entropy for r, t in tables.items()}).to_numpy(float)
    share = rows["relation"].map({r: t.facts for r, t in tables.items()}) / rows.groupby("relation")["fact"].transform(
        "size"
    )
    bits = entropy + rows["score"].to_numpy(float) / math.log(2)
    return np.where(np.isfinite(bits), bits, 0.0) * share.to_numpy(float), clusters_of(rows, "fact")
