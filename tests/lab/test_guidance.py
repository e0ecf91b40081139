"""Guided attention: nothing is lost where a model looks as it should, and what is lost moves it there."""

import math

import numpy as np
import pytest
import torch

from kc_utils.lab.corpus import Corpus
from kc_utils.lab.guidance import HEAD, guidance
from kc_utils.lab.objectives import OBJECTIVES
from kc_utils.lab.shapes import fresh
from kc_utils.lab.training import loss_and_attention


@pytest.fixture(scope="module")
def book():
    return Corpus(1, 1).batch(0)[1][slice(0, 8)]


def _looking(book, first, right):
    """Attention of two layers that lies where it should, or evenly."""
    width = book.rows.tokens.shape[1] + first
    layers = torch.full((2, len(book), 4, width, width), 0.0 if right else 1 / width)
    if right:
        for row in range(len(book)):
            said = book.rows.said[row]
            for layer, pairs in enumerate((book.own[row], book.source[row])):
                for place, seen in pairs.tolist():
                    at = place + first if place < said else place
                    layers[layer, row, HEAD, at, seen + first] = 1.0
    return tuple(layers)


@pytest.mark.parametrize("first", [0, 1])
def test_looking_where_the_answer_is_costs_nothing(book, first):
    assert float(guidance(_looking(book, first, True), book, first)) == pytest.approx(0, abs=1e-4)
    width = book.rows.tokens.shape[1] + first
    assert float(guidance(_looking(book, first, False), book, first)) == pytest.approx(2 * math.log(width), rel=1e-3)


@pytest.mark.parametrize("family", OBJECTIVES)
def test_a_few_steps_turn_the_heads(book, family):
    model, objective = fresh(family, "small", 1), OBJECTIVES[family]()
    model.set_attn_implementation("eager")
    optimizer, lost = torch.optim.AdamW(model.parameters(), lr=3e-3), []
    for step in range(25):
        inputs = objective.inputs(book.rows, np.random.default_rng(step))
        loss, attentions = loss_and_attention(model, inputs, True)
        assert all(a.shape == attentions[0].shape for a in attentions)
        lost.append(guidance(attentions, book, objective.first))
        optimizer.zero_grad()
        (loss + lost[-1]).backward()
        optimizer.step()
    assert float(lost[-1]) < 0.6 * float(lost[0])
