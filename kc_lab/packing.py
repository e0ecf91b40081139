"""What a model of real sentences reads: rows of one length without padding, and the three ordinary objectives on them.

A row holds whole sentences and statements, drawn anew for every pass over them; what is left of it is filled with the next
words of ordinary language, so that no token of a row is wasted and no sentence is cut. A text is seen by itself: attention
stays within it, by a mask, and an encoder counts positions from its beginning, as when it is queried alone.

A decoder predicts every next token. What an encoder finds masked and an encoder-decoder missing is drawn at random, and in some
of the texts the answer is among it: salient span masking, as in Guu et al. 2020 (REALM) and Roberts et al. 2020 ("How much
knowledge can you pack into the parameters of a language model?"), without which one token in so many would be the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from kc_lab import wikipedia
from kc_lab.objectives import NOTHING, mean_loss

LENGTH = 128
"""Tokens of a row."""
ROWS = {"decoder": 16, "encoder": 4, "encoder-decoder": 4}
"""Rows of a step, by family: those that predict few of their tokens take more and smaller steps."""
PASSES = 40
"""How often each sentence is read, and one statement of each fact of kind `both`."""
MASKED = 0.2
"""Share of tokens that an encoder finds masked, and an encoder-decoder missing."""
SALIENT = 0.5
"""Share of texts in which the answer is masked or missing in any case."""
SPAN = (1, 2, 3)
"""Tokens of a missing span, each length equally likely."""

Texts = list[np.ndarray]
"""Each [2, n]: tokens, and whether each belongs to an answer."""


@dataclass(frozen=True)
class Rows:
    """Rows of one length.

    tokens    [rows, LENGTH]
    salient   [rows, LENGTH] whether a token belongs to an answer
    document  [rows, LENGTH] counted from 0 within each row
    """

    tokens: np.ndarray
    salient: np.ndarray
    document: np.ndarray

    def __getitem__(self, which) -> Rows:
        return Rows(self.tokens[which].astype(np.int64), self.salient[which], self.document[which].astype(np.int64))


class Packed:
    """All rows of a training, in the order in which they are read, so many (`each`) in a step."""

    def __init__(self, sentences: Texts, statements: list[Texts], passages: Texts, seed: int, passes: int, rows: int):
        whole = _endless(passages, seed)
        tokens, document = [], []
        for turn in range(passes):
            draw = np.random.default_rng((seed, turn))
            texts = [*sentences, *(mine[draw.integers(len(mine))] for mine in statements)]
            for row in _filled((texts[n] for n in draw.permutation(len(texts))), whole):
                tokens.append(np.concatenate(row, axis=1))
                document.append(np.repeat(np.arange(len(row)), [text.shape[1] for text in row]))
        tokens = np.array(tokens, dtype=np.int16)
        self.rows = Rows(tokens[:, 0], tokens[:, 1].astype(bool), np.array(document, dtype=np.int16))
        self.each = rows

    @property
    def steps(self) -> int:
        return -(-len(self.rows.tokens) // self.each)

    def batch(self, step: int) -> Rows:
        """The rows of a step."""
        return self.rows[step * self.each : (step + 1) * self.each]


def _endless(passages: Texts, seed: int):
    """A function that gives the next so many tokens of the passages, in an order drawn once, begun again at their end."""
    order = np.random.default_rng(seed).permutation(len(passages))
    stream, at = np.concatenate([passages[n] for n in order], axis=1), 0

    def some(count: int) -> np.ndarray:
        nonlocal at
        found = stream.take(range(at, at + count), axis=1, mode="wrap")
        at = (at + count) % stream.shape[1]
        return found

    return some


def _filled(texts, some) -> Iterator[Texts]:
    """Rows of whole texts, filled with `some` words to LENGTH tokens."""
    row, left = [], LENGTH
    for text in texts:
        if text.shape[1] > left:
            yield [*row, some(left)] if left else row
            row, left = [], LENGTH
        row, left = [*row, text], left - text.shape[1]
    if row:
        yield [*row, some(left)] if left else row


def packed(
    family: str, seed: int, share: float = wikipedia.SHARE, passes: int = PASSES, relations: tuple[str, ...] | None = None
) -> Packed:
    """The rows of a family: a decoder's texts begin with `<s>`. relations: of facts of these alone."""
    tokenizer, read = wikipedia.build(), wikipedia.documents(share, relations)
    start = [tokenizer.token_to_id("<s>")] if family == "decoder" else []

    def encoded(texts: Iterable[wikipedia.Text], first: list[int] = start) -> Texts:
        for text, answers in texts:
            ids = np.array(first + tokenizer.encode(text).ids, dtype=np.int16)
            yield np.stack([ids, np.isin(ids, [tokenizer.token_to_id(answer) for answer in answers])])

    statements = [list(encoded(texts)) for texts in read.statements]
    passages = list(encoded(((passage, ()) for passage in read.passages), []))
    return Packed(list(encoded(read.sentences)), statements, passages, seed, passes, ROWS[family])


