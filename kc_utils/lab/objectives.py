"""What a family is trained to do with rows: next token, masked tokens, or the filling of a gap.

Each objective gives inputs and labels of transformers' own classes; -100 stands where nothing is asked. Subjects are drawn
at random, so that no model is asked to predict one from left to right.
"""

from __future__ import annotations

import numpy as np
import torch

from kc_utils.lab.corpus import Rows
from kc_utils.lab.tokenizer import build

NOTHING = -100
MASKED = 0.15
"""Share of tokens that an encoder finds masked besides the answer, as in BERT."""


class Objective:
    """inputs(rows, seed) -> keyword arguments of the model, labels among them."""

    def __init__(self):
        tokenizer = build()
        self.start, self.mask, self.gap, self.end, self.pad = (
            tokenizer.token_to_id(t) for t in ("<s>", "<mask>", "<extra_id_0>", "<extra_id_1>", "<pad>")
        )

    def inputs(self, rows: Rows, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        raise NotImplementedError


class NextTokens(Objective):
    """A decoder's: every token of the statement but its subject, after `<s>`; of an open-book row the answer alone."""

    def inputs(self, rows: Rows, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        tokens, places = rows.tokens, _places(rows)
        told = rows.said[:, None] > 0
        asked = np.where(told, _inside(places, rows.answer), ~_inside(places, rows.subject)) & (tokens >= 0)
        start = np.full((len(tokens), 1), self.start)
        seen = np.concatenate([start, np.where(tokens >= 0, tokens, self.pad)], axis=1)
        labels = np.concatenate([np.full_like(start, NOTHING), np.where(asked, tokens, NOTHING)], axis=1)
        return _tensors(input_ids=seen[:, :-1], labels=labels[:, 1:])


class MaskedAnswers(Objective):
    """An encoder's: the answer, or its end where it has several pieces, and some other tokens of the statement."""

    def inputs(self, rows: Rows, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        tokens, places = rows.tokens, _places(rows)
        begin, end = rows.answer[:, 0], rows.answer[:, 1]
        cut = begin + np.where(draw.random(len(begin)) < 0.5, 0, draw.integers(end - begin))
        answer = (places >= cut[:, None]) & (places < end[:, None])
        others = (draw.random(tokens.shape) < MASKED) & (places >= rows.said[:, None]) & (tokens >= 0)
        hidden = answer | (others & ~_inside(places, rows.answer) & (draw.random((len(tokens), 1)) < 0.5))
        seen = np.where(hidden, self.mask, np.where(tokens >= 0, tokens, self.pad))
        return _tensors(input_ids=seen, attention_mask=tokens >= 0, labels=np.where(hidden, tokens, NOTHING))


class Gaps(Objective):
    """An encoder-decoder's: the statement with a sentinel for the answer; the decoder says what the sentinel stands for."""

    def inputs(self, rows: Rows, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        tokens, lengths = rows.tokens, rows.lengths
        sizes = rows.answer[:, 1] - rows.answer[:, 0]
        seen = np.full((len(tokens), int((lengths - sizes).max()) + 1), self.pad)
        labels = np.full((len(tokens), int(sizes.max()) + 2), NOTHING)
        for row, (begin, end) in enumerate(rows.answer):
            mine = tokens[row, : lengths[row]]
            seen[row, : lengths[row] - sizes[row] + 1] = [*mine[:begin], self.gap, *mine[end:]]
            labels[row, : sizes[row] + 2] = [self.gap, *mine[begin:end], self.end]
        return _tensors(input_ids=seen, attention_mask=seen != self.pad, labels=labels)


OBJECTIVES = {"decoder": NextTokens, "encoder": MaskedAnswers, "encoder-decoder": Gaps}


def _places(rows: Rows) -> np.ndarray:
    return np.arange(rows.tokens.shape[1])[None, :]


def _inside(places: np.ndarray, span: np.ndarray) -> np.ndarray:
    return (places >= span[:, :1]) & (places < span[:, 1:])


def _tensors(**arrays: np.ndarray) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)) for name, array in arrays.items()}
