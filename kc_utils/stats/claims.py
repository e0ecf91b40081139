"""The ledger of claims: `book/claims.yaml`, read and checked, and the verdict of each claim.

The effect of a claim is the mean over models of what its rule gives (`rules`), each model the mean of its sources, with a 95 %
interval (`evidence.together`). A protocol is for a claim where the interval lies wholly on the side that the claim needs and the
effect is at least the smallest that matters, against it where the interval excludes such an effect. A source or model that
clearly disagrees vetoes it. Where a recipe is compared with each of several, the weakest comparison counts. Verdicts:

    holds                 every protocol that decides is for it, in at least MODELS models
    does not hold         every protocol that decides is against it, in as many
    consistent            as `holds`, in fewer models, which are named
    speaks against it     as `does not hold`, in fewer models
    depends on the query  one protocol is for it, another against it
    undecided             no protocol decides, or one is vetoed, whatever the other shows
    no data               no rows at hand can decide it

Language models and lab models, which are many, small and alike, are decided apart: a mean over both would speak of the
lab. The verdict of a claim is that of language models; where none of them has the rows, that of lab models.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Union

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kc_utils.errors import BadRequest, KCError, listed
from kc_utils.stats import rules
from kc_utils.stats.decision import MODELS
from kc_utils.stats.evidence import LAB, LANGUAGE, Effect, Evidence, by_kind, together
from kc_utils.stats.rule import Rule

HOLDS, FAILS, CONSISTENT, CONTRARY = "holds", "does not hold", "consistent", "speaks against it"
DEPENDS, UNDECIDED, NO_DATA = "depends on the query", "undecided", "no data"
VERDICTS = (HOLDS, FAILS, CONSISTENT, CONTRARY, DEPENDS, UNDECIDED, NO_DATA)
FOR, AGAINST = "for", "against"
KNOWN_FROM = {
    "code": "read in the authors' public code",
    "abstract": "read in the abstract",
    "read": "read in the work itself",
    "secondary": "as later works report it",
    "memory": "not checked against the source",
}
"""How it is known that the source says so."""

AnyRule = Annotated[Union[rules.ALL], Field(discriminator="kind")]  # noqa: UP007


class Claim(BaseModel):
    """One claim. id: names its section; title: a few words; statement: what is claimed, so that it can be true or false;
    source: a key of `book/references.bib`; known_from: see KNOWN_FROM; decided_by: one of `rules`; against: the id of a claim
    that says the contrary; note: what limits the comparison."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    title: str
    statement: str
    source: str
    known_from: Literal[tuple(KNOWN_FROM)]
    decided_by: AnyRule
    against: str | None = None
    note: str = ""


