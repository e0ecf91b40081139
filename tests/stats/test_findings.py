"""Sentences are computed: the numbers in them are those of the frame, and a loss is only called clear when it is."""

import math

import pandas as pd
import pytest

from kc_utils.stats import findings
from kc_utils.stats.names import SCOPE_NAMES
from kc_utils.stats.summary import by_popularity, summarise


@pytest.fixture(scope="module")
def summary(evaluated):
    return summarise(evaluated)


def line(summary, recipe):
    return summary.set_index(["recipe", "protocol"]).loc[(recipe, "rank")]


def plain(text):
    return text.replace(findings.NBSP, " ")


@pytest.mark.parametrize(
    ("value", "text"), [(0.63, "63"), (-0.12, "\u221212"), (-0.001, "0"), (1.0, "100"), (0.0, "0")]
)
def test_whole_per_cent(value, text):
    assert findings.whole(value) == text


def test_what_is_undefined_is_said_to_be():
    assert "undefined" in findings.percent(math.nan)
    assert "undefined" in findings.interval(math.nan, math.nan)
    assert "nan" not in findings.percent(math.nan)


def test_a_loss_is_clear_by_the_corrected_test_alone(summary):
    assert not findings.clearly_worse(line(summary, "magnitude@attention=0.3"))
    assert findings.clearly_worse(line(summary, "magnitude@attention=0.6"))
    assert not findings.clearly_worse(line(summary, "rtn@all=4"))
    better = line(summary, "magnitude@attention=0.6").copy()
    better["accuracy"], better["baseline_accuracy"] = 0.9, 0.5
    assert not findings.clearly_worse(better), "a clear gain is not a loss"
    assert not findings.clearly_worse(line(summary, "none")), "no test, no claim"


def test_the_baseline_sentence_holds_its_numbers(summary):
    text = plain(findings.baseline_sentence(summary, "rank"))
    for part in ("smollm2-135m", "75 %", "40 facts", "20.0 %"):
        assert part in text


def test_the_mildest_clear_loss_of_each_scope(summary):
    part = summary[(summary["method"] == "magnitude") & (summary["steps"] == 1)]
    texts = findings.loss_by_group(part, "rank", "scope", SCOPE_NAMES, "pruned", "% sparsity")
    attention, feed_forward = map(plain, texts)
    assert SCOPE_NAMES["attention"] in attention
    assert "60 %" in attention
    assert "30 %" not in attention.split("keeps")[0]
    assert "30 %" in feed_forward.split("keeps")[0]
    kept = findings.whole(line(summary, "magnitude@feed_forward=0.3")["retention"])
    assert f"{kept} %" in feed_forward


def test_no_clear_loss_is_said_too(summary):
    (text,) = findings.loss_by_group(
        summary[summary["method"] == "rtn"], "rank", "scope", SCOPE_NAMES, "amount", "bits", "down"
    )
    assert "no clear loss" in text


def test_scopes_are_told_apart_only_where_intervals_part(summary):
    apart = plain(findings.scope_contrast(summary, "rank"))
    assert "pruning attention leaves more right answers at 30" in apart
    close = summary.copy()
    close.loc[close["recipe"] == "magnitude@feed_forward=0.3", ["accuracy", "low", "high"]] = [0.70, 0.55, 0.82]
    together = plain(findings.scope_contrast(close, "rank"))
    assert "leaves more right answers at 60 %" in together
    assert "overlap, so this page cannot tell the two apart, at 30 %" in together
    assert findings.scope_contrast(summary[summary["scope"] != "attention"], "rank") == ""


def test_halves_are_compared_with_their_own_baseline(evaluated):
    halves = by_popularity(evaluated, ["none", "magnitude@feed_forward=0.3"])
    text = plain(findings.head_and_tail_sentence(halves, "magnitude@feed_forward=0.3", "rank"))
    for part in ("100 %", "60 %", "50 %", "0 %", "20"):
        assert part in text
    assert findings.head_and_tail_sentence(halves, "rtn@all=4", "rank") == ""


def test_a_pair_stands_beside_its_parts(summary):
    parts = summary[summary["recipe"].isin(["none", "rtn@all=4", "magnitude@all=0.3+rtn@all=4"])]
    first = summary[summary["recipe"] == "magnitude@attention=0.3"].assign(recipe="magnitude@all=0.3")
    (text,) = findings.combination_sentences(pd.concat([parts, first]), "rank")
    shares = [(20 / 40 - 0.2) / 0.55, (29 / 40 - 0.2) / 0.55, 1.0]
    for share in shares:
        assert f"{findings.whole(share)} %" in plain(text)
    assert findings.combination_sentences(parts, "rank") == [], "without a part there is nothing to compare with"


def test_the_smallest_model_without_a_clear_loss(summary):
    sizes = {"magnitude@attention=0.3": 1.5, "magnitude@attention=0.6": 4.0, "rtn@all=4": 3.25}
    some = summary[summary["recipe"].isin(["none", *sizes])].copy()
    some["compression_ratio"] = some["recipe"].map(sizes)
    text = plain(findings.smallest_without_clear_loss(some, "rank"))
    for part in ("2 of 3 recipes lose nothing clearly", "`rtn@all=4`", "3.25 times smaller"):
        assert part in text
    worst = some[some["recipe"].isin(["none", "magnitude@attention=0.6"])]
    assert "every recipe on this page loses clearly" in findings.smallest_without_clear_loss(worst, "rank")
    assert findings.smallest_without_clear_loss(some.assign(compression_ratio=math.nan), "rank") == ""


def test_a_line_without_change_is_not_called_a_difference(summary):
    same, other = findings.lines_of(summary[summary["recipe"].isin(["rtn@all=4", "magnitude@attention=0.3"])], "rank")[
        ::-1
    ]
    assert "changes no answer" in same
    assert "may be chance" in other


def test_where_nothing_was_known_nothing_is_said_to_be_kept(summary):
    unknown = line(summary, "magnitude@attention=0.6").copy()
    unknown["retention"] = math.nan
    assert "knew nothing above chance" in findings.kept(unknown)
    assert "undefined" not in findings.kept(unknown)


@pytest.mark.parametrize(
    ("protocol", "n", "clusters", "text"),
    [
        ("rank", 40, 40, "40 facts"),
        ("cloze", 80, 40, "80 questions about 40 facts"),
        ("task boolq", 12, 12, "12 items"),
    ],
)
def test_what_was_asked_is_counted_in_its_own_words(protocol, n, clusters, text):
    assert findings.questions(pd.Series({"protocol": protocol, "n": n, "clusters": clusters})) == text


def test_numbers_as_they_are_written():
    told = [findings.number(x) for x in (12.34, -3.21, 0.0712, -0.0001, 0.0, math.nan)]
    assert told == ["12.3", "\u22123.2", "0.07", "0.0", "0.0", "undefined"]
    assert findings.decimals(-0.0861) == "\u22128.6"
