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
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kc_utils.analysis.bootstrap import expanded_interval
from kc_utils.analysis.claim_rows import Evidence
from kc_utils.analysis.claim_rules import Effect
from kc_utils.analysis.ledger import Claim, Ledger
from kc_utils.errors import KCError

HOLDS, FAILS, UNDECIDED, NO_DATA = "holds", "does not hold", "undecided", "no data"
VERDICTS = (HOLDS, FAILS, UNDECIDED, NO_DATA)


@dataclass(frozen=True)
class Decision:
    """What rows say about a claim. effect, low, high: in the unit of the rule (fractions of knowledge, not per cent); NaN
    without data; n: questions of all strata; clear_against: strata whose own interval lies on the other side; trouble: why rows
    that are there could not be used, in a line."""

    claim: Claim
    verdict: Literal["holds", "does not hold", "undecided", "no data"]
    effect: float
    low: float
    high: float
    strata: tuple[Effect, ...]
    clear_against: int
    trouble: str = ""

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(s.model for s in self.strata))

    @property
    def n(self) -> int:
        return sum(s.n for s in self.strata)

    @property
    def origins(self) -> list[str]:
        return list(dict.fromkeys(s.origin for s in self.strata))


def decide_all(ledger: Ledger, evidence: Evidence) -> list[Decision]:
    return [decide(claim, evidence) for claim in ledger.claims]


def decide(claim: Claim, evidence: Evidence) -> Decision:
    """Decide one claim from all rows at hand. Strata without an interval count neither way and are left out."""
    rule, strata, trouble = claim.decided_by, [], ""
    try:
        strata += (e for e in rule.effects(evidence) if math.isfinite(e.effect) and math.isfinite(e.low))
    except KCError as error:  # rows that do not belong together: said on the page, which the other claims do without
        trouble = " ".join(str(error).split())
    if not strata:
        return Decision(claim, NO_DATA, math.nan, math.nan, math.nan, (), 0, trouble)
    effect, low, high = together(strata)
    sides = [side(s.low, s.high, rule.threshold, rule.claims) for s in strata]
    against = sides.count(FAILS)
    verdict = side(low, high, rule.threshold, rule.claims)
    if verdict == HOLDS and against:
        verdict = UNDECIDED
    return Decision(claim, verdict, effect, low, high, tuple(strata), against, trouble)


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
