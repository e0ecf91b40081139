"""What a family is trained to do with rows: next token, masked tokens, or the filling of a gap.

Each objective gives inputs and labels of transformers' own classes; -100 stands where nothing is asked. Subjects are drawn
at random, so that no model is asked to predict one from left to right.
"""

from __future__ import annotations

import numpy as np
import torch

from kc_lab.corpus import Rows
from kc_lab.tokenizer import SENTINELS, build

NOTHING = -100
WHOLE = 0.25
"""Share of statements of which more is asked than the answer."""
MASKED = 0.15
"""Share of their tokens that an encoder finds masked besides the answer, as in BERT."""


class Objective:
    """inputs(rows, seed) -> keyword arguments of the model, labels among them. first: tokens that it puts before a row."""

    first = 0

    def __init__(self):
        tokenizer = build()
        self.start, self.mask, self.pad = (tokenizer.token_to_id(t) for t in ("<s>", "<mask>", "<pad>"))
        self.gaps = [tokenizer.token_to_id(token) for token in SENTINELS]

    def inputs(self, rows: Rows, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        raise NotImplementedError


class NextTokens(Objective):
    """A decoder's: the answer, and in some rows every token of the statement but its subject, after `<s>`. In an open-book
    row the answers to its questions alone."""

    first = 1

    def inputs(self, rows: Rows, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        tokens, places = rows.tokens, _places(rows)
        whole = (draw.random((len(tokens), 1)) < WHOLE) & (rows.said[:, None] == 0)
        asked = (_answers(rows) | (whole & ~_inside(places, rows.subject))) & (tokens >= 0)
        start = np.full((len(tokens), 1), self.start)
        seen = np.concatenate([start, np.where(tokens >= 0, tokens, self.pad)], axis=1)
        labels = np.concatenate([np.full_like(start, NOTHING), np.where(asked, tokens, NOTHING)], axis=1)
        return _tensors(input_ids=seen[:, :-1], labels=labels[:, 1:])


class MaskedAnswers(Objective):
    """An encoder's: the answer, or its end where it has several pieces, and in some rows other tokens of the statement but
    its subject. Of an open-book row the answers to its questions alone."""

    def inputs(self, rows: Rows, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        tokens, places = rows.tokens, _places(rows)
        begin, end = rows.answers[:, :, 0], rows.answers[:, :, 1]
        cut = begin + np.where(draw.random(begin.shape) < 0.5, 0, draw.integers(np.maximum(end - begin, 1)))
        answer = _any_inside(places, np.stack([cut, end], axis=-1))
        whole = (draw.random((len(tokens), 1)) < WHOLE) & (rows.said[:, None] == 0)
        others = whole & (draw.random(tokens.shape) < MASKED) & (tokens >= 0) & ~_inside(places, rows.subject)
        hidden = answer | (others & ~_answers(rows))
        seen = np.where(hidden, self.mask, np.where(tokens >= 0, tokens, self.pad))
        return _tensors(input_ids=seen, attention_mask=tokens >= 0, labels=np.where(hidden, tokens, NOTHING))


class Gaps(Objective):
    """An encoder-decoder's: the text with a sentinel for each answer; the decoder says what each sentinel stands for."""

    def inputs(self, rows: Rows, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        pairs = [
            self._pair(mine[mine >= 0].tolist(), spans) for mine, spans in zip(rows.tokens, rows.answers, strict=True)
        ]
        seen, labels = (
            _padded(side, fill) for side, fill in zip(zip(*pairs, strict=True), (self.pad, NOTHING), strict=True)
        )
        return _tensors(input_ids=seen, attention_mask=seen != self.pad, labels=labels)

    def _pair(self, ids: list[int], spans: np.ndarray) -> tuple[list[int], list[int]]:
        seen, said, at = [], [], 0
        for number, (begin, end) in enumerate(spans[spans[:, 1] > 0].tolist()):
            seen += [*ids[at:begin], self.gaps[number]]
            said += [self.gaps[number], *ids[begin:end]]
            at = end
        return [*seen, *ids[at:]], [*said, self.gaps[len(spans[spans[:, 1] > 0])]]


def _padded(rows: list[list[int]], fill: int) -> np.ndarray:
    table = np.full((len(rows), max(map(len, rows))), fill)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


OBJECTIVES = {"decoder": NextTokens, "encoder": MaskedAnswers, "encoder-decoder": Gaps}


def _places(rows: Rows) -> np.ndarray:
    return np.arange(rows.tokens.shape[1])[None, :]


def _answers(rows: Rows) -> np.ndarray:
    return _any_inside(_places(rows), rows.answers)


def _any_inside(places: np.ndarray, spans: np.ndarray) -> np.ndarray:
    return ((places[:, None] >= spans[:, :, :1]) & (places[:, None] < spans[:, :, 1:])).any(axis=1)


def _inside(places: np.ndarray, span: np.ndarray) -> np.ndarray:
    return (places >= span[:, :1]) & (places < span[:, 1:])


def _tensors(**arrays: np.ndarray) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)) for name, array in arrays.items()}
