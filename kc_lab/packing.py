"""What a model of real sentences reads: rows of one length without padding, and the three ordinary objectives on them.

A row holds whole sentences and statements, drawn anew for every pass over them; what is left of it is filled with the next
words of ordinary language, so that no token of a row is wasted and no sentence is cut. A text is seen by itself: attention
stays within it, by a mask, and an encoder counts positions from its beginning, as when it is queried alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from kc_lab import wikipedia
from kc_lab.objectives import NOTHING, mean_loss

LENGTH, ROWS = 128, 32
"""Tokens of a row, rows of a step."""
PASSES = 60
"""How often each sentence is read, and one statement of each fact of kind `both`."""
MASKED = 0.2
"""Share of tokens that an encoder finds masked, and an encoder-decoder missing."""
SPAN = (1, 2, 3)
"""Tokens of a missing span, each length equally likely."""

Texts = list[np.ndarray]


class Packed:
    """All rows of a training.

    tokens    [rows, LENGTH] int16
    document  [rows, LENGTH] int16, counted from 0 within each row
    """

    def __init__(self, sentences: Texts, statements: list[Texts], passages: Texts, seed: int, passes: int):
        whole = _endless(passages, seed)
        tokens, document = [], []
        for turn in range(passes):
            draw = np.random.default_rng((seed, turn))
            texts = [*sentences, *(mine[draw.integers(len(mine))] for mine in statements)]
            for row in _filled((texts[n] for n in draw.permutation(len(texts))), whole):
                tokens.append(np.concatenate(row))
                document.append(np.repeat(np.arange(len(row)), [len(text) for text in row]))
        self.tokens, self.document = np.array(tokens, dtype=np.int16), np.array(document, dtype=np.int16)

    @property
    def steps(self) -> int:
        return -(-len(self.tokens) // ROWS)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and documents of the rows of a step."""
        which = slice(step * ROWS, (step + 1) * ROWS)
        return self.tokens[which].astype(np.int64), self.document[which].astype(np.int64)


def _endless(passages: Texts, seed: int):
    """A function that gives the next so many tokens of the passages, in an order drawn once, begun again at their end."""
    order = np.random.default_rng(seed).permutation(len(passages))
    stream, at = np.concatenate([passages[n] for n in order]), 0

    def some(count: int) -> np.ndarray:
        nonlocal at
        found = stream.take(range(at, at + count), mode="wrap")
        at = (at + count) % len(stream)
        return found

    return some


def _filled(texts, some) -> Iterator[Texts]:
    """Rows of whole texts, filled with `some` words to LENGTH tokens."""
    row, left = [], LENGTH
    for text in texts:
        if len(text) > left:
            yield [*row, some(left)] if left else row
            row, left = [], LENGTH
        row, left = [*row, text], left - len(text)
    if row:
        yield [*row, some(left)] if left else row


def packed(family: str, seed: int, share: float = wikipedia.SHARE, passes: int = PASSES) -> Packed:
    """The rows of a family: a decoder's texts begin with `<s>`."""
    tokenizer, read = wikipedia.build(), wikipedia.documents(share)
    start = [tokenizer.token_to_id("<s>")] if family == "decoder" else []

    def ids(texts) -> Texts:
        return [np.array(start + one.ids, dtype=np.int16) for one in tokenizer.encode_batch(list(texts))]

    passages = [np.array(one.ids, dtype=np.int16) for one in tokenizer.encode_batch(list(read.passages))]
    return Packed(ids(read.sentences), [ids(texts) for texts in read.statements], passages, seed, passes)


def next_tokens(tokens: np.ndarray, document: np.ndarray, draw) -> dict[str, torch.Tensor]:
    """A decoder's: every token of a text but its first."""
    labels = np.full_like(tokens, NOTHING)
    labels[:, :-1] = np.where(document[:, 1:] == document[:, :-1], tokens[:, 1:], NOTHING)
    seen = _same(document, document) & np.tri(tokens.shape[1], dtype=bool)
    return _tensors(input_ids=tokens, attention_mask=seen[:, None], labels=labels)


