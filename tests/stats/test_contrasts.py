"""Perplexity, open-book twins, wordings and recipes in pairs: lines hold what counting by hand gives."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from kc_utils.stats import contrasts, findings
from kc_utils.stats.summary import summarise
from kc_utils.errors import BadRequest
from kc_utils.probing.probe import Probe
from kc_utils.study.cells import Cell
from kc_utils.study.store import CellResult

N = 50
PROBE = Probe(limit=N)


def questions(protocol, right, template=0, **columns):
    """Rows of N facts; right: numbers of the facts that are answered."""
    return pd.DataFrame(
        {
            "protocol": protocol, "fact": [f"f{i:02}" for i in range(N)], "template": template, "relation": "capital",
            "correct": [i in right for i in range(N)], "chance": 0.2, "popularity": 1.0, "valid": True, **columns,
        }
    )  # fmt: skip


def windows(nll):
    return pd.DataFrame(
        {
            "protocol": "perplexity", "fact": [f"t/{i}" for i in range(len(nll))], "template": 0, "relation": "sometext",
            "window": range(len(nll)), "nll": nll, "tokens": 100, "words": 70, "bytes": 400, "valid": np.isfinite(nll),
        }
    )  # fmt: skip


def results(**frames):
    """Results by recipe, as evaluated; `none` is the uncompressed model."""
    names = {"none": "none", "rtn": "rtn@all=3", "gptq": "gptq@all=3"}
    return {
        Cell("m", names[name], PROBE): CellResult(name, pd.concat(parts, ignore_index=True), {}, {})
        for name, parts in frames.items()
    }


def test_perplexity_is_that_of_all_windows_beside_questions_or_alone():
    before, after = np.linspace(280, 320, 30), np.linspace(280, 320, 30) * 1.1
    found = contrasts.surprises(
        results(none=[questions("rank", range(40)), windows(before)], rtn=[questions("rank", range(9)), windows(after)])
    ).set_index("recipe")
    line = found.loc["rtn@all=3"]
    assert line["perplexity"] == pytest.approx(math.exp(after.sum() / 3000))
    assert line["ratio"] == pytest.approx(math.exp((after - before).sum() / 3000))
    assert line["ratio_low"] < line["ratio"] < line["ratio_high"]
    assert (line["text"], line["precision"], found.loc["none", "ratio"]) == ("sometext", "RTN 3 bits", 1.0)
    alone = contrasts.surprises(results(none=[windows(before)], rtn=[windows(after)])).set_index("recipe")
    assert alone.loc["rtn@all=3", "ratio"] == line["ratio"]


def test_what_was_not_asked_gives_empty_frames():
    asked = results(none=[questions("rank", range(40))], rtn=[questions("rank", range(20))])
    for found in (
        contrasts.surprises(asked),
        contrasts.fates(asked),
        contrasts.agreements(asked),
        contrasts.duels(asked, []),
    ):
        assert found.empty
    without = {c: r for c, r in asked.items() if c.recipe != "none"}
    with pytest.raises(BadRequest, match="uncompressed model was not evaluated"):
        contrasts.fates(without)


def test_forgotten_and_broken_are_counted_among_what_was_known_both_ways():
    asked = results(
        none=[questions("rank", range(40)), questions("openbook", range(45))],
        rtn=[questions("rank", range(12)), questions("openbook", range(30))],
    )
    found = contrasts.fates(asked)
    counts = found[found["recipe"] == "rtn@all=3"].set_index("fate")["count"].to_dict()
    assert counts == {"kept": 12, "forgotten": 18, "misread": 0, "broken": 10}
    assert found[found["recipe"] == "none"].set_index("fate").loc["kept", "share"] == 1
    text = findings.fate_sentence(found, "rtn@all=3").replace(findings.NBSP, " ")
    for part in ("of the 40 questions", "45 % (", "25 % (", "0 % (", "knowledge suffers more than reading"):
        assert part in text, part
    assert findings.fate_sentence(found, "nf4@all") == ""


def test_nothing_known_both_ways_leaves_nothing_to_lose():
    asked = results(none=[questions("rank", range(20)), questions("openbook", range(20, 50))])
    assert contrasts.fates(asked).empty


def test_two_wordings_agree_in_the_share_of_facts_that_get_one_answer():
    def two(differing):
        chosen = [[0] * N, [1 if i < differing else 0 for i in range(N)]]
        return [questions("rank", range(N), template=t, chosen=c) for t, c in enumerate(chosen)]

    found = contrasts.agreements(results(none=two(10), rtn=two(30))).set_index("recipe")
    assert found.loc["rtn@all=3", "value"] == pytest.approx(20 / N)
    assert found["baseline_value"].tolist() == [pytest.approx(40 / N)] * 2
    line = found.loc["rtn@all=3"]
    assert line["low"] < line["value"] < line["high"]
    text = findings.agreement_sentence(found.reset_index(), "rtn@all=3", "rank").replace(findings.NBSP, " ")
    for part in ("80 % of all pairs before", "in 40 %", "50 facts"):
        assert part in text


def test_two_recipes_are_compared_with_each_other():
    asked = results(
        none=[questions("rank", range(40)), questions("cloze", range(9))],
        gptq=[questions("rank", range(30)), questions("cloze", range(5))],
        rtn=[questions("rank", range(10, 20)), questions("cloze", range(5))],
    )
    found = contrasts.duels(asked, [("gptq@all=3", "rtn@all=3")]).set_index("protocol")
    line = found.loc["rank"]
    assert (line["accuracy"], line["rival_accuracy"], line["only_first"], line["only_rival"]) == (0.6, 0.2, 0.4, 0)
    assert line["p"] == pytest.approx(binomtest(20, 20).pvalue)
    assert found.loc["cloze", "p"] == 1
    clear, same = (
        findings.duel_sentences(found.reset_index(), p)[0].replace(findings.NBSP, " ") for p in ("rank", "cloze")
    )
    for part in ("all layers, 3 bits", "60 % right by GPTQ, 20 % by round to nearest", "in favour of GPTQ"):
        assert part in clear
    assert "not one answer differs" in same
    with pytest.raises(BadRequest, match="no results of rtn@all=2"):
        contrasts.duels(asked, [("gptq@all=3", "rtn@all=2")])


def test_perplexity_that_stays_flat_while_facts_go_is_said_to():
    nll = np.linspace(280, 320, 30)
    asked = results(
        none=[questions("rank", range(48)), windows(nll)],
        rtn=[questions("rank", range(10)), windows(nll * 1.2)],
        gptq=[questions("rank", range(20)), windows(nll + 0.5)],
    )
    texts = findings.surprise_sentences(summarise(asked), contrasts.surprises(asked), "rank")
    first, flat, mildest = (text.replace(findings.NBSP, " ") for text in texts)
    assert f"{math.exp(3):.1f} per token" in first
    assert (
        "Of 2 recipes that clearly lose facts in the closed-set ranking, 1 raise perplexity by no more than 5 %" in flat
    )
    assert "gptq@all=3" in mildest
    assert f"{math.exp(0.005):.2f} times" in mildest
    broken = asked | results(gptq=[questions("rank", range(20)), windows(np.r_[np.inf, nll[1:]])])
    assert "endless" in findings.surprise_sentences(summarise(broken), contrasts.surprises(broken), "rank")[-1]
