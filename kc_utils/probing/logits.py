"""Logits over the vocabulary at the positions that a probe needs, from an encoder or an encoder-decoder.

Every input is computed once, inputs of one length go together, so that nothing is padded, and the head runs at the needed
positions alone. `NextToken` (causal.py) does the same for decoders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from kc_utils.errors import BadRequest

RELATIVE_POSITIONS = {"t5", "mt5", "umt5", "longt5", "switch_transformers"}  # no longest statement
POSITIONS_BEHIND_PADDING = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet"}  # counted from there
Tokens = tuple[int, ...]
Input = Hashable
"""What gives one distribution over the vocabulary. Decoder: tokens; encoder: tokens and an index into them;
encoder-decoder: tokens of the encoder, tokens of the decoder."""


@dataclass
class Logits:
    """Logits of the whole vocabulary for some of the inputs, in main memory, wherever they were computed.

    indices   [n] indices into the sequence of inputs
    values    [n, vocabulary] float32
    log_norm  [n] their log-sum-exp: `values - log_norm` are log-probabilities
    valid     [n] whether every logit of the row is a number and not all are equal: a model that scores every token alike
              predicts nothing, and a sum over an answer's tokens would favour the shortest answer
    """

    indices: list[int]
    values: torch.Tensor
    log_norm: torch.Tensor
    valid: torch.Tensor

    @classmethod
    def of(cls, indices: list[int], values: torch.Tensor) -> Logits:
        values = values.float()
        log_norm = torch.logsumexp(values, dim=-1)
        # one NaN or +inf anywhere in the row shows in its sum of exponentials; -inf alone is a probability of zero
        differ = values.amax(dim=-1) > values.amin(dim=-1)
        return cls(indices, values.cpu(), log_norm.cpu(), (torch.isfinite(log_norm) & differ).cpu())

    def logprob(self, row: int, tokens: list[int]) -> list[float]:
        """Log-probabilities of some tokens in one row; NaN in a row that is not valid."""
        if not self.valid[row]:
            return [math.nan] * len(tokens)
        return (self.values[row, tokens] - self.log_norm[row]).tolist()


@contextmanager
def only_at(body: nn.Module, choose: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Within the block, the body's last hidden states [B, T, width] are replaced by `choose` of them, [n, 1, width]: the head
    scores the vocabulary at n positions instead of B x T, for every model that hands its body's first output to its head."""

    def replace(module, arguments, output):
        states = choose(output[0])
        if isinstance(output, tuple):
            return (states, *output[1:])
        output["last_hidden_state"] = states
        return output

    handle = body.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def positions_of(model: nn.Module) -> int | None:
    """Tokens that the model has positions for, None where they have no end or its configuration names no number."""
    config = model.config
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if not limit or config.model_type in RELATIVE_POSITIONS:
        return None
    return limit - (config.pad_token_id + 1 if config.model_type in POSITIONS_BEHIND_PADDING else 0)


def check_length(model: nn.Module, longest: int, what: str = "a prompt") -> None:
    """Raise BadRequest for a prompt that the model has no positions for."""
    limit = positions_of(model)
    if limit is not None and longest > limit:
        raise BadRequest(f"{what} takes {longest} tokens, this model has {limit} positions; choose other facts or templates")


class _Predictor:
    """What encoders and encoder-decoders share.

    batch_tokens  tokens in one forward pass
    rows          positions whose logits are held at a time, at most

    `tokens_computed` counts the tokens that went through the body.
    """

    def __init__(self, model, batch_tokens: int = 2048, rows: int = 256):
        self.model, self.batch_tokens, self.rows = model, batch_tokens, rows
        self.tokens_computed = 0