def masked_tokens(tokens: np.ndarray, document: np.ndarray, draw: np.random.Generator) -> dict[str, torch.Tensor]:
    """An encoder's: tokens masked at random."""
    hidden = draw.random(tokens.shape) < MASKED
    mask = wikipedia.build().token_to_id("<mask>")
    return _tensors(
        input_ids=np.where(hidden, mask, tokens), attention_mask=_same(document, document)[:, None],
        position_ids=positions(document), labels=np.where(hidden, tokens, NOTHING),
    )  # fmt: skip


def missing_spans(tokens: np.ndarray, document: np.ndarray, draw: np.random.Generator) -> dict[str, torch.Tensor]:
    """An encoder-decoder's: in each text, spans that a sentinel stands for; the decoder writes what each stands for."""
    vocabulary = wikipedia.build()
    gaps = np.array([vocabulary.token_to_id(token) for token in wikipedia.SENTINELS])
    rows = [_corrupted(*row, gaps, draw) for row in zip(tokens, document, strict=True)]
    pad = vocabulary.token_to_id("<pad>")
    sides = zip(zip(*rows, strict=True), (pad, -1, NOTHING, -2), strict=True)
    seen, seen_in, written, written_in = (_padded(side, fill) for side, fill in sides)
    begun = np.concatenate([np.full((len(written), 1), pad), written[:, :-1]], axis=1)
    begun[positions(written_in) == 0] = pad
    causal = np.tri(written.shape[1], dtype=bool)
    return _tensors(
        input_ids=seen, encoder_mask=_same(seen_in, seen_in)[:, None], attention_mask=_same(written_in, seen_in)[:, None],
        decoder_input_ids=np.where(begun == NOTHING, pad, begun),
        decoder_attention_mask=(_same(written_in, written_in) & causal)[:, None], labels=written,
    )  # fmt: skip


def _corrupted(tokens, document, gaps, draw) -> tuple[list[int], ...]:
    """Of a row: what the encoder sees, the document of each token, what the decoder writes, the document of each token."""
    seen, seen_in, written, written_in = [], [], [], []
    for number in range(document[-1] + 1):
        text, at, mine = tokens[document == number], 0, ([], [])
        begins, lengths = _spans(len(text), draw)
        for gap, begin, length in zip(gaps, begins, lengths, strict=False):
            mine[0].extend([*text[at:begin], gap])
            mine[1].extend([gap, *text[begin : begin + length]])
            at = begin + length
        mine[0].extend(text[at:])
        mine[1].append(gaps[len(begins)])
        seen, seen_in = seen + mine[0], seen_in + [number] * len(mine[0])
        written, written_in = written + mine[1], written_in + [number] * len(mine[1])
    return seen, seen_in, written, written_in


def _spans(length: int, draw) -> tuple[np.ndarray, np.ndarray]:
    """Where spans begin and how long they are: about MASKED of the tokens, one span at the least, none beside another."""
    lengths = draw.choice(SPAN, size=max(1, round(MASKED * length / np.mean(SPAN))))
    while lengths.sum() + len(lengths) - 1 > length and len(lengths) > 1:
        lengths = lengths[:-1]
    lengths = np.minimum(lengths, length)
    room = length - lengths.sum() - (len(lengths) - 1)
    before = np.sort(draw.integers(room + 1, size=len(lengths)))
    return before + np.concatenate([[0], np.cumsum(lengths[:-1] + 1)]), lengths


OBJECTIVES = {"decoder": next_tokens, "encoder": masked_tokens, "encoder-decoder": missing_spans}


class Sentences:
    """The course of a training on real sentences, computed in 16 bits where weights, sums and the loss are not."""

    def __init__(self, lesson, model: torch.nn.Module):
        self._rows, self._objective, self._seed = packed(lesson.family, lesson.seed), OBJECTIVES[lesson.family], lesson.seed
        self.steps = self._rows.steps
        self.settings = {"passes": PASSES, "share": wikipedia.SHARE, "masked": MASKED, "rows": ROWS, "length": LENGTH}

    def backward(self, model: torch.nn.Module, step: int, steps: int) -> float:
        """Add the gradients of a step. Returns its mean loss."""
        inputs = self._objective(*self._rows.batch(step), np.random.default_rng((self._seed, step)))
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            loss = mean_loss(model, {name: t.to(model.device) for name, t in inputs.items()})
        loss.backward()
        return float(loss.detach())


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
