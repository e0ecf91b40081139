"""The open-book twin of a question: the fact is stated first, so that answering takes reading instead of knowing.

A fact lost while its twin survives is forgotten; where both are lost the model is broken (Jin et al. 2024, arXiv
2310.04680, tell recall from in-context processing so). The statement uses another wording than the question where the
relation has one. Beside it stands a second statement, about another subject, whose answer is among the candidates:
without it, naming any answer that was just mentioned would do.
"""

from __future__ import annotations

import random
from dataclasses import replace

from kc_utils.probing.facts import Fact, FactSet
from kc_utils.probing.questions import Question, wordings


def twins(
    questions: list[Question], facts: FactSet, whole: FactSet, alternatives: int | str, seed: int
) -> list[Question]:
    """The same questions with two sentences before them, in an order drawn by seed and fact id.

    whole: the facts that the second statement is drawn from. A question whose wrong answers belong to no known fact has
    the true statement alone before it.
    """
    about: dict[tuple[str, str], list[Fact]] = {}
    for fact in whole.facts:
        for answer in fact.answers:
            about.setdefault((fact.relation, answer), []).append(fact)
    return [_twin(q, facts, about, alternatives, seed) for q in questions]


def _twin(question: Question, facts: FactSet, about, alternatives: int | str, seed: int) -> Question:
    fact = question.fact
    said = [_statement(facts, fact, fact.answers[0], question.template)]
    draw = random.Random(f"{seed}/{fact.id}/openbook")
    mine = {name.casefold() for name in (fact.subject, *fact.accepted)}
    for answer in facts.alternatives(fact, alternatives, seed):
        others = [o for o in about.get((fact.relation, answer), ()) if o.subject.casefold() not in mine]
        if others:
            said.append(_statement(facts, draw.choice(others), answer, question.template))
            break
    draw.shuffle(said)
    return replace(question, before=" ".join(said))


def _statement(facts: FactSet, fact: Fact, answer: str, asked: int) -> str:
    """The fact in the wording after the one that is asked, with an answer of its own and a full stop."""
    offered = wordings(facts, fact)
    number = (asked + 1) % len(offered)
    text = Question(fact, number, offered[number]).stated(answer).strip()
    return text if text.endswith(".") else f"{text}."