def next_tokens(rows: Rows, draw) -> dict[str, torch.Tensor]:
    """A decoder's: every token of a text but its first."""
    labels = np.full_like(rows.tokens, NOTHING)
    labels[:, :-1] = np.where(rows.document[:, 1:] == rows.document[:, :-1], rows.tokens[:, 1:], NOTHING)
    seen = _same(rows.document, rows.document) & np.tri(labels.shape[1], dtype=bool)
    return _tensors(input_ids=rows.tokens, attention_mask=seen[:, None], labels=labels)


def masked_tokens(rows: Rows, draw: np.random.Generator) -> dict[str, torch.Tensor]:
    """An encoder's: tokens masked at random, and in some texts the answer."""
    hidden = (draw.random(rows.tokens.shape) < MASKED) | _salient(rows, draw)
    mask = wikipedia.build().token_to_id("<mask>")
    return _tensors(
        input_ids=np.where(hidden, mask, rows.tokens), attention_mask=_same(rows.document, rows.document)[:, None],
        position_ids=positions(rows.document), labels=np.where(hidden, rows.tokens, NOTHING),
    )  # fmt: skip


def missing_spans(rows: Rows, draw: np.random.Generator) -> dict[str, torch.Tensor]:
    """An encoder-decoder's: in each text, spans that a sentinel stands for; the decoder writes what each stands for."""
    pad, *gaps = map(wikipedia.build().token_to_id, ("<pad>", *wikipedia.SENTINELS))
    whole = zip(rows.tokens, _hidden(rows, draw), rows.document, strict=True)
    sides = zip(zip(*(_corrupted(*row, gaps) for row in whole), strict=True), (pad, -1, NOTHING, -2), strict=True)
    seen, seen_in, written, written_in = (_padded(side, fill) for side, fill in sides)
    begun = np.concatenate([np.full((len(written), 1), pad), written[:, :-1]], axis=1)
    begun[(positions(written_in) == 0) | (begun == NOTHING)] = pad
    causal = np.tri(written.shape[1], dtype=bool)
    return _tensors(
        input_ids=seen, encoder_mask=_same(seen_in, seen_in)[:, None], attention_mask=_same(written_in, seen_in)[:, None],
        decoder_input_ids=begun, decoder_attention_mask=(_same(written_in, written_in) & causal)[:, None], labels=written,
    )  # fmt: skip


def _salient(rows: Rows, draw: np.random.Generator) -> np.ndarray:
    """[rows, length] the answers that are hidden in any case."""
    chosen = draw.random((len(rows.tokens), rows.document.max() + 1)) < SALIENT
    return rows.salient & np.take_along_axis(chosen, rows.document, axis=1)


