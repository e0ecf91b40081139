"""A probe: the facts, tasks or text that a model is evaluated on, and how. `evaluate` gives its rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from kc_utils import lab
from kc_utils.errors import BadRequest, listed
from kc_utils.probing.facts import FactSet
from kc_utils.probing.protocols import Cloze, Rank, collect, generate
from kc_utils.probing.queries import open_book, queries_of, with_shots
from kc_utils.probing.scorers import SCORERS, Scorer
from kc_utils.probing.sources import load_source

PROTOCOLS = ("cloze", "rank", "openbook", "openbook-cloze", "generate")
TWINS = ("openbook", "openbook-cloze")
FACTS_AT_A_TIME = 256  # whose prefixes are shared and whose scores are held together


class Probe(BaseModel):
    """What a model is evaluated on, and how.

    facts          a source, e.g. `worldfacts`
    relations      only these, or all
    limit          a frozen sample of so many facts, spread evenly over relations; None for all
    seed           of the sample, the wrong answers, and all else that is drawn
    protocols      any of `cloze` (top-k), `rank` (closed set), `generate`, and with the fact stated first `openbook` (the
                   twin of `rank`) and `openbook-cloze` (that of `cloze`)
    templates      how many prompt templates of each fact, the first ones, or "all"
    alternatives   wrong answers beside the right one in `rank` and `openbook`, or "all" of the answer space
    shots          true statements of the same relation before a query of `cloze`, `rank` or `generate`
    tasks          tasks of the LM Evaluation Harness, such as `boolq`; facts may then be None
    task_limit     a frozen sample of so many items of each task; None for all
    text           a text whose perplexity is measured: `wikitext2`, or a file; facts may then be None
    text_tokens    how many of its tokens, from the beginning; None for all
    relearn_steps  after the evaluation, a copy of the model is trained so many steps on facts that it gets wrong, beside
                   as many of strangers; None for no training
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    facts: str | None = "worldfacts"
    relations: tuple[str, ...] | None = Field(default=None, min_length=1)
    limit: int | None = Field(default=None, ge=1)
    seed: int = 0
    protocols: tuple[Literal["cloze", "rank", "openbook", "openbook-cloze", "generate"], ...] = Field(
        default=("cloze", "rank"), min_length=1
    )
    templates: PositiveInt | Literal["all"] = 1
    alternatives: PositiveInt | Literal["all"] = 9
    shots: int = Field(default=0, ge=0, le=16)
    tasks: tuple[str, ...] = ()
    task_limit: int | None = Field(default=None, ge=1)
    text: str | None = None
    text_tokens: int | None = Field(default=None, ge=2)
    relearn_steps: int | None = Field(default=None, ge=1, le=1000)

    @model_validator(mode="after")
    def _has_items(self):
        if self.facts is None and not self.tasks and self.text is None:
            raise ValueError("name facts, tasks or a text: there is nothing to evaluate")
        if self.relearn_steps is not None and self.facts is None:
            raise ValueError("relearn_steps needs facts: there is nothing to learn again")
        return self

    @field_validator("protocols")
    @classmethod
    def _in_order(cls, value):
        return tuple(sorted(set(value)))

    @property
    def instruments(self) -> tuple[str, ...]:
        """The modules that measure all but the facts. Each has `measure(model, tokenizer, family, probe, trees, recipe)` for
        rows, `fingerprint(probe)`, a hash of the items, and `check_family(family)`."""
        found = ("kc_utils.probing.harness.evaluate",) if self.tasks else ()
        found += ("kc_utils.probing.perplexity",) if self.text is not None else ()
        return found + ((lab.relearning(),) if self.relearn_steps is not None else ())

    def factset(self) -> FactSet:
        """The facts of this probe, frozen; none where `facts` is None. Raises BadRequest for an unknown source or relation."""
        if self.facts is None:
            return FactSet("no facts", {}, ())
        facts = load_source(self.facts)
        if self.relations is not None:
            facts = facts.only(self.relations)
        return facts.sample(self.limit, self.seed)


