"""Top-k cloze: does a right answer rank high among the whole vocabulary at the gap?

The protocol of LAMA (Petroni et al. 2019), whatever the family: the mask of an encoder, the sentinel of an
encoder-decoder, the next token of a decoder. A mask stands for one piece, so encoders are asked for answers of a single
piece, as in LAMA. The other two are looked at for the first token of an answer: a many-token answer is credited for its
beginning, and rows say which answers are one token long.

`openbook-cloze` is its twin: the same questions, with the fact stated first (`openbook.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from kc_utils.probing.questions import Question
from kc_utils.probing.reading import Query, Reading
from kc_utils.probing.wordings import Wording

TOP_K = (1, 5, 10)


class Cloze:
    """Collects one row per question. `queries` are what the model has to be read at; `take` consumes readings.

    Not asked: for encoders, what has no spelling of a single piece; and facts whose main answer begins with a token of
    white space alone (numbers, in many tokenizers) or the unknown token, which would be credited for nothing.
    """

    def __init__(self, questions: Iterable[Question], wording: Wording, tokenizer, name: str = "cloze"):
        self.name = name
        self._asked: dict[Query, list[tuple[Question, list[int], bool]]] = {}
        self.rows: list[dict] = []
        nothing = _says_nothing(tokenizer)
        for question in questions:
            main, *others = wording.fillers(question, question.fact.accepted)
            told = [f for f in (main, *others) if f and (wording.first_token_counts or len(f) == 1)]
            first = sorted({f[0] for f in told if not nothing(f[0])})
            if first and not (main and nothing(main[0])):
                self._asked.setdefault(wording.gap(question), []).append((question, first, len(main) == 1))

    @property
    def queries(self) -> list[Query]:
        return list(self._asked)

    def take(self, queries: list[Query], reading: Reading) -> None:
        """Score every question asked at one of these queries (one per row of the reading).

        The rank counts ties against the model; a distribution that is not a number ranks last.
        """
        asked = [(row, *question) for row, query in enumerate(queries) for question in self._asked.get(query, ())]
        if not asked:
            return
        rows = torch.tensor([row for row, *_ in asked])
        best = torch.stack([reading.logits[row, first].max() for row, _, first, _ in asked])
        logits = reading.logits[rows]
        at_least = (logits >= best[:, None]).sum(dim=1).tolist()
        predicted = logits.argmax(dim=1).tolist()
        for n, (_, _, first, _) in enumerate(asked):
            logits[n, first] = -math.inf
        wrong = logits.amax(dim=1).tolist()
        for n, (row, question, first, single) in enumerate(asked):
            valid = bool(reading.valid[row])
            own = int((reading.logits[row, first] >= best[n]).sum())
            rank = at_least[n] - own + 1 if valid else logits.shape[1]
            self.rows.append(
                {
                    "fact": question.fact.id,
                    "relation": question.fact.relation,
                    "popularity": question.fact.popularity,
                    "protocol": self.name,
                    "template": question.template,
                    "correct": rank <= 1,
                    "correct_at_5": rank <= 5,
                    "correct_at_10": rank <= 10,
                    "rank": rank,
                    "score": float(best[n] - reading.log_norm[row]) if valid else math.nan,
                    "margin": float(best[n]) - wrong[n] if valid else math.nan,
                    "predicted_token": predicted[n] if valid else -1,
                    "single_token": single,
                    "chance": len(first) / logits.shape[1],
                    "valid": valid,
                }
            )


def _says_nothing(tokenizer):
    """Whether a token is white space alone, or stands for what the vocabulary lacks."""
    known: dict[int, bool] = {}

    def check(token: int) -> bool:
        if token not in known:
            known[token] = token == tokenizer.unk_token_id or not tokenizer.decode([token]).strip()
        return known[token]

    return check
