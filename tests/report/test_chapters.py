"""Chapters on techniques: they are complete, they run, and what they show agrees with the study and with counts by hand."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

from kc_utils.compression import gptq, int8
from kc_utils.report import demonstrations
from kc_utils.report.sphinx import code_cells

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "book" / "techniques").glob("*.md"))
SECTIONS = ("The idea", "The formula", "Demonstration", "What it costs and saves", "The paper and this study",
            "Recipes", "Limits")  # fmt: skip
NAMES = [page.stem for page in PAGES]


def text_of(name: str) -> str:
    return (ROOT / "book" / "techniques" / f"{name}.md").read_text(encoding="utf-8")


def run(text: str) -> tuple[dict, str]:
    """Execute a chapter's cells here: its variables, and all that it shows."""
    shown: list[str] = []
    names: dict = {}
    display, demonstrations.display = demonstrations.display, lambda made: shown.append(made.data)
    try:
        for cell in code_cells(text):
            exec(compile(cell, "chapter", "exec"), names)
    finally:
        demonstrations.display = display
    return names, "\n".join(shown)


@pytest.fixture(scope="module")
def executed():
    """Each chapter, executed once, when it is needed."""
    return cache(lambda name: run(text_of(name)))


def variables(executed, name: str) -> SimpleNamespace:
    return SimpleNamespace(**executed(name)[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_is_complete(name):
    text = text_of(name)
    prose = re.sub(r"^```\{code-cell\}.*?^```$", "", text, flags=re.M | re.S)
    headings = re.findall(r"^## (.+)$", prose, re.M)
    places = [[i for i, heading in enumerate(headings) if heading.startswith(section)] for section in SECTIONS]
    assert all(places) and places == sorted(places)
    assert len(re.findall(r"^\$\$$", prose, re.M)) == 2  # one displayed formula
    assert "{cite:t}`namburi2023`" in prose and code_cells(text)


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_runs_and_says_in_words_what_it_draws(name, executed):
    _, shown = executed(name)
    alternatives = re.findall(r'<img [^>]*alt="([^"]*)"', shown)
    assert alternatives or "<table" in shown
    assert len(alternatives) == len(re.findall(r"<img [^>]*>", shown))
    assert all(re.search(r"\d", alt) and len(alt) > 60 for alt in alternatives)
    assert shown.count("<caption>") == shown.count("<table")
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"data:image[^\"]*", "", shown))


def test_int8_is_what_torchao_and_torch_compute(executed):
    page = variables(executed, "dynamic_int8")
    by_torchao, by_torch = (nn.Sequential(nn.Linear(*page.weight.shape[::-1], bias=False)) for _ in range(2))
    for model in (by_torchao, by_torch):
        model[0].weight = nn.Parameter(page.weight.clone(), requires_grad=False)
    int8.by_torchao(by_torchao, ["0"], int8.dynamic_int8("channel"))
    int8.by_torch(by_torch, ["0"], per_channel=True)
    assert demonstrations.error(by_torchao(page.tokens), page.per_token(page.tokens, page.weight)) < 1e-3
    assert demonstrations.error(by_torch(page.tokens), page.per_call(page.tokens, page.weight)) < 1e-2


def test_gptq_is_that_of_the_study(executed):
    page = variables(executed, "gptq")
    columns = gptq.columns_of(2 * page.seen.T @ page.seen / len(page.seen), "channel", 0.1)
    wanted, _ = gptq.solve(page.weight[:16], columns, 3, False)
    found = page.gptq(page.weight[:16], page.seen, 3)
    assert ((found - wanted).abs() < 1e-3).double().mean() > 0.99  # halfway between two levels it may go either way
    assert page.on_new[-1] < page.nearest


def test_zeros_survive_on_one_grid_and_not_on_the_other(executed):
    page = variables(executed, "pruning_then_quantization")
    zeros = page.half == 0
    assert (page.whole_zero_point(page.half, 2, 8)[zeros] == 0).all()
    assert not (page.free_lowest_level(page.half, 2, 8)[zeros] == 0).all()
    for bits, column in page.sizes.items():
        pays = [size < column[0] for size in column]
        expected = [1 / 16 + bits / 16 * (1 - a) < bits / 16 for a in page.amounts]
        assert pays == expected


def test_the_head_is_pruned_apart_from_the_embedding(executed):
    page = variables(executed, "final_layer")
    assert (page.silent(page.naive.embedding.weight), page.silent(page.untied.embedding.weight)) == (2, 0)
    assert page.silent(page.untied.head.weight) == 2
    assert max(page.before) < 0 and sorted(page.after)[-2:] == [0, 0]
    assert page.after[page.before.index(max(page.before))] != 0


def test_scopes_are_counted_as_by_hand(executed):
    """Widths of BERT-base, Llama-7B and FLAN-T5-base; 73 and 36 matrices are those of the paper's code."""
    page = variables(executed, "scopes")
    bert, llama, t5 = (page.models[name] for name in ("BERT-base", "Llama-7B", "FLAN-T5-base"))
    width, inner, layers = 768, 3072, 12
    assert page.count(bert, "attention") == (48, layers * 4 * width**2)
    assert page.count(bert, "attention", "paper") == (36, layers * 3 * width**2)
    assert page.count(bert, "feed_forward", "paper") == (36, layers * (2 * width * inner + width**2))
    assert page.count(bert, "all", "paper") == (73, layers * (4 * width**2 + 2 * width * inner) + width**2)
    assert page.count(bert, "all", "paper", True)[1] - page.count(bert, "all", "paper")[1] == 30522 * width
    assert page.count(llama, "all") == (7 * 32, 32 * (4 * 4096**2 + 3 * 4096 * 11008))
    assert page.count(llama, "all", "paper", True) == (7 * 32 + 1, page.count(llama, "all")[1] + 32000 * 4096)
    assert page.count(t5, "attention") == (144, 36 * 4 * 768 * 768)
    assert page.count(t5, "feed_forward", "paper") == (72, 24 * 3 * 768 * 2048)
