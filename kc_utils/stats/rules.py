"""The rules of the ledger: each turns what is kept of knowledge into one effect, and says on which side it must lie.

A rule is data in `book/claims.yaml`: its kind and its settings. A stratum (a model that answers facts of one source) is used
where it has every recipe of one amount at least, and where the uncompressed model knows more than chance.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from kc_utils.errors import KCError
from kc_utils.stats.bootstrap import mean_interval
from kc_utils.stats.compare import halves
from kc_utils.stats.evidence import DRAWN, Effect, Evidence, Kept, Stratum, bits_of_facts, kept
from kc_utils.stats.names import filled
from kc_utils.stats.perplexity import perplexity

MEASURES = {"bound": " %", "margin": " points", "least": " points", None: ""}  # of the line that a setting draws


class Rule(BaseModel):
    """amounts: values of `{amount}`. Class settings: unit and scale of the effect as it is shown; side of the line where it
    must lie; setting that is the line; text: the effect in words, filled with the settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    amounts: tuple[float | int, ...] = Field(min_length=1)
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
    def says(self) -> str:
        """The effect in words, and the side on which it must lie."""
        unit = MEASURES[self.setting] if self.scale == 100 else ""
        settings = {name: _written(getattr(self, name)) for name in type(self).model_fields if name != "kind"}
        return f"{self.text.format(**settings)}; the claim needs it {self.side} {self.scale * self.line:g}{unit}"

    def needs(self, amount) -> tuple[str, ...]:
        """The recipes that one amount takes beside the uncompressed model."""
        raise NotImplementedError

    def usable(self, stratum: Stratum) -> tuple[float, ...]:
        return tuple(a for a in self.amounts if set(self.needs(a)) <= stratum.recipes)

    def needed(self, stratum: Stratum) -> list[str]:
        """The recipes of all amounts that a stratum can be used for."""
        return [recipe for amount in self.usable(stratum) for recipe in self.needs(amount)]

    def effects(self, evidence: Evidence) -> Iterator[Effect]:
        """One effect for each stratum that has the rows."""
        for stratum in evidence.of_knowledge(lambda s: len(self.usable(s))):
            if stratum.knows(stratum.memory):
                yield self.effect_in(stratum)

    def effect_in(self, stratum: Stratum, amounts: tuple[float, ...] | None = None) -> Effect:
        """The mean of the effects at these amounts, by default at all that the stratum has."""
        amounts = amounts or self.usable(stratum)
        found = kept(stratum, self.needed(stratum), stratum.memory)
        each = lambda by, a: self.of(stratum, a, *(by[recipe] for recipe in self.needs(a)))  # noqa: E731
        at, draws = (np.mean([each(by, a) for a in amounts], axis=0) for by in (found.at, found.draws))
        return Effect.of(stratum, found.n, amounts, at, None, draws, found.effective)

    def less(self, stratum: Stratum, first: Kept, second: Kept, n: int) -> Effect:
        """What is kept of one set of answers less what is kept of another, the mean over amounts."""
        sides, needed = ((first.at, second.at), (first.draws, second.draws)), self.needed(stratum)
        value, draws = (np.mean([mine[r] - other[r] for r in needed], axis=0) for mine, other in sides)
        effective = min(first.effective, second.effective)
        return Effect.of(stratum, n, self.usable(stratum), value, None, draws, effective)

    def of(self, stratum: Stratum, amount, *kept_by):
        """The effect at one amount, from what is kept under the recipes that it needs: numbers, or arrays of resamples."""
        raise NotImplementedError


class OneRecipe(Rule):
    """recipe: with `{amount}`."""

    recipe: str

    def needs(self, amount):
        return (filled(self.recipe, amount),)


class KeptAtMost(OneRecipe):
    """bound: a share of the knowledge that the uncompressed model has above chance."""

    kind: Literal["kept at most"]
    bound: float = Field(gt=0, le=1)
    side: ClassVar = "below"
    setting: ClassVar = "bound"
    text: ClassVar = "the share of knowledge that is kept"

    def of(self, stratum, amount, own):
        return own


