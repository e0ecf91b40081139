"""A probe: which facts are asked, and how. The part of a cell that says what is measured."""

from __future__ import annotations

import warnings
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator

from kc_utils.errors import BadRequest, listed
from kc_utils.knowledge.causal import NextToken
from kc_utils.knowledge.facts import FactSet
from kc_utils.knowledge.prompts import left_to_right_prompts
from kc_utils.knowledge.protocols.cloze import Cloze
from kc_utils.knowledge.protocols.rank import Rank
from kc_utils.knowledge.sources import load_source

PROTOCOLS = ("cloze", "rank")


class Probe(BaseModel):
    """What is asked of a model.

    facts         a source, e.g. `worldfacts`
    relations     only these, or all
    limit         a frozen sample of so many facts, spread evenly over relations; None for all
    seed          of the sample and of the wrong answers
    protocols     `cloze` (top-k) and/or `rank` (closed set)
    templates     how many left-to-right templates of each relation are asked, or "all"
    alternatives  wrong answers beside the right one in `rank`
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    facts: str = "worldfacts"
    relations: tuple[str, ...] | None = None
    limit: int | None = Field(default=None, ge=1)
    seed: int = 0
    protocols: tuple[Literal["cloze", "rank"], ...] = PROTOCOLS
    templates: int | Literal["all"] = 1
    alternatives: int = Field(default=9, ge=1, le=99)

    @field_validator("protocols")
    @classmethod
    def _some(cls, value):
        if not value:
            raise ValueError(f"name at least one of {', '.join(PROTOCOLS)}")
        return tuple(sorted(set(value)))

    @field_validator("relations")
    @classmethod
    def _named(cls, value):
        if value is not None and not value:
            raise ValueError("name at least one relation, or none at all for every one")
        return value

    @field_validator("templates")
    @classmethod
    def _positive(cls, value):
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1, or 'all'")
        return value

    def factset(self) -> FactSet:
        """The facts asked, frozen. Raises BadRequest for an unknown source or relation."""
        facts = load_source(self.facts)
        if self.relations is not None:
            facts = facts.only(self.relations)
        return facts.sample(self.limit, self.seed)


def check_family(family: str) -> None:
    """Raises BadRequest for a family that no protocol can read yet."""
    if family != "decoder":
        raise BadRequest(f"the protocols cloze and rank read decoders so far, not a model of family {family}")


def ask(
    model,
    tokenizer,
    family: str,
    probe: Probe,
    trees: bool | None = None,
) -> pd.DataFrame:
    """One row per fact, protocol and template: correct or not, scores, chance, validity.

    `trees` as in `NextToken`. Every prefix that facts, templates, protocols and candidates share is computed once.
    Warns where scores are not numbers or all equal; those rows count as wrong.
    Raises BadRequest where the protocols can ask none of the facts.
    """
    check_family(family)
    facts = probe.factset()
    prompts = left_to_right_prompts(facts, probe.templates, tokenizer)
    protocols = []
    if "cloze" in probe.protocols:
        protocols.append(Cloze(prompts, tokenizer))
    if "rank" in probe.protocols:
        protocols.append(Rank(prompts, tokenizer, facts, probe.alternatives, probe.seed))
    contexts = list(dict.fromkeys(c for protocol in protocols for c in protocol.contexts))
    for reading in NextToken(model, trees=trees).read(contexts):
        read = [contexts[index] for index in reading.contexts]
        for protocol in protocols:
            protocol.take(read, reading)
    rows = pd.DataFrame([row for protocol in protocols for row in protocol.rows])
    if rows.empty:
        raise BadRequest(
            f"{facts.name}: {listed(probe.protocols)} can ask none of these {len(facts)} facts (cloze leaves out answers that "
            "begin with a white-space token); name other relations or protocols"
        )
    invalid = int((~rows["valid"]).sum())
    if invalid:
        warnings.warn(
            f"{invalid} of {len(rows)} scores are not numbers, or the same for every token, and count as wrong answers",
            stacklevel=2,
        )
    return rows.sort_values(["protocol", "fact", "template"], kind="stable").reset_index(drop=True)