@dataclass(frozen=True)
class Evaluation:
    """rows: one per fact, protocol and template; left_out: of each protocol, how many facts it cannot score on this model;
    tokens_computed: tokens that went through the model's body (all protocols but generate)."""

    rows: pd.DataFrame
    left_out: dict[str, int]
    tokens_computed: int


def check_family(family: str, probe: Probe) -> None:
    """Raise BadRequest for a protocol that the family does not support."""
    for name in probe.instruments:
        import_module(name).check_family(family)
    if probe.facts is not None and family == "encoder" and "generate" in probe.protocols:
        raise BadRequest("an encoder does not generate text: leave protocol generate out, or choose another model")


def evaluate(model, tokenizer, family: str, probe: Probe, trees: bool | None = None) -> Evaluation:
    """Evaluate a model on the facts of a probe: correct or not, scores, chance, validity of every query.

    `trees` as in `NextToken`. What queries, protocols and candidates share is computed once, among facts that are
    evaluated together. Warns where scores are not numbers or all equal; those rows count as wrong.
    Raises BadRequest where the protocols suit none of the facts, BadModel for a tokenizer without the tokens they need.
    """
    check_family(family, probe)
    scorer = SCORERS[family](tokenizer)
    facts = probe.factset()
    rows: list[dict] = []
    predictor = scorer.predictor(model, trees)
    whole = load_source(probe.facts) if set(probe.protocols) & set(TWINS) else facts
    for part in _parts(facts):
        protocols = _protocols(part, facts, whole, probe, scorer, family, tokenizer)
        collect(predictor, protocols)
        rows += [row for protocol in protocols for row in protocol.rows]
    if "generate" in probe.protocols:
        queries = queries_of(facts, probe.templates, left_to_right=family == "decoder")
        rows += generate(model, tokenizer, with_shots(queries, facts, probe.shots, probe.seed), scorer)
    frame = _checked(rows, probe, facts)
    scored = frame.groupby("protocol")["fact"].nunique()
    left_out = {name: len(facts) - int(scored.get(name, 0)) for name in probe.protocols}
    return Evaluation(frame, left_out, predictor.tokens_computed)


def _parts(facts: FactSet) -> Iterator[FactSet]:
    """The facts in parts that are evaluated together, a relation's side by side."""
    ordered = [fact for group in facts.by_relation().values() for fact in group]
    for start in range(0, len(ordered), FACTS_AT_A_TIME):
        yield replace(facts, facts=tuple(ordered[start : start + FACTS_AT_A_TIME]))


def _protocols(part: FactSet, facts: FactSet, whole: FactSet, probe: Probe, scorer: Scorer, family: str, tokenizer):
    """The protocols for a part of the facts; shots are drawn from all `facts`, twins from the `whole` source."""
    found: list[Cloze | Rank] = []
    for name in ("cloze", "openbook-cloze", "rank", "openbook"):
        if name in probe.protocols:
            kind = Cloze if name in ("cloze", "openbook-cloze") else Rank
            queries = queries_of(part, probe.templates, left_to_right=kind is Cloze and family == "decoder")
            if name in TWINS:
                queries = open_book(queries, part, whole, probe.alternatives, probe.seed)
            else:
                queries = with_shots(queries, facts, probe.shots, probe.seed)
            rest = (tokenizer,) if kind is Cloze else (part, probe.alternatives, probe.seed)
            found.append(kind(queries, scorer, *rest, name=name))
    return found


def _checked(rows: list[dict], probe: Probe, facts: FactSet) -> pd.DataFrame:
    if not rows:
        raise BadRequest(
            f"{facts.name}: {listed(probe.protocols)} suits none of these {len(facts)} facts on this model (cloze needs "
            "answers of one piece, for encoders, that do not begin with white space); name other relations or protocols"
        )
    frame = pd.DataFrame(rows)
    invalid = int((~frame["valid"]).sum())
    if invalid:
        warnings.warn(
            f"{invalid} of {len(frame)} scores are not numbers, or the same for every token, and count as wrong answers",
            stacklevel=3,
        )
    return frame.sort_values(["protocol", "fact", "template"], kind="stable").reset_index(drop=True)
