"""From facts to questions: a statement with a gap `[Y]`, in the wordings that a relation or the fact itself has."""

from __future__ import annotations

from dataclasses import dataclass

from kc_utils.probing.facts import Fact, FactSet, fill


@dataclass(frozen=True)
class Question:
    """text: the statement, its subject filled in, `[Y]` where the answer belongs; template: which wording of the relation
    it is, counted from 0; before: what is said first (the open-book twin's sentences), or nothing."""

    fact: Fact
    template: int
    text: str
    before: str = ""

    @property
    def preamble(self) -> str:
        """What is said first, with the space that parts it from the statement."""
        return self.before if not self.before or self.before[-1].isspace() else f"{self.before} "

    @property
    def lead(self) -> str:
        """All that stands before the gap."""
        return self.preamble + self.text[: self.text.index("[Y]")]

    def spelled(self, answer: str) -> str:
        """An answer as it stands in the gap: a capital where it opens the sentence."""
        return answer[:1].upper() + answer[1:] if self.text.startswith("[Y]") else answer

    def filled(self, filler: str) -> str:
        """All that is said, with this very string (a mask, a sentinel) in the gap."""
        return self.preamble + self.text.replace("[Y]", filler)

    def stated(self, answer: str) -> str:
        """All that is said, with an answer in the gap."""
        return self.filled(self.spelled(answer))

    @property
    def ends_with_answer(self) -> bool:
        """Whether nothing but a full stop follows the gap, so that a decoder can say what fills it."""
        return self.text.rstrip(" .").endswith("[Y]")


def wordings(facts: FactSet, fact: Fact) -> list[str]:
    """Every wording of a fact, `[Y]` open: its own statement where it has one, else its relation's templates."""
    if fact.statement is not None:
        return [fact.statement]
    return [fill(template, fact.subject) for template in facts.relations[fact.relation].templates]


def ask_about(facts: FactSet, templates: int | str, left_to_right: bool = False) -> list[Question]:
    """The questions about every fact that some wording can ask.

    templates: how many wordings of each fact, the first ones, or "all"; left_to_right: only those that end with the
    answer, as a decoder that says one token needs them.
    """
    asked = []
    for fact in facts.facts:
        offered = [Question(fact, number, text) for number, text in enumerate(wordings(facts, fact))]
        if left_to_right:
            offered = [q for q in offered if q.ends_with_answer]
        asked += offered if templates == "all" else offered[: int(templates)]
    return asked
