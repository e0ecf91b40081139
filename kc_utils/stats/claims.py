"""The ledger of claims: `book/claims.yaml`, read and checked, and the verdict of each claim.

The effect of a claim is the mean over strata of what its rule gives (`rules`), each counting alike, with a 95 % interval for
other facts like these in the models that were measured. Verdicts:

    holds           the interval lies wholly on the side that the claim needs, and no stratum is clearly on the other
    does not hold   the interval lies wholly on the other side, and no stratum is clearly on the side of the claim
    undecided       the interval holds both sides, or a stratum clearly disagrees
    no data         no rows at hand can decide it

Language models and lab models, which are many, small and alike, are decided apart: a mean over both would speak of the
lab. The verdict of a claim is that of language models; where none of them has the rows, that of lab models.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Union

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kc_utils.errors import BadRequest, KCError, listed
from kc_utils.stats import rules
from kc_utils.stats.evidence import Effect, Evidence, by_kind, together

HOLDS, FAILS, UNDECIDED, NO_DATA = "holds", "does not hold", "undecided", "no data"
VERDICTS = (HOLDS, FAILS, UNDECIDED, NO_DATA)
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
    """The verdict of one kind of models. kind: LANGUAGE or LAB; effect, low, high: in the unit of the rule (fractions of
    knowledge, not per cent); clear_against: strata whose own interval lies on the other side than the mean's."""

    kind: str
    verdict: str
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
        return sum(s.n for s in self.strata)


@dataclass(frozen=True)
class Decision:
    """A claim beside its rows. parts: by kind of models, language models first, none without data; trouble: why rows that are
    there could not be used, in a line."""

    claim: Claim
    parts: tuple[Part, ...]
    trouble: str = ""

    @property
    def main(self) -> Part | None:
        """The part that gives the verdict of the claim."""
        return self.parts[0] if self.parts else None

    @property
    def verdict(self) -> str:
        return self.main.verdict if self.main else NO_DATA

    @property
    def strata(self) -> list[Effect]:
        return [stratum for part in self.parts for stratum in part.strata]


def decide_all(ledger: Ledger, evidence: Evidence) -> list[Decision]:
    """Decide every claim from the same rows."""
    return [decide(claim, evidence) for claim in ledger.claims]


def decide(claim: Claim, evidence: Evidence) -> Decision:
    """Decide one claim from all rows at hand. Strata without an interval count neither way and are left out."""
    strata, trouble = [], ""
    try:
        strata += (e for e in claim.decided_by.effects(evidence) if math.isfinite(e.effect) and math.isfinite(e.low))
    except KCError as error:  # rows that do not belong together: the page says so, and other claims do without them
        trouble = " ".join(str(error).split())
    return Decision(claim, tuple(_part(claim.decided_by, kind, group) for kind, group in by_kind(strata)), trouble)


def _part(rule: rules.Rule, kind: str, strata: Sequence[Effect]) -> Part:
    effect, low, high = together(strata)
    mean, *sides = (side(a, b, rule.line, rule.side) for a, b in ((low, high), *((s.low, s.high) for s in strata)))
    against = sides.count(HOLDS if mean == FAILS else FAILS)
    return Part(kind, UNDECIDED if against else mean, effect, low, high, tuple(strata), against)


def side(low: float, high: float, line: float, needed: str) -> str:
    """Return on which side of a line an interval lies, for a claim that needs it `above` or `below`."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return UNDECIDED
    above, below = low > line, high < line
    if needed == "below":
        above, below = below, above
    return HOLDS if above else FAILS if below else UNDECIDED
