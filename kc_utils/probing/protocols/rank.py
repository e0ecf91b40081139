"""Closed-set ranking: is the statement likelier with the right answer in it than with every other one?

The protocol of BEAR (Wiland et al. 2024), the same for all families: the score of an answer is the (pseudo-)log-
likelihood of the statement that holds it, many-token answers included. Chance is one in the number of candidates. A tie,
or a score that is not a number, is a failure: the right answer has to win outright.

`openbook` is its twin: the same questions and candidates, with the fact stated first (`openbook.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from kc_utils.probing.facts import FactSet
from kc_utils.probing.questions import Question
from kc_utils.probing.reading import Query, Reading
from kc_utils.probing.wordings import Wording


class Rank:
    """Collects one row per question. Candidate 0 is the main right answer; the others are `facts.alternatives(...)`.

    Not asked: facts whose relation offers no wrong answer.
    """

    def __init__(
        self,
        questions: Iterable[Question],
        wording: Wording,
        facts: FactSet,
        alternatives: int | str,
        seed: int,
        name: str = "rank",
    ):
        self.name = name
        self._questions: list[Question] = []
        self._scores: list[list[float]] = []
        self._wanted: dict[Query, list[tuple[int, int, int]]] = {}
        for question in questions:
            others = facts.alternatives(question.fact, alternatives, seed)
            if not others:
                continue
            number = len(self._questions)
            terms = wording.terms(question, (question.fact.answers[0], *others))
            self._questions.append(question)
            self._scores.append([0.0] * len(terms))
            for which, parts in enumerate(terms):
                for query, token in parts:
                    self._wanted.setdefault(query, []).append((number, which, token))

    @property
    def queries(self) -> list[Query]:
        return list(self._wanted)

    def take(self, queries: list[Query], reading: Reading) -> None:
        """Add to the score of every candidate that has a term at one of these queries (one per row of the reading)."""
        for row, query in enumerate(queries):
            wanted = self._wanted.get(query)
            if wanted:
                values = reading.logprob(row, [token for _, _, token in wanted])
                for (number, which, _), value in zip(wanted, values, strict=True):
                    self._scores[number][which] += value

    @property
    def rows(self) -> list[dict]:
        return [self._row(q, s) for q, s in zip(self._questions, self._scores, strict=True)]

    def _row(self, question: Question, scores: list[float]) -> dict:
        valid = all(math.isfinite(s) for s in scores)
        best_wrong = max(scores[1:]) if valid else math.nan
        winners = [i for i, s in enumerate(scores) if s == max(scores)] if valid else []
        return {
            "fact": question.fact.id,
            "relation": question.fact.relation,
            "popularity": question.fact.popularity,
            "protocol": self.name,
            "template": question.template,
            "correct": valid and scores[0] > best_wrong,
            "score": scores[0] if valid else math.nan,
            "margin": scores[0] - best_wrong,
            "chosen": winners[0] if len(winners) == 1 else -1,
            "scores": [float(s) for s in scores],
            "chance": 1 / len(scores),
            "valid": valid,
        }
