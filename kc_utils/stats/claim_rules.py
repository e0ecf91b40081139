"""How rows decide a claim: each rule turns what is kept of knowledge into one effect, and says on which side it must lie.

A rule is data in `book/claims.yaml`: its kind and its settings. Recipes are written with `{amount}`, once for each of
`amounts`. A stratum (a model asked facts of one source) is used where it has every recipe of one amount at least, and where
the uncompressed model knows more than chance. The effect of a stratum is the mean over amounts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from kc_utils.stats.claim_beside import AnswersTurn, BitsAtMost, LostUnnoticed
from kc_utils.stats.claim_rows import Evidence, Kept, Stratum, kept, knows_something
from kc_utils.stats.claim_rule import Effect, Recipes, Rule, effect, filled
from kc_utils.stats.open_and_closed import TWIN
from kc_utils.stats.statistics import head_and_tail

HALVES = ("head", "tail")


class KeptAtMost(Recipes):
    """bound: a share of the knowledge that the uncompressed model has above chance."""

    kind: Literal["kept at most"]
    bound: float = Field(gt=0, le=1)
    claims: ClassVar[Literal["above", "below"]] = "below"

    @property
    def threshold(self) -> float:
        return self.bound

    @property
    def says(self) -> str:
        return f"the share of knowledge that is kept; the claim needs it below {100 * self.bound:g} %"

    def of(self, kept_by, stratum, amount):
        return kept_by[filled(self.recipe, amount)]


class KeptAtLeast(KeptAtMost):
    kind: Literal["kept at least"]
    claims: ClassVar[Literal["above", "below"]] = "above"

    @property
    def says(self) -> str:
        return f"the share of knowledge that is kept; the claim needs it above {100 * self.bound:g} %"


class KeptLess(Rule):
    """worse: a recipe that is said to keep less than `better` does, than each of them where there are several."""

    kind: Literal["keeps less"]
    worse: str
    better: tuple[str, ...] = Field(min_length=1)

    @property
    def says(self) -> str:
        each = " or ".join(f"`{b}`" for b in self.better)
        least = ", whichever keeps least," if len(self.better) > 1 else ""
        return f"what {each}{least} keeps, less what `{self.worse}` keeps; the claim needs it above 0"

    def needs(self, amount) -> tuple[str, ...]:
        return tuple(filled(r, amount) for r in (self.worse, *self.better))

    def of(self, kept_by, stratum, amount):
        worse, *better = (kept_by[r] for r in self.needs(amount))
        return np.minimum.reduce(better) - worse


class LittleExtra(Rule):
    """second: a step after `first`; margin: points of knowledge that it may cost beyond what the first step costs."""

    kind: Literal["little extra cost"]
    first: str
    second: str
    margin: float = Field(gt=0, lt=1)
    claims: ClassVar[Literal["above", "below"]] = "below"

    @property
    def threshold(self) -> float:
        return self.margin

    @property
    def says(self) -> str:
        return (
            f"what `{self.first}` keeps, less what `{self.first}+{self.second}` keeps; the claim needs it below "
            f"{100 * self.margin:g} points"
        )

    def needs(self, amount) -> tuple[str, ...]:
        return filled(self.first, amount), filled(f"{self.first}+{self.second}", amount)

    def of(self, kept_by, stratum, amount):
        alone, both = (kept_by[r] for r in self.needs(amount))
        return alone - both


class MorePerWeight(Rule):
    """recipe, against: pruning of two sets of matrices; compared by knowledge lost for each million weights set to zero."""

    kind: Literal["costs more per weight"]
    recipe: str
    against: str
    unit: ClassVar[str] = "points of knowledge lost per million weights"

    @property
    def says(self) -> str:
        return (
            f"knowledge lost for each million weights that `{self.recipe}` sets to zero, less the same of `{self.against}`; the "
            "claim needs it above 0"
        )

    def needs(self, amount) -> tuple[str, ...]:
        return filled(self.recipe, amount), filled(self.against, amount)

    def of(self, kept_by, stratum, amount):
        own, other = ((1 - kept_by[r]) / (millions(stratum.report(r)) or np.nan) for r in self.needs(amount))
        return own - other


class TailKeptBetter(Recipes):
    """Facts in two halves by popularity, within each relation."""

    kind: Literal["tail kept better"]

    @property
    def says(self) -> str:
        return (
            "what is kept of the less popular half of each relation's facts, less what is kept of the more popular half, both "
            "corrected for chance; the claim needs it above 0"
        )

    def effects(self, evidence: Evidence) -> Iterator[Effect]:
        for stratum, halves in self.halves(evidence):
            yield self.between(stratum, halves)

    def halves(self, evidence: Evidence) -> Iterator[tuple[Stratum, dict[str, Kept]]]:
        """What is kept of the `head` and of the `tail`, in each stratum that knows something of both."""
        for stratum in evidence.of_knowledge(lambda s: len(self.usable(s)) * has_popularity(s)):
            rows = stratum.rows("none", stratum.memory)
            parts = head_and_tail(rows.assign(popularity=pd.to_numeric(rows["popularity"])))
            if not all(knows_something(rows[parts == half]) for half in HALVES):
                continue
            half_of = parts.groupby(rows["fact"]).first()
            recipes = [r for a in self.usable(stratum) for r in self.needs(a)]
            yield (
                stratum,
                {h: kept(stratum, recipes, stratum.memory, half_of == h, seed=n) for n, h in enumerate(HALVES)},
            )

    def between(self, stratum: Stratum, halves: dict[str, Kept]) -> Effect:
        amounts = self.usable(stratum)
        recipes = [r for a in amounts for r in self.needs(a)]
        head, tail = (halves[half] for half in HALVES)
        value = float(np.mean([tail.at[r] - head.at[r] for r in recipes]))
        draws = np.mean([tail.draws[r] - head.draws[r] for r in recipes], axis=0)
        both = Kept({}, {}, head.n + tail.n, min(head.effective, tail.effective))
        return effect(stratum, both, amounts, value, draws)


class ReadingSurvives(Recipes):
    """The same questions from memory and with the fact stated first."""

    kind: Literal["reading survives better"]

    @property
    def says(self) -> str:
        return (
            "what is kept of answering when the fact is stated first, less what is kept of answering the same questions from "
            "memory; the claim needs it above 0"
        )

    def effects(self, evidence: Evidence) -> Iterator[Effect]:
        both_ways = ("rank", "openbook")
        for stratum in evidence.of_knowledge(lambda s: len(self.usable(s)) * s.asks(*both_ways)):
            if all(knows_something(stratum.rows("none", p)) for p in both_ways) and _twins(stratum):
                amounts = self.usable(stratum)
                recipes = [r for a in amounts for r in self.needs(a)]
                told, memory = (kept(stratum, recipes, p) for p in ("openbook", "rank"))
                value = float(np.mean([told.at[r] - memory.at[r] for r in recipes]))
                draws = np.mean([told.draws[r] - memory.draws[r] for r in recipes], axis=0)
                yield effect(stratum, memory, amounts, value, draws)


def has_popularity(stratum: Stratum) -> bool:
    rows = stratum.results["none"].rows
    return "popularity" in rows and pd.to_numeric(rows["popularity"]).notna().mean() > 0.5


def _twins(stratum: Stratum) -> bool:
    """Whether both protocols ask the same questions."""
    told, memory = (stratum.rows("none", p)[TWIN].sort_values(TWIN).to_numpy() for p in ("openbook", "rank"))
    return told.shape == memory.shape and bool((told == memory).all())


def millions(report: dict) -> float:
    """Weights set to zero, in millions."""
    return (report.get("sparsity") or 0.0) * report.get("weights_touched", 0) / 1e6


AnyRule = Annotated[
    KeptAtMost
    | KeptAtLeast
    | KeptLess
    | LittleExtra
    | MorePerWeight
    | TailKeptBetter
    | ReadingSurvives
    | LostUnnoticed
    | AnswersTurn
    | BitsAtMost,
    Field(discriminator="kind"),
]
