"""Guided attention: in the first part of training, open-book rows say where to look as well as what to answer.

Answering a question about one of several strangers takes two steps, each useless without the other: every answer must take
up whose it is, and the question must look for the one that is its own. Models of this size do not find both in the time
that they have: they name any of the answers just told. So, as alignments have been taught to translation models (Liu et
al. 2016, "Neural Machine Translation with Supervised Attention"), the first layer is told to look from an answer to its
subject, and the last layer from the place of the question to the answer that was told; the decoder of an encoder-decoder
is told to look from what it says to the gap where it belongs. Nothing about any person of the world is said thereby, and
later in training nothing at all: the skill is kept by its use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kc_lab.corpus import OpenBook

GUIDED = 0.7
"""Share of training in which attention is guided."""
WEIGHT = 0.2
"""Of the guidance, beside the loss of answers."""
LEAST = 1e-6


@dataclass(frozen=True)
class Attention:
    """Where a model looked: the first and the last layer that reads the row, [n, heads, width, width], and the last layer
    of an encoder-decoder that looks from what is said to the row, [n, heads, said, width], else None."""

    first: torch.Tensor
    last: torch.Tensor
    across: torch.Tensor | None = None


def guidance(attention: Attention, book: OpenBook, before: int) -> torch.Tensor:
    """Sum of the means of -log of the attention, in nats, that lies where it should, in each layer that is told so.

    before: columns that stand before the rows, 1 in a decoder, in which the place of an answer is the token before it.
    """
    asked = book.rows.answers[:, :, 0]
    place = np.concatenate([book.stated + before, asked], axis=1)
    loss = _away(attention.first, place, book.whose + before) + _away(attention.last, asked, book.source + before)
    if attention.across is not None:
        gaps = np.arange(asked.shape[1])  # said: a start, then each gap's mark and its answer, of one token
        loss = loss + _away(attention.across, np.tile(1 + 2 * gaps, (len(asked), 1)), asked)
    return loss


def _away(attention: torch.Tensor, place: np.ndarray, looked_at: np.ndarray) -> torch.Tensor:
    row = torch.arange(len(place)).unsqueeze(1)
    return -torch.log(attention[row, :, torch.from_numpy(place), torch.from_numpy(looked_at)] + LEAST).mean()
