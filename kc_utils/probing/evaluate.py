"""Evaluate a model on the facts of a probe: one row per fact, protocol and template."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd

from kc_utils.errors import BadRequest, listed
from kc_utils.probing.facts import FactSet
from kc_utils.probing.probe import CONTROL, TWINS, Probe, check_family
from kc_utils.probing.protocols import Cloze, Rank, collect, generate
from kc_utils.probing.queries import about_others, open_book, queries_of, with_shots
from kc_utils.probing.scorers import SCORERS, Scorer
from kc_utils.probing.sources import load_source

FACTS_AT_A_TIME = 256  # whose prefixes are shared and whose scores are held together


@dataclass(frozen=True)
class Evaluation:
    """rows: one per fact, protocol and template; left_out: of each protocol, how many facts it cannot score on this model;
    tokens_computed: tokens that went through the model's body (all protocols but generate)."""

    rows: pd.DataFrame
    left_out: dict[str, int]
    tokens_computed: int


def evaluate(model, tokenizer, family: str, probe: Probe, trees: bool | None = None) -> Evaluation:
    """Evaluate a model on the facts of a probe: correct or not, scores, chance, validity of every query.

    `trees` as in `NextToken`. What queries, protocols and candidates share is computed once, among facts that are
    evaluated together. Warns where scores are not numbers or all equal; those rows count as wrong.
    Raises BadRequest where the protocols suit none of the facts, BadModel for a tokenizer without the tokens they need.
    """
    check_family(family, probe)
    scorer = SCORERS[family](tokenizer)
    facts = probe.factset()
    if probe.candidates == "sets":
        facts = facts.in_sets(probe.alternatives + 1, probe.seed)
    rows: list[dict] = []
    predictor = scorer.predictor(model, trees)
    whole = load_source(probe.facts) if set(probe.protocols) & {*TWINS, CONTROL} else facts
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
    """The protocols for a part of the facts; shots are drawn from all `facts`, twins and other subjects from the `whole` source.
    Sets are for what is ranked."""
    found: list[Cloze | Rank] = []
    for name in ("cloze", "openbook-cloze", "rank", "openbook", CONTROL):
        if name in probe.protocols:
            kind = Cloze if name in ("cloze", "openbook-cloze") else Rank
            queries = queries_of(part, probe.templates, left_to_right=kind is Cloze and family == "decoder")
            drawn = probe.alternatives, probe.seed
            if name in TWINS:
                queries = open_book(queries, replace(part, sets=None) if kind is Cloze else part, whole, *drawn)
            else:
                queries = with_shots(queries, facts, probe.shots, probe.seed)
            if name == CONTROL:
                queries = about_others(queries, part, whole, *drawn)
            rest = (tokenizer,) if kind is Cloze else (part, *drawn)
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