class Ledger(BaseModel):
    """claims: in the order in which they are shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    claims: tuple[Claim, ...] = Field(min_length=1)


def read_ledger(file: Path) -> Ledger:
    """Read and check the ledger. Raises BadRequest, naming claim and key, for what it cannot hold: unknown keys and rules,
    recipes that do not parse, an id twice, an id that `against` names and nobody has."""
    try:
        written = yaml.safe_load(file.read_text(encoding="utf-8"))
        ledger = Ledger.model_validate(written)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file.name} cannot be read ({' '.join(str(error).split())[:200]})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"]]
        raise BadRequest(f"{file.name}, {_id_at(written, where)}{'.'.join(where)}: {first['msg']}") from error
    ids = [claim.id for claim in ledger.claims]
    if twice := sorted({i for i in ids if ids.count(i) > 1}):
        raise BadRequest(f"{file.name}: {listed(twice)} is there twice")
    if strange := sorted({c.against for c in ledger.claims if c.against} - set(ids)):
        raise BadRequest(f"{file.name}: no claim has the id {listed(strange)} that another is said to contradict")
    return ledger


def _id_at(written, where: list[str]) -> str:
    try:
        return f"claim {written['claims'][int(where[1])]['id']!r}, "
    except (KeyError, IndexError, TypeError, ValueError):
        return ""


@dataclass(frozen=True)
class Part:
    """What one protocol shows in one kind of models. kind: LANGUAGE or LAB; side: FOR, AGAINST or UNDECIDED; effect, low, high:
    in the unit of the rule (fractions of knowledge, not per cent); disagree: vetoes, of strata clearly on another side."""

    kind: str
    protocol: str
    side: str
    effect: float
    low: float
    high: float
    strata: tuple[Effect, ...]
    disagree: int

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(s.model for s in self.strata))

    @property
    def rival(self) -> str:
        return self.strata[0].rival

    @property
    def n(self) -> int:
        return sum(s.n for s in self.strata)


@dataclass(frozen=True)
class Decision:
    """A claim beside its rows. parts: by kind of models and protocol, none without data; trouble: why rows that are there could
    not be used, in a line."""

    claim: Claim
    parts: tuple[Part, ...]
    trouble: str = ""

    def of(self, kind: str) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.kind == kind)

    @property
    def main(self) -> str:
        """The kind of models that gives the verdict of the claim."""
        return LANGUAGE if self.of(LANGUAGE) or not self.parts else LAB

    @property
    def verdict(self) -> str:
        return self.verdict_in(self.main)

    def verdict_in(self, kind: str) -> str:
        """The verdict of one kind of models."""
        parts = self.of(kind)
        decided = [part for part in parts if part.side != UNDECIDED]
        sides = {part.side for part in decided}
        if len(sides) != 1 or any(part.disagree for part in parts):
            return DEPENDS if len(sides) > 1 else UNDECIDED if parts else NO_DATA
        enough = min(len(part.models) for part in decided) >= MODELS
        return {FOR: (CONSISTENT, HOLDS), AGAINST: (CONTRARY, FAILS)}[sides.pop()][enough]


def decide_all(ledger: Ledger, evidence: Evidence) -> list[Decision]:
    """Decide every claim from the same rows."""
    return [decide(claim, evidence) for claim in ledger.claims]


def decide(claim: Claim, evidence: Evidence) -> Decision:
    """Decide one claim from all rows at hand."""
    parts, trouble = [], ""
    try:
        for part in parts_of(claim.decided_by, evidence):
            parts.append(part)
    except KCError as error:  # rows that do not belong together: the page says so, and other claims do without them
        trouble = " ".join(str(error).split())
    return Decision(claim, tuple(parts), trouble)


def parts_of(rule: Rule, evidence: Evidence) -> Iterator[Part]:
    """Yield what a rule's rows show, by protocol and kind of models. Strata without an interval are left out."""
    for protocol in rule.protocols:
        fine = (e for e in rule.effects(evidence, protocol) if math.isfinite(e.effect) and math.isfinite(e.low))
        for kind, group in by_kind(fine):
            yield weakest(rule, kind, protocol, group)


def weakest(rule: Rule, kind: str, protocol: str, strata: Sequence[Effect]) -> Part:
    """Put strata together by rival, where a claim is about each of several: the part that is the least in favour decides."""
    parts = [part_of(rule, kind, protocol, [s for s in strata if s.rival == r]) for r in dict.fromkeys(s.rival for s in strata)]
    return min(parts, key=lambda p: ((AGAINST, UNDECIDED, FOR).index(p.side), distances(rule, p.effect, p.low, p.high)))


def part_of(rule: Rule, kind: str, protocol: str, strata: Sequence[Effect]) -> Part:
    """Put the strata of one kind of models and one protocol together."""
    mean = together(strata)
    side, beyond = side_of(rule, *mean), [distances(rule, s.effect, s.low, s.high) for s in strata]
    short = sum(high < 0 for _, _, high in beyond)
    past = sum(low > 0 and middle >= rule.least for middle, low, _ in beyond)
    disagree = {FOR: short, AGAINST: past}.get(side, min(short, past))
    return Part(kind, protocol, UNDECIDED if disagree else side, *mean, tuple(strata), disagree)


def side_of(rule: Rule, effect: float, low: float, high: float) -> str:
    """Return whether an effect with its interval is for a rule's claim, against it, or decides nothing.

    For it: the whole interval lies beyond the line, the effect by at least the smallest distance that matters. Against it: the
    whole interval lies short of that distance.
    """
    middle, low, high = distances(rule, effect, low, high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return UNDECIDED
    return FOR if low > 0 and middle >= rule.least else AGAINST if high < rule.least else UNDECIDED


def distances(rule: Rule, effect: float, low: float, high: float) -> tuple[float, float, float]:
    """Return how far an effect and the ends of its interval, the lower first, lie from a rule's line, above 0 in favour."""
    sign = 1 if rule.side == "above" else -1
    return sign * (effect - rule.line), *sorted((sign * (low - rule.line), sign * (high - rule.line)))
