"""From facts to questions: a statement with a gap `[Y]`, in the wordings that a relation or the fact itself has."""

from __future__ import annotations

from dataclasses import dataclass

from kc_utils.knowledge.facts import Fact, FactSet, fill


@dataclass(frozen=True)
class Question:
    """text: the statement, its subject filled in, `[Y]` where the answer belongs; template: which wording of the relation
    it is, counted from 0; before: what is said first (the open-book twin's sentences), or nothing."""

    fact: Fact
    template: int
    text: str
    before: str = ""

    def stated(self, answer: str) -> str:
        """The statement with an answer in its gap, a capital where it opens the sentence."""
        text = self.text.replace("[Y]", answer)
        return text[:1].upper() + text[1:] if self.text.startswith("[Y]") else text

    @property
    def ends_with_answer(self) -> bool:
        """Whether nothing but a full stop follows the gap, so that a decoder can say what fills it."""
        return self.text.rstrip(" .").endswith("[Y]")


def wordings(facts: FactSet, fact: Fact) -> list[str]:
    """Every wording of a fact, `[Y]` open: its own statement where it has one, else its relation's templates."""
    if fact.statement is not None:
        return [fact.statement]
    return [fill(template, fact.subject) for template in facts.relations[fact.relation].templates]


def ask_about(facts: FactSet, templates: int | str, left_to_right: bool = False) -> tuple[list[Question], list[str]]:
    """The questions about every fact, and the ids of facts that no wording can ask.

    templates: how many wordings of each fact, the first ones, or "all"; left_to_right: only those that end with the
    answer, as a decoder that says one token needs them.
    """
    asked, left_out = [], []
    for fact in facts.facts:
        offered = [Question(fact, number, text) for number, text in enumerate(wordings(facts, fact))]
        if left_to_right:
            offered = [q for q in offered if q.ends_with_answer]
        if not offered:
            left_out.append(fact.id)
        asked += offered if templates == "all" else offered[: int(templates)]
    return asked, left_out
