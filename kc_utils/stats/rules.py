"""The kinds of rules of the ledger: each turns what is kept of knowledge into one effect (`rule` has what they share)."""

import math
from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kc_utils.stats.bootstrap import expanded_interval
from kc_utils.stats.compare import halves
from kc_utils.stats.evidence import DRAWN, Effect, Stratum, bits_of_facts, kept
from kc_utils.stats.names import filled
from kc_utils.stats.perplexity import perplexity
from kc_utils.stats.rule import OneRecipe, Rule


class KeptAtMost(OneRecipe):
    """bound: a share of the knowledge that the uncompressed model has above chance."""

    kind: Literal["kept at most"]
    bound: float = Field(gt=0, le=1)
    side: ClassVar = "below"
    setting: ClassVar = "bound"
    text: ClassVar = "the share of knowledge that is kept"

    def of(self, own):
        return own


class KeptAtLeast(KeptAtMost):
    kind: Literal["kept at least"]
    side: ClassVar = "above"


class KeptLess(Rule):
    """worse: a recipe that is said to keep less than `better` does, than each of them where there are several. Each is then
    compared by itself, over all models: the least of several noisy numbers lies below the least of the true ones."""

    kind: Literal["keeps less"]
    worse: str
    better: tuple[str, ...] = Field(min_length=1)
    text: ClassVar = "what {better} keeps (the least of several), less what {worse} keeps"

    def needs(self, amount):
        return tuple(filled(recipe, amount) for recipe in (self.worse, *self.better))

    def effects(self, evidence, protocol):
        for stratum in self.knowing(evidence, protocol):
            for n, rival in enumerate(self.better):
                alone = lambda worse, *better, n=n: better[n] - worse  # noqa: E731
                found = self.effect_in(stratum, protocol, self.usable(stratum, protocol), alone)
                yield replace(found, rival=rival) if len(self.better) > 1 else found


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

    def of(self, alone, both):
        return alone - both


class CostsMoreAtEqualWeights(Rule):
    """recipe, against: pruning of two sets of matrices, compared where both set equally many weights to zero. What `against`
    keeps there is read off straight lines between its own amounts, against_amounts and 0."""

    kind: Literal["costs more at equal weights"]
    recipe: str
    against: str
    against_amounts: tuple[float, ...] = Field(min_length=1)
    text: ClassVar = "at equal numbers of weights set to zero, what {against} keeps, less what {recipe} keeps"

    def needs(self, amount):
        return (filled(self.recipe, amount),)

    def usable(self, stratum, protocol):
        most = max((removed for _, removed in self.rivals(stratum)), default=0)
        return tuple(a for a in super().usable(stratum, protocol) if 0 < self.removed(stratum, a) <= most)

    def removed(self, stratum: Stratum, amount) -> float:
        return stratum.report(self.needs(amount)[0], "weights_removed")

    def rivals(self, stratum: Stratum) -> list[tuple[str, float]]:
        """The recipes of `against` that a stratum has, each with the weights that it removes, from few to many."""
        there = [r for r in (filled(self.against, a) for a in self.against_amounts) if r in stratum.recipes]
        return sorted(((r, stratum.report(r, "weights_removed")) for r in there), key=lambda pair: pair[1])

    def effect_in(self, stratum, protocol, amounts):
        own, rivals = self.needed(amounts), self.rivals(stratum)
        found = kept(stratum, [*own, *(r for r, _ in rivals)], protocol)
        points = [0.0, *(removed for _, removed in rivals)]
        shares = [[np.interp(self.removed(stratum, a), points, unit) for unit in np.eye(len(points))] for a in amounts]

        def mean(kept_by):
            whole = np.ones_like(kept_by[own[0]])
            theirs = np.tensordot(shares, [whole, *(kept_by[r] for r, _ in rivals)], axes=1)
            return np.mean(theirs - [kept_by[r] for r in own], axis=0)

        return Effect.of(stratum, found.n, amounts, mean(found.at), mean(found.draws), found.effective)


class TailKeptBetter(OneRecipe):
    """Facts in two halves by popularity, within each relation, each corrected for chance."""

    kind: Literal["tail kept better"]
    text: ClassVar = "what is kept of the less popular half of each relation's facts, less that of the popular half"

    def effects(self, evidence, protocol):
        for stratum in self.strata(evidence, protocol, lambda s: s.has_popularity):
            half, amounts = halves(stratum.answers(protocol).rows()).to_numpy(), self.usable(stratum, protocol)
            tail, head = (half == name for name in ("tail", "head"))
            if all(stratum.knows(protocol, of) for of in (tail, head)):
                keep = partial(kept, stratum, self.needed(amounts), protocol)
                first, second = (keep(of, n, 100 * n) for n, of in enumerate((tail, head)))
                yield self.less(stratum, amounts, first, second, first.n + second.n)


