"""What lab models are trained to do: their family's objective on rows of the corpus, and guided attention.

Objectives give inputs and labels of transformers' own classes; -100 stands where no token is predicted. Subjects are drawn
at random, so that no model is trained to predict one from left to right.

Guided attention: answering a query about one of several strangers takes two steps, each useless without the other: every
stated answer must take up whose it is, and the query must look for the one that is its own. Models of this size do not find
both in a short training: they name any of the stated answers. So, as alignments have been taught to translation models (Liu
et al. 2016, "Neural Machine Translation with Supervised Attention"), attention is trained beside the answers in the first
part of training, on open-book rows: in the first layer from an answer to its subject, in the last from the position of the
query to the stated answer, and in the decoder of an encoder-decoder from what it writes to the gap where that belongs. This
states nothing about any person of the world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kc_lab.corpus import Corpus, OpenBook, Rows
from kc_lab.tokenizer import SENTINELS, build
from kc_utils.probing.logits import only_at

NOTHING = -100
WHOLE = 0.25
"""Share of statements of which more is predicted than the answer."""
MASKED = 0.15
"""Share of their tokens that an encoder finds masked besides the answer, as in BERT."""
GUIDED = 0.7
"""Share of training in which attention is guided."""
WEIGHT = 0.2
"""Weight of the guidance beside the loss of answers."""
LEAST = 1e-6


class Objective:
    """inputs(rows, draw) -> keyword arguments of the model, labels among them. first: tokens that it puts before a row."""

    first = 0

    def __init__(self):
        tokenizer = build()
        self.start, self.mask, self.pad = (tokenizer.token_to_id(t) for t in ("<s>", "<mask>", "<pad>"))
        self.gaps = [tokenizer.token_to_id(token) for token in SENTINELS]

    def inputs(self, rows: Rows, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        raise NotImplementedError


class NextTokens(Objective):
    """A decoder's: the answer, and in some rows every token of the statement but its subject, after `<s>`. Of an open-book
    row the answers to its queries alone."""

    first = 1

    def inputs(self, rows: Rows, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        tokens, columns = rows.tokens, _columns(rows)
        whole = (draw.random((len(tokens), 1)) < WHOLE) & (rows.given[:, None] == 0)
        predicted = (_answers(rows) | (whole & ~_inside(columns, rows.subject))) & (tokens >= 0)
        start = np.full((len(tokens), 1), self.start)
        seen = np.concatenate([start, np.where(tokens >= 0, tokens, self.pad)], axis=1)
        labels = np.concatenate([np.full_like(start, NOTHING), np.where(predicted, tokens, NOTHING)], axis=1)
        return _tensors(input_ids=seen[:, :-1], labels=labels[:, 1:])


class MaskedAnswers(Objective):
    """An encoder's: the answer, or its end where it has several pieces, and in some rows other tokens of the statement but
    its subject. Of an open-book row the answers to its queries alone."""

    def inputs(self, rows: Rows, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        tokens, columns = rows.tokens, _columns(rows)
        begin, end = rows.answers[:, :, 0], rows.answers[:, :, 1]
        cut = begin + np.where(draw.random(begin.shape) < 0.5, 0, draw.integers(np.maximum(end - begin, 1)))
        answer = _any_inside(columns, np.stack([cut, end], axis=-1))
        whole = (draw.random((len(tokens), 1)) < WHOLE) & (rows.given[:, None] == 0)
        others = whole & (draw.random(tokens.shape) < MASKED) & (tokens >= 0) & ~_inside(columns, rows.subject)
        hidden = answer | (others & ~_answers(rows))
        seen = np.where(hidden, self.mask, np.where(tokens >= 0, tokens, self.pad))
        return _tensors(input_ids=seen, attention_mask=tokens >= 0, labels=np.where(hidden, tokens, NOTHING))


class Gaps(Objective):
    """An encoder-decoder's: the text with a sentinel for each answer; the decoder writes what each sentinel stands for."""

    def inputs(self, rows: Rows, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        pairs = [self._pair(mine[mine >= 0].tolist(), spans) for mine, spans in zip(rows.tokens, rows.answers, strict=True)]
        seen, labels = (_padded(side, fill) for side, fill in zip(zip(*pairs, strict=True), (self.pad, NOTHING), strict=True))
        return _tensors(input_ids=seen, attention_mask=seen != self.pad, labels=labels)

    def _pair(self, ids: list[int], spans: np.ndarray) -> tuple[list[int], list[int]]:
        seen, written, at = [], [], 0
        for number, (begin, end) in enumerate(spans[spans[:, 1] > 0].tolist()):
            seen += [*ids[at:begin], self.gaps[number]]
            written += [self.gaps[number], *ids[begin:end]]
            at = end
        return [*seen, *ids[at:]], [*written, self.gaps[len(spans[spans[:, 1] > 0])]]


OBJECTIVES = {"decoder": NextTokens, "encoder": MaskedAnswers, "encoder-decoder": Gaps}


@dataclass(frozen=True)
class Attention:
    """Attention of the first and the last layer that reads the row, [n, heads, width, width], and of the last cross-attention
    of an encoder-decoder, [n, heads, written, width], else None."""

    first: torch.Tensor
    last: torch.Tensor
    across: torch.Tensor | None = None


def guidance(attention: Attention, book: OpenBook, before: int) -> torch.Tensor:
    """Sum over the guided layers of the mean of -log of the attention, in nats, that lies where it should.

    before: columns that stand before the rows, 1 in a decoder, where the position of an answer is the token before it.
    """
    queried = book.rows.answers[:, :, 0]
    at = np.concatenate([book.stated + before, queried], axis=1)
    loss = _away(attention.first, at, book.whose + before) + _away(attention.last, queried, book.source + before)
    if attention.across is not None:
        gaps = np.arange(queried.shape[1])  # written: a start, then each gap's sentinel and its answer, of one token
        loss = loss + _away(attention.across, np.tile(1 + 2 * gaps, (len(queried), 1)), queried)
    return loss


def _away(attention: torch.Tensor, at: np.ndarray, attended: np.ndarray) -> torch.Tensor:
    row = torch.arange(len(at)).unsqueeze(1)
    return -torch.log(attention[row, :, torch.from_numpy(at), torch.from_numpy(attended)] + LEAST).mean()


def _padded(rows: list[list[int]], fill: int) -> np.ndarray:
    table = np.full((len(rows), max(map(len, rows))), fill)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def _columns(rows: Rows) -> np.ndarray:
    return np.arange(rows.tokens.shape[1])[None, :]


def _answers(rows: Rows) -> np.ndarray:
    return _any_inside(_columns(rows), rows.answers)


def _any_inside(columns: np.ndarray, spans: np.ndarray) -> np.ndarray:
    return ((columns[:, None] >= spans[:, :, :1]) & (columns[:, None] < spans[:, :, 1:])).any(axis=1)


def _inside(columns: np.ndarray, span: np.ndarray) -> np.ndarray:
    return (columns >= span[:, :1]) & (columns < span[:, 1:])


def _tensors(**arrays: np.ndarray) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)) for name, array in arrays.items()}