def _hidden(rows: Rows, draw: np.random.Generator) -> np.ndarray:
    """[rows, length] the tokens of missing spans, which are of SPAN tokens, and answers by themselves."""
    answers = _salient(rows, draw)
    length = np.where(draw.random(rows.tokens.shape) < MASKED / np.mean(SPAN), draw.choice(SPAN, rows.tokens.shape), 0)
    hidden, left, same = answers.copy(), np.zeros(len(length), dtype=int), positions(rows.document) > 0
    for column in range(length.shape[1]):
        left = np.maximum(np.where(same[:, column], left - 1, 0), length[:, column])
        hidden[:, column] |= left > 0
    beside = np.zeros_like(answers)
    beside[:, 1:] |= answers[:, :-1]
    beside[:, :-1] |= answers[:, 1:]
    return hidden & (answers | ~beside)


def _corrupted(tokens, hidden, document, gaps: list[int]) -> tuple[list[int], ...]:
    """Of a row: what the encoder sees, the document of each token, what the decoder writes, the document of each token."""
    seen, seen_in, written, written_in = [], [], [], []
    for number in range(document[-1] + 1):
        free, inside = iter(gaps), False
        for token, gone in zip(tokens[document == number], hidden[document == number], strict=True):
            if gone and not inside:
                gap = next(free)
                seen.append(gap)
                written.append(gap)
            (written if gone else seen).append(token)
            inside = gone
        written.append(next(free))
        seen_in += [number] * (len(seen) - len(seen_in))
        written_in += [number] * (len(written) - len(written_in))
    return seen, seen_in, written, written_in


OBJECTIVES = {"decoder": next_tokens, "encoder": masked_tokens, "encoder-decoder": missing_spans}


class Sentences:
    """The course of a training on real sentences, computed in 16 bits where weights, sums and the loss are not."""

    def __init__(self, lesson, model: torch.nn.Module):
        self.packed, self._objective, self._seed = packed(lesson.family, lesson.seed), OBJECTIVES[lesson.family], lesson.seed
        self.steps = self.packed.steps

    def backward(self, model: torch.nn.Module, step: int, steps: int) -> float:
        """Add the gradients of a step. Returns its mean loss."""
        loss = self._loss(model, self.packed.batch(step), np.random.default_rng((self._seed, step)))
        loss.backward()
        return float(loss.detach())

    def _loss(self, model, rows: Rows, draw) -> torch.Tensor:
        inputs = self._objective(rows, draw)
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            return mean_loss(model, {name: t.to(model.device) for name, t in inputs.items()})

    @torch.no_grad()
    def described(self, model: torch.nn.Module) -> dict:
        """What was read, and `held_out`, the loss of the trained model on passages that were not, in nats a predicted token."""
        texts = wikipedia.build().encode_batch(list(wikipedia.documents().held_out))
        stream = np.concatenate([one.ids for one in texts])
        tokens, draw = stream[: len(stream) // LENGTH * LENGTH].reshape(-1, LENGTH), np.random.default_rng(0)
        rows = Rows(tokens, np.zeros(tokens.shape, dtype=bool), np.zeros_like(tokens))
        losses = [float(self._loss(model, rows[n : n + 1], draw)) for n in range(len(tokens))]
        masks = {"masked": MASKED, "salient": SALIENT}
        read = {"passes": PASSES, "share": wikipedia.SHARE, "rows": self.packed.each, "tokens": self.packed.rows.tokens.size}
        return masks | read | {"held_out": round(float(np.mean(losses)), 4)}


def positions(document: np.ndarray) -> np.ndarray:
    """[rows, length] positions counted from the beginning of each document."""
    columns = np.broadcast_to(np.arange(document.shape[1]), document.shape)
    first = np.ones(document.shape, dtype=bool)
    first[:, 1:] = document[:, 1:] != document[:, :-1]
    return columns - np.maximum.accumulate(np.where(first, columns, 0), axis=1)


def _same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[rows, length of one, length of other] whether two tokens belong to one document."""
    return one[:, :, None] == other[:, None, :]


def _padded(rows, fill: int) -> np.ndarray:
    table = np.full((len(rows), max(map(len, rows))), fill)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def _tensors(**arrays: np.ndarray) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
