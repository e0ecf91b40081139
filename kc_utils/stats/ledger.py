"""The ledger of claims as data: `book/claims.yaml`, read and checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kc_utils.stats.claim_rules import AnyRule
from kc_utils.errors import BadRequest, listed

KNOWN_FROM = {
    "code": "read in the authors' public code",
    "abstract": "read in the abstract",
    "read": "read in the work itself",
    "secondary": "as later works report it",
    "memory": "not checked against the source",
}
"""How it is known that the source says so."""


class Claim(BaseModel):
    """One claim. id: names its section; title: a few words; statement: what is claimed, so that it can be true or false;
    source: a key of `book/references.bib`; known_from: see KNOWN_FROM; decided_by: a rule of `claim_rules`; against: the id of a
    claim that says the contrary; note: what limits the comparison."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    statement: str
    source: str
    known_from: Literal["code", "abstract", "read", "secondary", "memory"]
    decided_by: AnyRule
    against: str | None = None
    note: str = ""

    @field_validator("id")
    @classmethod
    def _plain(cls, value):
        if not re.fullmatch(r"[a-z][a-z0-9-]*", value):
            raise ValueError("must be lower-case letters, digits and hyphens")
        return value


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
        which = _id_at(written, where)
        raise BadRequest(f"{file.name}, {which}{'.'.join(where)}: {first['msg']}") from error
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
