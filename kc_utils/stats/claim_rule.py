"""What every rule of the ledger has: settings, the recipes that it needs, an effect in each stratum, a line to pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from kc_utils.stats.bootstrap import expanded_interval
from kc_utils.stats.claim_rows import Evidence, Kept, Stratum, canonical, kept, knows_something
from kc_utils.errors import KCError

POINTS = "points of knowledge kept"


@dataclass(frozen=True)
class Effect:
    """The effect in one stratum. n: questions; amounts: those that its rows have; low, high: 95 %; draws: of the bootstrap,
    None where the interval came otherwise; effective: clusters that the facts count as."""

    model: str
    facts: str
    origin: str
    n: int
    amounts: tuple[float, ...]
    effect: float
    low: float
    high: float
    draws: np.ndarray | None
    effective: float


class Rule(BaseModel):
    """amounts: what stands for `{amount}`. threshold: the effect that a claim lies above or below."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    amounts: tuple[float | int, ...] = Field(min_length=1)
    unit: ClassVar[str] = POINTS
    scale: ClassVar[float] = 100
    claims: ClassVar[Literal["above", "below"]] = "above"

    @model_validator(mode="after")
    def _recipes_parse(self):
        try:
            for amount in self.amounts:
                self.needs(amount)
        except KCError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def threshold(self) -> float:
        return 0.0

    @property
    def says(self) -> str:
        """In words: what the effect is, and on which side it must lie."""
        raise NotImplementedError

    def needs(self, amount) -> tuple[str, ...]:
        """The recipes that one amount takes beside the uncompressed model."""
        raise NotImplementedError

    def usable(self, stratum: Stratum) -> tuple[float, ...]:
        return tuple(a for a in self.amounts if set(self.needs(a)) <= stratum.recipes)

    def effects(self, evidence: Evidence) -> Iterator[Effect]:
        """One effect for each stratum that has the rows."""
        for stratum in evidence.of_knowledge(lambda s: len(self.usable(s))):
            if knows_something(stratum.rows("none", stratum.memory)):
                yield self.effect_in(stratum)

    def effect_in(self, stratum: Stratum) -> Effect:
        amounts = self.usable(stratum)
        found = kept(stratum, (r for a in amounts for r in self.needs(a)), stratum.memory)
        value = float(np.mean([self.of(found.at, stratum, a) for a in amounts]))
        draws = np.mean([self.of(found.draws, stratum, a) for a in amounts], axis=0)
        return effect(stratum, found, amounts, value, draws)

    def of(self, kept_by, stratum: Stratum, amount):
        """The effect at one amount, from retentions by recipe: numbers, or arrays of resamples."""
        raise NotImplementedError


def effect(stratum: Stratum, found: Kept, amounts, value: float, draws: np.ndarray) -> Effect:
    low, high = expanded_interval(draws, found.effective)
    return Effect(
        stratum.model, stratum.facts, stratum.origin, found.n, tuple(amounts), value, low, high, draws, found.effective
    )


class Recipes(Rule):
    """recipe: with `{amount}`."""

    recipe: str

    def needs(self, amount) -> tuple[str, ...]:
        return (filled(self.recipe, amount),)


def filled(recipe: str, amount) -> str:
    """A recipe with an amount in its place, in canonical form."""
    return canonical(recipe.replace("{amount}", f"{amount:g}"))
