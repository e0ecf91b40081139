"""Closed-set ranking for decoders: is the whole right answer likelier than every frozen wrong one?

The score of an answer is the sum of the log-probabilities of its tokens after the prompt. Chance is one in the number
of candidates. A tie, or a score that is not a number, is a failure: the right answer has to win outright.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from kc_utils.knowledge.causal import Reading
from kc_utils.knowledge.facts import FactSet
from kc_utils.knowledge.prompts import Prompt, continuations


class Rank:
    """Collects one row per prompt. Candidate 0 is the main right answer; the others are `facts.alternatives(...)`."""

    name = "rank"

    def __init__(self, prompts: Iterable[Prompt], tokenizer, facts: FactSet, alternatives: int, seed: int):
        self._prompts: list[tuple[Prompt, list[tuple[int, ...]]]] = []
        self._wanted: dict[tuple[int, ...], list[tuple[int, int, int]]] = {}
        for prompt in prompts:
            texts = (prompt.fact.answers[0], *facts.alternatives(prompt.fact, alternatives, seed))
            candidates = continuations(prompt, texts, tokenizer)
            number = len(self._prompts)
            self._prompts.append((prompt, candidates))
            for which, candidate in enumerate(candidates):
                for position, token in enumerate(candidate):
                    context = prompt.tokens + candidate[:position]
                    self._wanted.setdefault(context, []).append((number, which, token))
        self._scores = [[0.0] * len(candidates) for _, candidates in self._prompts]

    @property
    def contexts(self) -> list[tuple[int, ...]]:
        return list(self._wanted)

    def take(self, contexts: list[tuple[int, ...]], reading: Reading) -> None:
        """Add to the score of every candidate that passes through one of these contexts (one per row of the reading)."""
        for row, context in enumerate(contexts):
            wanted = self._wanted.get(context)
            if wanted:
                values = reading.logprob(row, [token for _, _, token in wanted])
                for (number, which, _), value in zip(wanted, values, strict=True):
                    self._scores[number][which] += value

    @property
    def rows(self) -> list[dict]:
        return [self._row(p, s) for (p, _), s in zip(self._prompts, self._scores, strict=True)]

    def _row(self, prompt: Prompt, scores: list[float]) -> dict:
        valid = all(math.isfinite(s) for s in scores)
        best_wrong = max(scores[1:]) if valid else math.nan
        winners = [i for i, s in enumerate(scores) if s == max(scores)] if valid else []
        return {
            "fact": prompt.fact.id,
            "relation": prompt.fact.relation,
            "popularity": prompt.fact.popularity,
            "protocol": self.name,
            "template": prompt.template,
            "correct": valid and scores[0] > best_wrong,
            "score": scores[0] if valid else math.nan,
            "margin": scores[0] - best_wrong,
            "chosen": winners[0] if len(winners) == 1 else -1,
            "scores": [float(s) for s in scores],
            "chance": 1 / len(scores),
            "valid": valid,
        }
