"""Queries: a fact as a statement with a gap `[Y]`; solved examples (`with_shots`) or the fact itself (`open_book`) before it;
another subject in its place (`about_others`)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

from kc_utils.probing.facts import Fact, FactSet, fill

DRAW = 1000
"""More than any relation has templates."""


@dataclass(frozen=True)
class Query:
    """One fact in one prompt template.

    text      the statement, its subject filled in, `[Y]` in the position of the answer
    template  index of the relation's template, from 0; of the second query about another subject, DRAW is added
    before    sentences before the statement; empty for none
    """

    fact: Fact
    template: int
    text: str
    before: str = ""

    @property
    def preamble(self) -> str:
        """The sentences before the statement, with the space between."""
        return self.before if not self.before or self.before[-1].isspace() else f"{self.before} "

    @property
    def lead(self) -> str:
        """All text before the gap."""
        return self.preamble + self.text[: self.text.index("[Y]")]

    def spelled(self, answer: str) -> str:
        """The answer as it stands in the gap: with a capital where it opens the sentence."""
        return answer[:1].upper() + answer[1:] if self.text.startswith("[Y]") else answer

    def filled(self, filler: str) -> str:
        """The whole text, with this very string (a mask, a sentinel) in the gap."""
        return self.preamble + self.text.replace("[Y]", filler)

    def stated(self, answer: str) -> str:
        """The whole text, with an answer in the gap."""
        return self.filled(self.spelled(answer))

    @property
    def ends_with_answer(self) -> bool:
        """Whether nothing but a full stop follows the gap, so that a decoder can fill it."""
        return self.text.rstrip(" .").endswith("[Y]")


def statements(facts: FactSet, fact: Fact) -> list[str]:
    """Every statement of a fact, `[Y]` open: its own where it has one, else its relation's templates, filled."""
    if fact.statement is not None:
        return [fact.statement]
    return [fill(template, fact.subject) for template in facts.relations[fact.relation].templates]


def queries_of(facts: FactSet, templates: int | str, left_to_right: bool = False) -> list[Query]:
    """The queries of every fact, in its first `templates` templates or "all"; left_to_right: of those that end with the
    answer, as a decoder needs them that predicts one token."""
    found = []
    for fact in facts.facts:
        own = [Query(fact, number, text) for number, text in enumerate(statements(facts, fact))]
        if left_to_right:
            own = [query for query in own if query.ends_with_answer]
        found += own if templates == "all" else own[: int(templates)]
    return found


def with_shots(queries: list[Query], facts: FactSet, shots: int, seed: int) -> list[Query]:
    """The queries with `shots` true statements of the same relation and template before each, fewer where the relation has
    fewer facts that leave the answer open."""
    if not shots:
        return queries
    groups = facts.by_relation()
    found = []
    for query in queries:
        draw = random.Random(f"{seed}/{query.fact.id}/shots")
        group = groups[query.fact.relation]
        harmless = filter(_leaves_open(query.fact), draw.sample(group, len(group)))
        lines = []
        for fact in islice(harmless, shots):
            own = statements(facts, fact)
            lines.append(Query(fact, 0, own[query.template % len(own)]).stated(fact.answers[0]) + "\n")
        found.append(replace(query, before="".join(lines)))
    return found


def _leaves_open(fact: Fact) -> Callable[[Fact], bool]:
    """Whether a shot is about another subject than this fact, and names no right answer."""
    names = "|".join(re.escape(answer.casefold()) for answer in fact.accepted)
    gives_away = re.compile(rf"(?<!\w)(?:{names})(?!\w)")

    def check(shot: Fact) -> bool:
        text = "\n".join((shot.subject, shot.statement or "", *shot.accepted)).casefold()
        return shot.subject.casefold() != fact.subject.casefold() and not gives_away.search(text)

    return check


def open_book(queries: list[Query], facts: FactSet, whole: FactSet, alternatives: int | str, seed: int) -> list[Query]:
    """The open-book twins: the same queries with two sentences before them, in an order drawn by seed and fact id.

    One sentence states the fact, in another template than the query where the relation has one. The other is about another
    subject of `whole`, and its answer is among the candidates (none, if they belong to no fact): without it, any name just
    mentioned would do. A fact lost while its twin survives is forgotten; where both are lost the model is broken (Jin et al.
    2024, arXiv 2310.04680).
    """
    about: dict[tuple[str, str], list[Fact]] = {}
    for fact in whole.facts:
        for answer in fact.answers:
            about.setdefault((fact.relation, answer), []).append(fact)
    return [_twin(query, facts, about, alternatives, seed) for query in queries]


def _twin(query: Query, facts: FactSet, about, alternatives: int | str, seed: int) -> Query:
    fact = query.fact
    sentences = [_sentence(facts, fact, fact.answers[0], query.template)]
    draw = random.Random(f"{seed}/{fact.id}/openbook")
    mine = {name.casefold() for name in (fact.subject, *fact.accepted)}
    for answer in facts.alternatives(fact, alternatives, seed):
        others = about.get((fact.relation, answer), ()) if facts.sets is None else facts.sets[fact.id]
        others = [o for o in others if answer in o.answers and o.subject.casefold() not in mine]
        if others:
            sentences.append(_sentence(facts, draw.choice(others), answer, query.template))
            break
    draw.shuffle(sentences)
    return replace(query, before=" ".join(sentences))


def about_others(queries: list[Query], facts: FactSet, whole: FactSet, alternatives: int | str, seed: int) -> list[Query]:
    """The wrong-subject control: each query with another subject of `whole` in the place of its own, drawn by seed and fact id.

    None of the candidates is right for that subject, so that the right one wins by what the statement suggests without its
    subject. Two draws, the template of the second DRAW higher; fewer where the relation has fewer such subjects.
    """
    by_subject = {(f.relation, f.subject.casefold()): f for f in whole.facts}
    groups, found = replace(whole, facts=tuple(by_subject.values())).by_relation(), []
    for query in queries:
        fact, draw = query.fact, random.Random(f"{seed}/{query.fact.id}/other")
        own = fact.subject.casefold()
        offered = fact.not_wrong | {answer.casefold() for answer in facts.alternatives(fact, alternatives, seed)}
        group = draw.sample(groups[fact.relation], len(groups[fact.relation]))
        others = (o for o in group if offered.isdisjoint(o.not_wrong) and o.subject.casefold() != own)
        for number, other in enumerate(islice(others, 2)):
            texts = statements(facts, other)
            text, template = texts[query.template % len(texts)], query.template + number * DRAW
            found.append(replace(query, text=text, template=template))
    return found


def _sentence(facts: FactSet, fact: Fact, answer: str, template: int) -> str:
    """The fact in the template after this one, with an answer and a full stop."""
    own = statements(facts, fact)
    number = (template + 1) % len(own)
    text = Query(fact, number, own[number]).stated(answer).strip()
    return text if text.endswith(".") else f"{text}."
