"""What a reader gives: a model's scores over the vocabulary at the places that were asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from kc_utils.errors import BadRequest

RELATIVE_POSITIONS = {"t5", "mt5", "umt5", "longt5", "switch_transformers"}  # no longest statement
POSITIONS_BEHIND_PADDING = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet"}  # counted from there
Query = Hashable  # what one distribution over the vocabulary is asked for; its form depends on the family


@dataclass
class Reading:
    """Scores of the whole vocabulary for some of the queries asked, in the processor's memory, wherever they were computed:
    they are looked up one at a time.

    contexts  [n] indices into the sequence of queries
    logits    [n, vocabulary] float32
    log_norm  [n] their log-sum-exp: `logits - log_norm` are log-probabilities
    valid     [n] whether every score of the row is a number and not all are equal: a model that scores every token alike
              says nothing, and a sum over an answer's tokens would favour the shortest answer
    """

    contexts: list[int]
    logits: torch.Tensor
    log_norm: torch.Tensor
    valid: torch.Tensor

    @classmethod
    def of(cls, contexts: list[int], logits: torch.Tensor) -> Reading:
        logits = logits.float()
        log_norm = torch.logsumexp(logits, dim=-1)
        # one NaN or +inf anywhere in the row shows in its sum of exponentials; -inf alone is a probability of zero
        says_something = logits.amax(dim=-1) > logits.amin(dim=-1)
        valid = torch.isfinite(log_norm) & says_something
        return cls(contexts, logits.cpu(), log_norm.cpu(), valid.cpu())

    def logprob(self, row: int, tokens: list[int]) -> list[float]:
        """Log-probabilities of some tokens in one row; NaN in a row that is not valid."""
        if not self.valid[row]:
            return [math.nan] * len(tokens)
        return (self.logits[row, tokens] - self.log_norm[row]).tolist()


@contextmanager
def only_at(body: nn.Module, choose: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Within the block, the body's last hidden states [B, T, width] are replaced by `choose` of them, [n, 1, width].

    The head that follows then scores the vocabulary at n places instead of B x T: for a small model with a large
    vocabulary that is most of the work. Works for every model that hands its body's first output to its head.
    """

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


def check_length(model: nn.Module, longest: int, what: str = "a prompt") -> None:
    """BadRequest for a prompt that the model has no positions for."""
    config = model.config
    if config.model_type in RELATIVE_POSITIONS:
        return
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if isinstance(limit, int) and config.model_type in POSITIONS_BEHIND_PADDING:
        limit -= config.pad_token_id + 1
    if isinstance(limit, int) and longest > limit:
        raise BadRequest(
            f"{what} takes {longest} tokens, this model has {limit} positions; choose other facts or templates"
        )
