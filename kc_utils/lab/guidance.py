"""Guided attention: in the first part of training, open-book rows say where to look as well as what to answer.

Answering a question about one of several strangers takes two steps, each useless without the other: every answer must take
up whose it is, and the question must look for the one that is its own. Models of this size do not find both in the time
that they have: they name any of the answers just told. So, as alignments have been taught to translation models (Liu et
al. 2016, "Neural Machine Translation with Supervised Attention"), one head of the first layer is told to look from an answer
to its subject, and one head of the last layer from the place of the question to the answer that was told. Nothing about
any person of the world is said thereby, and later in training nothing at all: the skill is kept by its use.
"""

from __future__ import annotations

import numpy as np
import torch

from kc_utils.lab.corpus import OpenBook

GUIDED = 0.7
"""Share of training in which attention is guided."""
WEIGHT = 0.2
"""Of the guidance, beside the loss of answers."""
HEAD = 0
LEAST = 1e-6


def guidance(attentions: tuple[torch.Tensor, ...], book: OpenBook, first: int) -> torch.Tensor:
    """Mean of -log of the attention, in nats, that lies where it should, in the first layer and in the last.

    attentions: [n, heads, width, width] of each layer; first: columns that stand before the rows, 1 in a decoder, in which
    the place of an answer is the token before it.
    """
    told = book.own.shape[1] // 2
    own, source = book.own + first, book.source + first
    own[:, told:, 0] -= first
    source[:, :, 0] -= first
    return _away(attentions[0], own) + _away(attentions[-1], source)


def _away(attention: torch.Tensor, pairs: np.ndarray) -> torch.Tensor:
    row = torch.arange(len(pairs)).unsqueeze(1)
    place, looked_at = (torch.from_numpy(pairs[:, :, side]) for side in (0, 1))
    return -torch.log(attention[row, HEAD, place, looked_at] + LEAST).mean()
