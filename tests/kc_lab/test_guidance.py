"""Guided attention: nothing is lost where a model looks as it should, and what is lost moves it there."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from kc_lab.corpus import Corpus
from kc_lab.guidance import Attention, guidance
from kc_lab.objectives import OBJECTIVES
from kc_lab.shapes import HEADS, fresh
from kc_lab.training import loss_and_attention


@pytest.fixture(scope="module")
def book():
    return Corpus(1, 1).batch(0)[1][slice(0, 8)]


def _looking(book, before: int, right: bool) -> Attention:
    """Attention that lies where it should, or evenly. Read off the rows themselves, sentence by sentence."""
    width, told = book.rows.tokens.shape[1] + before, book.stated.shape[1]
    first, last = (torch.full((len(book), HEADS, width, width), 0.0 if right else 1 / width) for _ in range(2))
    across = torch.full((len(book), HEADS, 2 * told + 1, width), 0.0 if right else 1 / width)
    if right:
        for row in range(len(book)):
            asked = book.rows.answers[row, :, 0].tolist()
            for column, subject in zip(book.stated[row].tolist(), book.whose[row].tolist(), strict=False):
                first[row, :, column + before, subject + before] = 1.0
            for k, column in enumerate(asked):
                first[row, :, column, int(book.whose[row][told + k]) + before] = 1.0
                last[row, :, column, int(book.source[row][k]) + before] = 1.0
                across[row, :, 2 * k + 1, column] = 1.0
    return Attention(first, last, None if before else across)


@pytest.mark.parametrize("before", [0, 1])
def test_looking_where_the_answer_is_costs_nothing(book, before):
    assert float(guidance(_looking(book, before, True), book, before)) == pytest.approx(0, abs=1e-4)
    width = book.rows.tokens.shape[1] + before
    evenly = (2 if before else 3) * math.log(width)
    assert float(guidance(_looking(book, before, False), book, before)) == pytest.approx(evenly, rel=1e-3)


def test_every_head_is_guided(book):
    right = _looking(book, 1, True)
    spoilt = right.last.clone()
    spoilt[:, 1] = 0.0
    assert float(guidance(replace(right, last=spoilt), book, 1)) > 1.0


@pytest.mark.parametrize("family", OBJECTIVES)
def test_a_few_steps_turn_the_heads(book, family):
    model, objective = fresh(family, "small", 1), OBJECTIVES[family]()
    model.set_attn_implementation("eager")
    optimizer, lost = torch.optim.AdamW(model.parameters(), lr=3e-3), []
    for step in range(25):
        inputs = objective.inputs(book.rows, np.random.default_rng(step))
        loss, attention = loss_and_attention(model, inputs, True)
        assert (attention.across is not None) == (family == "encoder-decoder")
        lost.append(guidance(attention, book, objective.first))
        optimizer.zero_grad()
        (loss + lost[-1]).backward()
        optimizer.step()
    assert float(lost[-1].detach()) < 0.6 * float(lost[0].detach())


def test_what_an_encoder_decoder_says_of_a_gap_looks_at_that_gap(book):
    """The places of guidance across are those of the gaps' marks, on both sides."""
    objective = OBJECTIVES["encoder-decoder"]()
    inputs = objective.inputs(book.rows, np.random.default_rng(0))
    said = fresh("encoder-decoder", "small", 1)._shift_right(inputs["labels"])
    for row in range(len(book)):
        for k, column in enumerate(book.rows.answers[row, :, 0].tolist()):
            assert said[row, 2 * k + 1] == inputs["input_ids"][row, column] == objective.gaps[k]