class KeptAtLeast(KeptAtMost):
    kind: Literal["kept at least"]
    side: ClassVar = "above"


class KeptLess(Rule):
    """worse: a recipe that is said to keep less than `better` does, than each of them where there are several."""

    kind: Literal["keeps less"]
    worse: str
    better: tuple[str, ...] = Field(min_length=1)
    text: ClassVar = "what {better} keeps (the least of several), less what {worse} keeps"

    def needs(self, amount):
        return tuple(filled(recipe, amount) for recipe in (self.worse, *self.better))

    def of(self, stratum, amount, worse, *better):
        return np.minimum.reduce(better) - worse


class LittleExtra(Rule):
    """second: a step after `first`; margin: knowledge that it may cost beyond what the first step costs."""

    kind: Literal["little extra cost"]
    first: str
    second: str
    margin: float = Field(gt=0, lt=1)
    side: ClassVar = "below"
    setting: ClassVar = "margin"
    text: ClassVar = "what {first} keeps, less what is kept when {second} follows"

    def needs(self, amount):
        return filled(self.first, amount), filled(f"{self.first}+{self.second}", amount)

    def of(self, stratum, amount, alone, both):
        return alone - both


class MorePerWeight(Rule):
    """recipe, against: pruning of two sets of matrices; compared by knowledge lost for each million weights set to zero."""

    kind: Literal["costs more per weight"]
    recipe: str
    against: str
    unit: ClassVar = "points of knowledge lost per million weights"
    text: ClassVar = "knowledge lost for each million weights that {recipe} sets to zero, less the same of {against}"

    def needs(self, amount):
        return filled(self.recipe, amount), filled(self.against, amount)

    def of(self, stratum, amount, own, other):
        mine, others = (stratum.report(recipe, "weights_removed") / 1e6 or math.nan for recipe in self.needs(amount))
        return (1 - own) / mine - (1 - other) / others


class TailKeptBetter(OneRecipe):
    """Facts in two halves by popularity, within each relation, each corrected for chance."""

    kind: Literal["tail kept better"]
    text: ClassVar = "what is kept of the less popular half of each relation's facts, less that of the popular half"

    def effects(self, evidence):
        for stratum in evidence.of_knowledge(lambda s: len(self.usable(s)) * s.has_popularity):
            half = halves(stratum.answers(stratum.memory).rows()).to_numpy()
            tail, head = (half == name for name in ("tail", "head"))
            if all(stratum.knows(stratum.memory, of) for of in (tail, head)):
                keep = partial(kept, stratum, self.needed(stratum), stratum.memory)
                first, second = (keep(of, n, 100 * n) for n, of in enumerate((tail, head)))
                yield self.less(stratum, first, second, first.n + second.n)


class ReadingSurvives(OneRecipe):
    """The same questions from memory and with the fact stated first."""

    kind: Literal["reading survives better"]
    text: ClassVar = "what is kept of answering when the fact is stated first, less what is kept from memory"

    def effects(self, evidence):
        protocols = ("openbook", "rank")
        for stratum in evidence.of_knowledge(lambda s: len(self.usable(s)) * (set(protocols) <= s.protocols)):
            twins = [stratum.answers(p).rows()[["fact", "template"]] for p in protocols]
            if twins[0].equals(twins[1]) and all(stratum.knows(p) for p in protocols):
                keep = partial(kept, stratum, self.needed(stratum))
                stated, memory = (keep(p, made_up=100 * n) for n, p in enumerate(protocols))
                yield self.less(stratum, stated, memory, memory.n)


