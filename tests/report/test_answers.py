"""Answers of the findings: two sentences that follow the rows, and no error where rows are few or gone."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from kc_utils.stats.across import PRUNED, curves, half_gone
from kc_utils.stats.claim_rows import Evidence
from kc_utils.probing.probe import Probe
from kc_utils.report.answers import QUESTIONS, answers
from kc_utils.report.answers.answer import NO_ROWS
from tests.stats.claimed import N, results, rows, windows

RIGHT = {
    "none": 160, "magnitude@all=0.1": 158, "magnitude@all=0.2": 140, "magnitude@all=0.3": 120, "magnitude@all=0.5": 60,
    "magnitude@attention=0.2": 130, "magnitude@attention=0.3": 100, "magnitude@feed_forward=0.2": 158,
    "magnitude@feed_forward=0.3": 150, "magnitude@all=0.2+int8@all": 140, "magnitude@all=0.2+rtn@all=4": 100,
    "int8@all": 160, "rtn@all=4": 130, "rtn@all=3": 60,
}  # fmt: skip


def with_margins(right: int):
    """Facts whose answers led by little are the first to be lost."""
    frame = rows(right)
    return frame.assign(margin=np.where(frame["correct"], (N - np.arange(N)) / 50, -1.0))


def evidence(right=RIGHT, texts=()) -> Evidence:
    found = results({recipe: with_margins(n) for recipe, n in right.items()})
    if texts:
        found |= results(dict(texts), probe=Probe(facts=None, text="wikitext2"))
    return Evidence({"laptop": found})


def answer(name: str, **given) -> str:
    return " ".join(QUESTIONS[name](evidence(**given)).sentences).replace("\u00a0", " ")


def test_each_question_has_two_sentences_and_a_figure():
    texts, pictures = answers(evidence(texts=[(r, windows(2.0)) for r in RIGHT if "+" not in r]))
    for name in QUESTIONS:
        text = texts[f"findings/{name}_answer.md"]
        assert f"findings/{name}_evidence.md" in texts
        if name == "families":  # of the lab's models, and there are none among these rows
            assert text == NO_ROWS
            continue
        assert f"fig-finding-{name}-" in text and ":alt: " in text
        assert len(texts[f"findings/{name}_evidence.md"].splitlines()) > 2
    assert pictures and all(content.startswith(b"\x89PNG") for content in pictures.values())
    shown = {file for text in texts.values() for file in pictures if f"/results/{file}\n" in text}
    assert shown == set(pictures)


@pytest.mark.parametrize("name", QUESTIONS)
def test_without_rows_there_is_no_data_and_no_error(name):
    assert QUESTIONS[name](Evidence({})).sentences == ()
    texts, pictures = answers(Evidence({}))
    assert set(texts.values()) == {NO_ROWS} and not pictures


def test_where_a_loss_begins_follows_the_rows():
    assert "loss of `smollm2-135m` comes at 20 % sparsity, and half of the knowledge is gone at about 37 %." in answer(
        "prune"
    )
    assert "comes at 30 % sparsity," in answer("prune", right=RIGHT | {"magnitude@all=0.2": 159})
    kept_all = dict.fromkeys(RIGHT, 160)
    text = answer("prune", right=kept_all)
    assert text.startswith("No loss of `smollm2-135m` is clear at any amount tested, and more than half")


def test_of_many_sources_the_ends_are_told():
    found = {}
    for number, source in enumerate(("worldfacts", "lab:people", "lab:works", "lab:places")):
        rows = {recipe: with_margins(max(n - 20 * number, 0) if recipe != "none" else n) for recipe, n in RIGHT.items()}
        found |= results(rows, "smollm2-135m", Probe(facts=source, protocols=("rank",)))
    (text,) = QUESTIONS["prune"](Evidence({"laptop": found})).sentences
    text = text.replace("\u00a0", " ")
    assert "comes at 10 % sparsity (3 of 4) or 20 % sparsity (worldfacts), and" in text
    half = re.search(r"half of the knowledge is gone at about (\d+) % \(([\w:]+)\) to (\d+) % \(([\w:]+)\)\.", text)
    assert half and int(half[1]) < int(half[3]) and (half[2], half[4]) == ("lab:places", "worldfacts"), text


def test_bits_name_the_storage():
    text = answer("bits")
    assert "comes at RTN 4 bits; in four bits, " in text and " of the knowledge is kept at best by RTN 4 bits." in text
    assert "comes at int8 dynamic;" in answer("bits", right=RIGHT | {"int8@all": 100})


def test_the_extra_cost_of_a_second_step():
    text = answer("both")
    assert "`int8@all` costs another 0.0 points (" in text and "little, below 5 points" in text
    assert "more than 5 points" in text


def test_attention_and_feed_forward_change_places_with_the_rows():
    assert "attention is the more delicate part" in answer("where")
    swapped = {"attention": "feed_forward", "feed_forward": "attention"}
    parts = {r: r.partition("@")[2].partition("=")[0] for r in RIGHT}
    turned = {r.replace(parts[r], swapped.get(parts[r], parts[r])) if parts[r] else r: n for r, n in RIGHT.items()}
    assert "feed-forward is the more delicate part" in answer("where", right=turned)


def test_margins_foretell_losses_where_they_do():
    assert "The margin foretells a loss" in answer("first")
    assert "undecided" in answer("first")  # every second fact is of the head, so that halves lose alike


def test_a_flat_perplexity_does_not_hide_a_loss():
    flat = answer("warning", texts=[(r, windows(2.0)) for r in RIGHT if "+" not in r])
    assert "perplexity stays within 5 % up to 50 %, where up to 83 points (" in flat
    risen = answer("warning", texts=[(r, windows(2.0 if r == "none" else 3.0)) for r in RIGHT if "+" not in r])
    assert "risen by more than 5 % at every sparsity tested" in risen
    assert answer("warning") == ""


def test_tasks_are_told_as_right_answers():
    known = {"none": 160, "magnitude@all=0.1": 158, "magnitude@all=0.2": 100}
    asked = {name: rows(0, "harness").assign(relation=name) for name in ("piqa", "boolq")}
    right = {"piqa": known, "boolq": dict.fromkeys(known, 40)}  # 40 of 200 are guessed
    tasks = {
        recipe: pd.concat([frame.assign(correct=np.arange(N) < right[name][recipe]) for name, frame in asked.items()])
        for recipe in known
    }
    tasks = {r: frame.assign(fact=frame["relation"] + frame["fact"]) for r, frame in tasks.items()}
    facts = results({recipe: with_margins(n) for recipe, n in known.items()})
    found = facts | results(tasks, probe=Probe(facts=None, tasks=("boolq", "piqa")))
    answer = QUESTIONS["warning"](Evidence({"laptop": found}))
    told = {row["measured"]: row for row in answer.rows}
    assert told["task: `piqa`"]["first clear loss"].replace("\u00a0", " ").startswith("20 % sparsity: 50 % (43")
    assert told["task: `boolq`"]["first clear loss"] == "nothing to lose"
    assert told["task: `boolq`"]["at the most"].endswith(" right")
    assert "boolq has nothing to lose" in answer.sentences[1]


def test_a_model_that_guesses_has_no_curve():
    assert curves(evidence(right=dict.fromkeys(RIGHT, 40)), PRUNED).empty


def test_where_half_is_gone():
    assert half_gone([0, 10, 20], [1.0, 0.8, 0.2]) == pytest.approx(15)
    assert np.isnan(half_gone([0, 10], [1.0, 0.6]))
    assert half_gone([0, 10, 20], [1.0, np.nan, 0.0]) == pytest.approx(10)


def test_models_of_language_are_not_drowned_in_the_lab():
    """Three alike models of the lab say the contrary of one model of language: each is told by itself."""
    swapped = {"magnitude@attention": "magnitude@feed_forward", "magnitude@feed_forward": "magnitude@attention"}
    turned = {
        swapped.get(r.partition("=")[0], r.partition("=")[0]) + "".join(r.partition("=")[1:]): n
        for r, n in RIGHT.items()
    }
    found = results({recipe: with_margins(n) for recipe, n in RIGHT.items()})
    for seed in (1, 2, 3):
        probe = Probe(facts="lab", protocols=("rank",))
        found |= results({r: with_margins(n) for r, n in turned.items()}, f"lab:encoder-small-s{seed}", probe)
    language, lab = QUESTIONS["where"](Evidence({"laptop": found})).sentences
    assert language.startswith("In models of language") and "attention is the more delicate part" in language
    assert lab.startswith("In the lab") and "feed-forward is the more delicate part" in lab
