"""What every rule of the ledger is made of: settings, the recipes that they need, and the effect in each stratum.

A rule is data in `book/claims.yaml`: its kind and its settings. It is applied to each protocol by itself. A stratum (a model
that answers facts of one source) is used where it has every recipe of the amounts that are compared (`Rule.strata`), and where
the uncompressed model knows more than chance. The kinds are in `rules`.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from kc_utils.errors import KCError
from kc_utils.stats.decision import LEAST, PROTOCOLS
from kc_utils.stats.evidence import Effect, Evidence, Kept, Stratum, by_kind, kept
from kc_utils.stats.names import filled

MEASURES = {"bound": " %", None: ""}  # of the line that a setting draws; points of any other


class Rule(BaseModel):
    """amounts: values of `{amount}`. Class settings: protocols that can decide; unit and scale of the effect as it is shown;
    side of the line where it must lie; setting that is the line; text: the effect in words, filled with the settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    amounts: tuple[float | int, ...] = Field(min_length=1)
    protocols: ClassVar[tuple[str, ...]] = PROTOCOLS
    unit: ClassVar[str] = "points of knowledge kept"
    scale: ClassVar[float] = 100
    side: ClassVar[Literal["above", "below"]] = "above"
    setting: ClassVar[str | None] = None
    text: ClassVar[str]

    @model_validator(mode="after")
    def _recipes_parse(self):
        try:
            for amount in self.amounts:
                self.needs(amount)
        except KCError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def line(self) -> float:
        """The effect that the claim must pass."""
        return getattr(self, self.setting) if self.setting else 0.0

    @property
    def least(self) -> float:
        """The smallest distance from the line that matters: a claim without a setting of its own needs LEAST."""
        return 0.0 if self.setting else LEAST

    @property
    def says(self) -> str:
        """The effect in words, and the side on which it must lie."""
        unit = MEASURES.get(self.setting, " points") if self.scale == 100 else ""
        settings = {name: _written(getattr(self, name)) for name in type(self).model_fields if name != "kind"}
        least = f" by {self.scale * self.least:g} points at least" if self.least else ""
        return f"{self.text.format(**settings)}; the claim needs it {self.side} {self.scale * self.line:g}{unit}{least}"

    def needs(self, amount) -> tuple[str, ...]:
        """The recipes that one amount takes beside the uncompressed model."""
        raise NotImplementedError

    def usable(self, stratum: Stratum, protocol: str) -> tuple[float, ...]:
        return tuple(a for a in self.amounts if set(self.needs(a)) <= stratum.recipes)

    def needed(self, amounts) -> list[str]:
        """The recipes of some amounts."""
        return [recipe for amount in amounts for recipe in self.needs(amount)]

    def strata(self, evidence: Evidence, protocol: str, fit: Callable[[Stratum], bool] = lambda s: True) -> Iterator[Stratum]:
        """Yield the strata that fit and have the rows, all of a kind of models at the same amounts: those that half of them
        have. What else a stratum has of the rule's amounts is left out of it; one that lacks any of these is left out."""
        found = evidence.of_knowledge(protocol, lambda s: len(self.usable(s, protocol)) * fit(s))
        for _, group in by_kind(found):
            has = {a: [s.recipes.issuperset(self.needs(a)) for s in group] for a in self.amounts}
            shared, other = (self.needed(a for a in has if (2 * sum(has[a]) >= len(group)) is half) for half in (True, False))
            fine = (replace(s, recipes=s.recipes - set(other)) for s in group if s.recipes.issuperset(shared))
            yield from (stratum for stratum in fine if self.usable(stratum, protocol))

    def knowing(self, evidence: Evidence, protocol: str) -> list[Stratum]:
        """The strata that have the rows, and whose uncompressed model knows more than chance."""
        return [stratum for stratum in self.strata(evidence, protocol) if stratum.knows(protocol)]

    def effects(self, evidence: Evidence, protocol: str) -> Iterator[Effect]:
        """One effect for each stratum that has the rows."""
        for stratum in self.knowing(evidence, protocol):
            yield self.effect_in(stratum, protocol, self.usable(stratum, protocol))

    def effect_in(self, stratum: Stratum, protocol: str, amounts: tuple[float, ...], of: Callable | None = None) -> Effect:
        """The mean of the effects at these amounts. of: instead of the rule's own."""
        found = kept(stratum, self.needed(amounts), protocol)
        each = lambda by, a: (of or self.of)(*(by[recipe] for recipe in self.needs(a)))  # noqa: E731
        at, draws = (np.mean([each(by, a) for a in amounts], axis=0) for by in (found.at, found.draws))
        return Effect.of(stratum, found.n, amounts, at, draws, found.effective)

    def less(self, stratum: Stratum, amounts, first: Kept, second: Kept, n: int) -> Effect:
        """What is kept of one set of answers less what is kept of another, the mean over amounts."""
        sides, needed = ((first.at, second.at), (first.draws, second.draws)), self.needed(amounts)
        value, draws = (np.mean([mine[r] - other[r] for r in needed], axis=0) for mine, other in sides)
        return Effect.of(stratum, n, amounts, value, draws, min(first.effective, second.effective))

    def of(self, *kept_by):
        """The effect at one amount, from what is kept under the recipes that it needs: numbers, or arrays of resamples."""
        raise NotImplementedError


class OneRecipe(Rule):
    """recipe: with `{amount}`."""

    recipe: str

    def needs(self, amount):
        return (filled(self.recipe, amount),)


def _written(value) -> str:
    several = value if isinstance(value, tuple) else (value,)
    return " or ".join(f"`{v}`" if isinstance(v, str) else f"{v:g}" for v in several)