class MaskedTokens(_Predictor):
    """Computes logits at masked positions of an encoder. An input is (tokens, index)."""

    _head_apart: bool | None = None

    @torch.inference_mode()
    def logits(self, inputs: Sequence[tuple[Tokens, int]]) -> Iterator[Logits]:
        """Yield logits that together cover every input. Raises BadRequest for a statement that is too long."""
        wanted: dict[Tokens, list[tuple[int, int]]] = {}
        for index, (tokens, position) in enumerate(inputs):
            wanted.setdefault(tokens, []).append((index, position))
        if not wanted:
            return
        ordered = sorted(wanted, key=len, reverse=True)
        check_length(self.model, len(ordered[0]), "a statement")
        for batch in self._batches(ordered, wanted):
            at = [(row, position) for row, tokens in enumerate(batch) for _, position in wanted[tokens]]
            indices = [index for tokens in batch for index, _ in wanted[tokens]]
            yield Logits.of(indices, self._at(torch.tensor(batch, device=self.model.device), at))

    def _batches(self, ordered, wanted) -> Iterator[list[Tokens]]:
        """Statements of one length, no more than fit the limits (one at least)."""
        batch: list[Tokens] = []
        positions = 0
        for tokens in ordered:
            more = len(wanted[tokens])
            full = (len(batch) + 1) * len(tokens) > self.batch_tokens or positions + more > self.rows
            if batch and (full or len(tokens) != len(batch[0])):
                yield batch
                batch, positions = [], 0
            batch.append(tokens)
            positions += more
        yield batch

    def _at(self, tokens: torch.Tensor, at: list[tuple[int, int]]) -> torch.Tensor:
        """Logits [n, vocabulary] at (row, position) pairs. The first call finds out whether the head can run apart."""
        rows, positions = (list(x) for x in zip(*at, strict=True))
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        self.tokens_computed += tokens.numel()
        if self._head_apart:
            return self._head_at(inputs, rows, positions)
        whole = self.model(**inputs).logits[rows, positions]
        if self._head_apart is None:
            self._head_apart = self._agrees(inputs, rows, positions, whole)
        return whole

    def _head_at(self, inputs, rows, positions) -> torch.Tensor:
        with only_at(self.model.base_model, lambda states: states[rows, positions].unsqueeze(1)):
            return self.model(**inputs).logits.squeeze(1)

    def _agrees(self, inputs, rows, positions, whole: torch.Tensor) -> bool:
        """Whether the head, run at the needed positions alone, gives the logits of the plain forward pass."""
        try:
            part = self._head_at(inputs, rows, positions)
        except (TypeError, RuntimeError, ValueError, IndexError, KeyError):
            return False
        same = part.shape == whole.shape
        return same and bool(torch.isclose(part, whole, rtol=1e-3, atol=1e-3, equal_nan=True).all())


class GapFiller(_Predictor):
    """Computes next-token logits of an encoder-decoder. An input is (tokens of the encoder, tokens of the decoder).

    A statement goes through the encoder once, whatever the decoder continues with. A beginning of an answer that begins
    another one is taken from the longer one's row.
    """

    @torch.inference_mode()
    def logits(self, inputs: Sequence[tuple[Tokens, Tokens]]) -> Iterator[Logits]:
        """Yield logits that together cover every input. Raises BadRequest for a statement that is too long."""
        wanted: dict[Tokens, dict[Tokens, list[int]]] = {}
        for index, (statement, begun) in enumerate(inputs):
            wanted.setdefault(statement, {}).setdefault(begun, []).append(index)
        if not wanted:
            return
        check_length(self.model, max(map(len, wanted)), "a statement")
        for batch in _of_one_length(list(wanted), self.batch_tokens, len):
            tokens = torch.tensor(batch, device=self.model.device)
            states = self.model.get_encoder()(input_ids=tokens, attention_mask=torch.ones_like(tokens))[0]
            self.tokens_computed += tokens.numel()
            chains = [(row, chain) for row, s in enumerate(batch) for chain in _longest(wanted[s])]
            done: set = set()
            for part in _of_one_length(chains, min(self.batch_tokens, self.rows), lambda chain: len(chain[1])):
                yield self._decode(part, batch, states, wanted, done)

    def _decode(self, chains, statements, states, wanted, done: set) -> Logits:
        """Logits at the positions along these chains that are wanted and not `done` yet."""
        begun = torch.tensor([chain for _, chain in chains], device=self.model.device)
        rows = [row for row, _ in chains]
        indices, at_rows, positions = [], [], []
        for number, (row, chain) in enumerate(chains):
            for length in range(1, len(chain) + 1):
                found = wanted[statements[row]].get(chain[:length], ())
                if found and (row, chain[:length]) not in done:
                    done.add((row, chain[:length]))
                    indices += found
                    at_rows += [number] * len(found)
                    positions += [length - 1] * len(found)
        self.tokens_computed += begun.numel()
        mask = torch.ones(len(rows), states.shape[1], dtype=torch.long, device=self.model.device)
        with only_at(self.model.get_decoder(), lambda out: out[at_rows, positions].unsqueeze(1)):
            logits = self.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=states[rows]),
                attention_mask=mask,
                decoder_input_ids=begun,
                use_cache=False,
            ).logits
        return Logits.of(indices, logits.squeeze(1))


def _of_one_length(items: list, most: int, length: Callable) -> Iterator[list]:
    """The items in batches of one length, longest first, of at most `most` tokens (one item at least)."""
    items, start = sorted(items, key=length, reverse=True), 0
    while start < len(items):
        width = length(items[start])
        batch = [i for i in items[start : start + max(1, most // width)] if length(i) == width]
        start += len(batch)
        yield batch


def _longest(beginnings) -> list[Tokens]:
    """The beginnings that begin no other one."""
    ordered = sorted(beginnings)
    return [a for a, b in zip(ordered, [*ordered[1:], ()], strict=True) if b[: len(a)] != a]