class LostUnnoticed(OneRecipe):
    """flat: a perplexity up to so many times the uncompressed model's, with its whole interval, counts as flat; least: share of
    knowledge whose loss matters. The largest amount under which perplexity is flat is looked at."""

    kind: Literal["lost while perplexity is flat"]
    flat: float = Field(gt=1)
    least: float = Field(gt=0, lt=1)
    unit: ClassVar = "points of knowledge lost"
    setting: ClassVar = "least"
    text: ClassVar = (
        "the knowledge lost under the largest amount at which perplexity is surely at most {flat} times as high"
    )

    def effects(self, evidence):
        read = evidence.of_texts(lambda s: len(self.usable(s)))
        texts = {s.model: perplexity(s.rows).set_index("recipe") for s in read}
        for stratum in evidence.of_knowledge(lambda s: len(self.usable(s)) * (s.model in texts)):
            high = texts[stratum.model]["ratio_high"]
            flat = [a for a in self.usable(stratum) if high.get(self.needs(a)[0], math.inf) <= self.flat]
            if flat and stratum.knows(stratum.memory):
                yield self.effect_in(stratum, (max(flat),))

    def of(self, stratum, amount, own):
        return 1 - own


class AnswersTurn(OneRecipe):
    """within: accuracy that changes by no more counts as unchanged; least: share of answers that turn, one way or the other."""

    kind: Literal["answers turn while accuracy stays"]
    within: float = Field(gt=0, lt=1)
    least: float = Field(gt=0, lt=1)
    unit: ClassVar = "answers that turn, in points"
    setting: ClassVar = "least"
    text: ClassVar = "the share of answers that turn, right to wrong or back, where accuracy moves by at most {within}"

    def usable(self, stratum):
        there = super().usable(stratum) if stratum.memory else ()
        moved = {a: np.subtract(*self.pair(stratum, a).mean(axis=1)) for a in there}
        return tuple(a for a in there if abs(moved[a]) <= self.within)

    def pair(self, stratum: Stratum, amount) -> np.ndarray:
        """(2, n): right answers without compression and with it."""
        found = stratum.answers(stratum.memory)
        return found.right[[found.recipes["none"], found.recipes[self.needs(amount)[0]]]]

    def effect_in(self, stratum):
        amounts, facts = self.usable(stratum), stratum.answers(stratum.memory).facts
        turned = np.mean([before != after for before, after in (self.pair(stratum, a) for a in amounts)], axis=0)
        return Effect.of(stratum, len(turned), amounts, turned.mean(), mean_interval(turned, facts))


class BitsAtMost(OneRecipe):
    """bound: bits of knowledge for each parameter. Only models that hold more than that uncompressed can tell."""

    kind: Literal["bits at most"]
    bound: float = Field(gt=0)
    unit: ClassVar = "bits of knowledge a parameter"
    scale: ClassVar = 1
    side: ClassVar = "below"
    setting: ClassVar = "bound"
    text: ClassVar = "bits of knowledge a parameter, by likelihood, of models that hold more than {bound} uncompressed"

    def effects(self, evidence):
        drawn = lambda s: len(self.usable(s)) * (s.facts in DRAWN and "cloze" in s.protocols)  # noqa: E731
        for stratum in evidence.of_knowledge(drawn):
            parameters = stratum.report("none", "bytes_compressed") / 2  # counted at 16 bits each
            before, facts = bits_of_facts(stratum.answers("cloze").rows())
            if before.sum() / parameters > self.bound:
                amounts, answers = self.usable(stratum), stratum.answers("cloze")
                after = [bits_of_facts(answers.rows(*self.needs(a)))[0] for a in amounts]
                each = np.mean(after, axis=0) * len(before) / parameters
                yield Effect.of(stratum, len(each), amounts, each.mean(), mean_interval(each, facts))


def _written(value) -> str:
    several = value if isinstance(value, tuple) else (value,)
    return " or ".join(f"`{v}`" if isinstance(v, str) else f"{v:g}" for v in several)


ALL = (
    KeptAtMost, KeptAtLeast, KeptLess, LittleExtra, MorePerWeight, TailKeptBetter, ReadingSurvives, LostUnnoticed, AnswersTurn,
    BitsAtMost,
)  # fmt: skip
