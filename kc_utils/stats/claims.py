"""Each claim of the ledger decided from rows: a verdict, an effect with its interval, of how many models and questions.

Verdicts:

    holds           the 95 % interval of the effect lies wholly on the side that the claim needs, and no model is clearly on the
                    other side
    does not hold   the interval lies wholly on the other side
    undecided       it holds both sides, or models clearly disagree
    no data         no rows at hand can decide it

The effect is the mean over strata (a model asked facts of one source), each counting alike. Its interval speaks of other facts
like these, drawn in each stratum on its own; the models are those that were measured. A claim that holds here is one that these
models do not contradict, not a law.

Models of language and those of the lab, which are many, small and alike, are decided apart: a mean over both would speak of the
lab. Claims are about models of language, whose verdict is that of the claim; where none of them has the rows, the lab's is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kc_utils.stats.bootstrap import expanded_interval
from kc_utils.stats.claim_rows import Evidence
from kc_utils.stats.claim_rules import Effect
from kc_utils.stats.ledger import Claim, Ledger
from kc_utils.stats.seeds import lab_parts
from kc_utils.errors import KCError

HOLDS, FAILS, UNDECIDED, NO_DATA = "holds", "does not hold", "undecided", "no data"
VERDICTS = (HOLDS, FAILS, UNDECIDED, NO_DATA)
LANGUAGE, LAB = "models of language", "the lab"


@dataclass(frozen=True)
class Part:
    """What one kind of models says about a claim. kind: LANGUAGE or LAB; effect, low, high: in the unit of the rule (fractions of
    knowledge, not per cent); clear_against: strata whose own interval lies on the other side."""

    kind: str
    verdict: Literal["holds", "does not hold", "undecided"]
    effect: float
    low: float
    high: float
    strata: tuple[Effect, ...]
    clear_against: int

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(s.model for s in self.strata))

    @property
    def n(self) -> int:
        """Questions of all strata."""
        return sum(s.n for s in self.strata)


@dataclass(frozen=True)
class Decision:
    """What rows say about a claim. parts: by kind of models, those of language first, none without data; trouble: why rows that
    are there could not be used, in a line."""

    claim: Claim
    parts: tuple[Part, ...]
    trouble: str = ""

    @property
    def main(self) -> Part | None:
        """The part that is the claim's verdict."""
        return self.parts[0] if self.parts else None

    @property
    def verdict(self) -> str:
        return self.main.verdict if self.main else NO_DATA

    @property
    def strata(self) -> list[Effect]:
        return [stratum for part in self.parts for stratum in part.strata]

    @property
    def origins(self) -> list[str]:
        return list(dict.fromkeys(s.origin for s in self.strata))


def decide_all(ledger: Ledger, evidence: Evidence) -> list[Decision]:
    return [decide(claim, evidence) for claim in ledger.claims]


def decide(claim: Claim, evidence: Evidence) -> Decision:
    """Decide one claim from all rows at hand. Strata without an interval count neither way and are left out."""
    strata, trouble = [], ""
    try:
        strata += (e for e in claim.decided_by.effects(evidence) if math.isfinite(e.effect) and math.isfinite(e.low))
    except KCError as error:  # rows that do not belong together: said on the page, which the other claims do without
        trouble = " ".join(str(error).split())
    return Decision(claim, tuple(_part(claim, kind, group) for kind, group in apart(strata)), trouble)


def apart(strata: Iterable[Effect]) -> list[tuple[str, list[Effect]]]:
    """Strata of models of language, then those of the lab; no kind that has none."""
    strata = list(strata)
    groups = ((kind, [s for s in strata if bool(lab_parts(s.model)) == (kind == LAB)]) for kind in (LANGUAGE, LAB))
    return [(kind, group) for kind, group in groups if group]


def _part(claim: Claim, kind: str, strata: list[Effect]) -> Part:
    rule = claim.decided_by
    effect, low, high = together(strata)
    against = [side(s.low, s.high, rule.threshold, rule.claims) for s in strata].count(FAILS)
    verdict = side(low, high, rule.threshold, rule.claims)
    return Part(kind, UNDECIDED if verdict == HOLDS and against else verdict, effect, low, high, tuple(strata), against)


def side(low: float, high: float, threshold: float, claims: str) -> str:
    """On which side of a threshold an interval lies, for a claim that needs it `above` or `below`."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return UNDECIDED
    above, below = low > threshold, high < threshold
    if claims == "below":
        above, below = below, above
    return HOLDS if above else FAILS if below else UNDECIDED


def together(strata: Iterable[Effect]) -> tuple[float, float, float]:
    """The mean effect of strata and its interval. Resamples of different strata are independent of each other; where a
    stratum has none, its interval is taken as that of a normal distribution."""
    strata = list(strata)
    if len(strata) == 1:
        return strata[0].effect, strata[0].low, strata[0].high
    draws = np.stack([_draws(s, number) for number, s in enumerate(strata)])
    low, high = expanded_interval(draws.mean(axis=0), sum(s.effective for s in strata))
    return float(np.mean([s.effect for s in strata])), low, high


def _draws(stratum: Effect, number: int) -> np.ndarray:
    rng = np.random.default_rng([7, number])
    if stratum.draws is None:
        return rng.normal(stratum.effect, (stratum.high - stratum.low) / (2 * 1.96), 2000)
    return rng.permutation(stratum.draws)  # the same seed in every stratum would tie them together