class Statements:
    """The course of a training on the made-up world.

    Its model is set to the attention that returns what it attends to.
    """

    def __init__(self, lesson, model: torch.nn.Module):
        model.set_attn_implementation("eager")
        self._corpus, self._objective, self._seed = Corpus(lesson.world, lesson.seed), OBJECTIVES[lesson.family](), lesson.seed
        self.steps, self._guided = self._corpus.steps, GUIDED * lesson.world.by_law

    def backward(self, model: torch.nn.Module, step: int, steps: int) -> float:
        """Add the gradients of a step of so many. Returns the mean loss of the answers in all kinds of rows."""
        draw, total = np.random.default_rng((self._seed, step)), 0.0
        facts, book = self._corpus.batch(step)
        groups = [*_by_length(facts), book.rows] if book else [facts]
        whole = sum(rows.answers.shape[1] * len(rows) for rows in groups)
        for rows in groups:
            inputs = {name: t.to(model.device) for name, t in self._objective.inputs(rows, draw).items()}
            guide = book is not None and rows is book.rows and step < self._guided * steps
            loss, attention = loss_and_attention(model, inputs, guide)
            loss = loss * (rows.answers.shape[1] * len(rows) / whole)
            total += float(loss.detach())
            if guide:
                loss = loss + WEIGHT * guidance(attention, book, self._objective.first)
            loss.backward()
        return total

    def described(self, model: torch.nn.Module) -> dict:
        """What is special to this training."""
        return {"guided": self._guided, "guidance": WEIGHT}


def mean_loss(model, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy in nats over the labels. Logits are computed at positions with a label alone."""
    return loss_and_attention(model, inputs, False)[0]


def loss_and_attention(model, inputs: dict[str, torch.Tensor], guide: bool):
    """`mean_loss`, and with `guide` the `Attention` behind it, else None."""
    inputs = dict(inputs)
    labels = inputs.pop("labels")
    rows, at = torch.nonzero(labels != NOTHING, as_tuple=True)
    body = model.base_model
    if model.config.is_encoder_decoder:
        body = model.get_decoder()
        if "decoder_input_ids" not in inputs:
            inputs["decoder_input_ids"] = model._shift_right(labels)
        if "encoder_mask" in inputs:  # of packed rows, whose encoder and decoder see different columns
            states = model.get_encoder()(inputs.pop("input_ids"), attention_mask=inputs.pop("encoder_mask"))
            inputs["encoder_outputs"] = (states[0],)
    if model.config.model_type != "bert":
        inputs["use_cache"] = False
    with only_at(body, lambda states: states[rows, at].unsqueeze(1)):
        output = model(**inputs, output_attentions=guide)
    loss = torch.nn.functional.cross_entropy(output.logits.squeeze(1).float(), labels[rows, at])
    if not guide:
        return loss, None
    if not model.config.is_encoder_decoder:
        return loss, Attention(output.attentions[0], output.attentions[-1])
    return loss, Attention(output.encoder_attentions[0], output.encoder_attentions[-1], output.cross_attentions[-1])


def _by_length(rows: Rows) -> tuple[Rows, Rows]:
    """The shorter and the longer half, so that little is padded."""
    order = np.argsort(rows.lengths, kind="stable")
    half = len(order) // 2
    return rows[order[:half]], rows[order[half:]]