class ReadingSurvives(OneRecipe):
    """The same questions from memory and with the fact stated first, at amounts that cost knowledge: where nothing is lost,
    nothing can survive it. Each half of the facts chooses the amounts for the other, since an amount that is chosen because
    it seems to cost much seems so by its noise, too."""

    kind: Literal["reading survives better"]
    protocols: ClassVar = ("rank",)
    text: ClassVar = "where memory lost, what is kept of answers to the fact stated first, less what is kept from memory"

    def effects(self, evidence, protocol):
        twins = (protocol, "openbook")
        for stratum in self.strata(evidence, protocol, lambda s: set(twins) <= s.protocols.keys()):
            queried = [stratum.answers(p).rows()[["fact", "template"]] for p in twins]
            if queried[0].equals(queried[1]) and all(stratum.knows(p) for p in twins):
                parts = [part for half in (0, 1) if (part := self.in_half(stratum, twins, half))]
                if parts:
                    effect, draws = (np.mean([getattr(p, name) for p in parts], axis=0) for name in ("effect", "draws"))
                    n, effective = (sum(getattr(p, name) for p in parts) for name in ("n", "effective"))
                    amounts = sorted({a for p in parts for a in p.amounts})
                    yield Effect.of(stratum, n, amounts, effect, draws, effective)

    def in_half(self, stratum, twins, half):
        """The effect in one half of the facts, at the amounts at which memory loses in the other; None without any."""
        mine = stratum.answers(twins[0]).facts % 2 == half
        amounts = self.usable(stratum, twins[0])
        found = kept(stratum, self.needed(amounts), twins[0], ~mine)
        high = {r: expanded_interval(d, found.effective)[1] for r, d in found.draws.items()}
        if amounts := [a for a in amounts if high[self.needs(a)[0]] < 1]:
            memory, stated = (kept(stratum, self.needed(amounts), p, mine, half, 100 * n) for n, p in enumerate(twins))
            return self.less(stratum, amounts, stated, memory, memory.n)
        return None


class LostUnnoticed(OneRecipe):
    """flat: a perplexity up to so many times the uncompressed model's, with its whole interval, counts as flat; lost: share of
    knowledge whose loss matters. The largest amount under which perplexity is flat is looked at."""

    kind: Literal["lost while perplexity is flat"]
    flat: float = Field(gt=1)
    lost: float = Field(gt=0, lt=1)
    unit: ClassVar = "points of knowledge lost"
    setting: ClassVar = "lost"
    text: ClassVar = "the knowledge lost under the largest amount at which perplexity is surely at most {flat} times as high"

    def effects(self, evidence, protocol):
        read = evidence.of_texts(lambda s: len(self.usable(s, "perplexity")))
        texts = {s.model: perplexity(s.rows).set_index("recipe") for s in read}
        for stratum in self.strata(evidence, protocol, lambda s: s.model in texts):
            high = texts[stratum.model]["ratio_high"]
            flat = [a for a in self.usable(stratum, protocol) if high.get(self.needs(a)[0], math.inf) <= self.flat]
            if flat and stratum.knows(protocol):
                yield self.effect_in(stratum, protocol, (max(flat),))

    def of(self, own):
        return 1 - own


class AnswersTurn(OneRecipe):
    """within: accuracy that changes by no more counts as unchanged; least_turned: share of answers that turn, one way or the
    other, beyond what guesses would turn that are made anew."""

    kind: Literal["answers turn while accuracy stays"]
    within: float = Field(gt=0, lt=1)
    least_turned: float = Field(gt=0, lt=1)
    unit: ClassVar = "answers that turn beyond guessing, in points"
    setting: ClassVar = "least_turned"
    text: ClassVar = (
        "the share of answers that turn, right to wrong or back, where accuracy moves by at most {within}, less the share that "
        "would turn if every answer that is not known were guessed anew"
    )

    def usable(self, stratum, protocol):
        moved = lambda a: np.subtract(*self.pair(stratum, protocol, a).mean(axis=1))  # noqa: E731
        return tuple(a for a in super().usable(stratum, protocol) if abs(moved(a)) <= self.within)

    def pair(self, stratum: Stratum, protocol: str, amount) -> np.ndarray:
        """(2, n): right answers without compression and with it."""
        found = stratum.answers(protocol)
        return found.right[[found.recipes["none"], found.recipes[self.needs(amount)[0]]]]

    def effect_in(self, stratum, protocol, amounts):
        found = stratum.answers(protocol)
        # each wrong answer stands for 1 / (1 - chance) guesses, of which 2 chance (1 - chance) turn when made anew
        pairs = [self.pair(stratum, protocol, a) for a in amounts]
        beyond = np.mean([(before != after) - 2 * found.chance * ~after for before, after in pairs], axis=0)
        return Effect.of_mean(stratum, amounts, beyond, found.facts)


class BitsAtMost(OneRecipe):
    """bound: bits of knowledge for each parameter. Only models that hold more than that uncompressed can tell."""

    kind: Literal["bits at most"]
    bound: float = Field(gt=0)
    protocols: ClassVar = ("cloze",)
    unit: ClassVar = "bits of knowledge a parameter"
    scale: ClassVar = 1
    side: ClassVar = "below"
    setting: ClassVar = "bound"
    text: ClassVar = "bits of knowledge a parameter, by likelihood, of models that hold more than {bound} uncompressed"

    def effects(self, evidence, protocol):
        for stratum in self.strata(evidence, protocol, lambda s: s.facts in DRAWN):
            parameters = stratum.report("none", "bytes_compressed") / 2  # counted at 16 bits each
            answers, amounts = stratum.answers(protocol), self.usable(stratum, protocol)
            before, facts = bits_of_facts(answers.rows())
            if before.sum() / parameters > self.bound:
                after = [bits_of_facts(answers.rows(*self.needs(a)))[0] for a in amounts]
                yield Effect.of_mean(stratum, amounts, np.mean(after, axis=0) * len(before) / parameters, facts)


ALL = (
    KeptAtMost, KeptAtLeast, KeptLess, LittleExtra, CostsMoreAtEqualWeights, TailKeptBetter, ReadingSurvives, LostUnnoticed,
    AnswersTurn, BitsAtMost,
)  # fmt: skip
