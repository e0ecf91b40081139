"""The public comparison: paired on the same facts, corrected for many recipes, refused where rows do not belong together."""

import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

import kc_utils as kc
from kc_utils.errors import BadRequest, BadResult
from kc_utils.stats.compare import halves
from tests.stats.made import frame, study, templates

MILD, HARSH = "magnitude@all=0.3", "magnitude@all=0.7"


def known(n=200, share=0.8):
    return np.arange(n) < share * n


@pytest.fixture
def rows():
    return study({"none": known(), MILD: known(share=0.7), HARSH: known(share=0.3), "rtn@all=4": known()})


def test_numbers_of_a_line(rows):
    line = kc.compare(rows.sample(frac=1, random_state=1)).set_index("recipe").loc[MILD]
    pd.testing.assert_series_equal(line, kc.compare(rows).set_index("recipe").loc[MILD])
    assert (line["n"], line["clusters"], line["against"], line["model"]) == (200, 200, "none", "smollm2-135m")
    assert (line["accuracy"], line["baseline_accuracy"], line["chance"]) == pytest.approx((0.7, 0.8, 0.1))
    assert line["retention"] == pytest.approx(0.6 / 0.7)
    assert (line["difference"], line["lost"], line["gained"]) == pytest.approx((-0.1, 0.1, 0))
    assert line["difference_low"] < -0.1 < line["difference_high"] < 0
    assert line["retention_low"] < line["retention"] < line["retention_high"] < 1
    assert line["p"] == pytest.approx(mcnemar([[140, 20], [0, 40]], exact=True).pvalue)
    assert (line["steps"], line["method"], line["scope"], line["pruned"]) == (1, "magnitude", "all", 0.3)


def test_holm_over_the_recipes_of_a_model_and_protocol_and_what_is_clear(rows):
    other = rows.assign(model="lab:decoder-small-s1", protocol="cloze")
    table = kc.compare(pd.concat([rows, other]))
    assert len(table) == 8
    for _, part in table.groupby(["model", "protocol"]):
        tested = part[part["recipe"] != "none"]
        assert tested["p_holm"].to_numpy() == pytest.approx(multipletests(tested["p"], method="holm")[1])
        assert part[part["recipe"] == "none"]["p_holm"].isna().all(), "nothing is compared there"
        assert dict(zip(part["recipe"], part["clear"], strict=True)) == {
            "none": False, MILD: True, HARSH: True, "rtn@all=4": False
        }  # fmt: skip


def test_what_equals_its_baseline_in_every_value_has_intervals_of_no_length():
    score = np.linspace(-3, -1, 200)
    before, same, moved = (frame(known(), score=s) for s in (score, score, score - 0.1))
    table = kc.compare(study({"none": before, "rtn@all=4": same, "rtn@all=3": moved})).set_index("recipe")
    for recipe in ("none", "rtn@all=4"):
        line = table.loc[recipe]
        assert (line["difference_low"], line["difference_high"], line["retention_low"], line["retention_high"]) == (0, 0, 1, 1)
    assert table.loc["rtn@all=3", "retention_low"] < 1 < table.loc["rtn@all=3", "retention_high"]


def test_two_recipes_compared_with_each_other_on_the_same_facts():
    """Attention against feed-forward: intervals overlap, and still the paired test tells them apart."""
    attention, feed = "magnitude@attention=0.3", "magnitude@feed_forward=0.3"
    rng = np.random.default_rng(0)
    base = rng.random(400) < 0.5
    rows = study({"none": base, attention: base & (rng.random(400) < 0.97), feed: base & (rng.random(400) < 0.88)})
    alone = kc.compare(rows).set_index("recipe")
    assert alone.loc[feed, "high"] > alone.loc[attention, "low"], "overlapping intervals"
    duel = kc.compare(rows, against={feed: attention})
    (line,) = duel.to_dict("records")
    assert (line["recipe"], line["against"]) == (feed, attention)
    assert line["baseline_accuracy"] == pytest.approx(alone.loc[attention, "accuracy"])
    assert line["clear"]
    assert line["difference_high"] < 0
    backwards = kc.compare(rows, against={"magnitude@attention=.3": feed}).iloc[0]
    assert backwards["difference"] == pytest.approx(-line["difference"])
    assert not backwards["clear"], "a gain"
    assert set(kc.compare(rows, against=feed)["against"]) == {feed}


def test_templates_of_a_fact_are_not_taken_for_more_facts():
    rng = np.random.default_rng(3)
    before, after = rng.random(150) < 0.6, rng.random(150) < 0.4
    once = kc.compare(study({"none": before, MILD: after})).iloc[1]
    thrice = kc.compare(study({"none": templates(frame(before), 3), MILD: templates(frame(after), 3)})).iloc[1]
    for name in ("low", "high", "retention_low", "retention_high", "difference_low", "difference_high"):
        assert thrice[name] == pytest.approx(once[name], abs=0.02)
    assert (once["n"], thrice["n"], thrice["clusters"]) == (150, 450, 150)
    assert thrice["p"] == pytest.approx(once["p"])


def test_by_relation_and_by_halves_of_popularity(rows):
    rows = rows.assign(relation=["capital", "currency"] * 400)
    table = kc.compare(rows, by="relation")
    assert len(table) == 8
    assert (table["n"] == 100).all()
    tested = table[table["recipe"] != "none"]
    assert tested["p_holm"].to_numpy() == pytest.approx(multipletests(tested["p"], method="holm")[1]), "one family"
    table = kc.compare(rows.assign(half=halves(rows)), by="half").set_index(["half", "recipe"])
    assert table.loc[("tail", MILD), "accuracy"] == 1, "the first facts are known, and the least popular"
    assert table.loc[("head", MILD), "accuracy"] == pytest.approx(0.4)
    some = rows.assign(popularity=rows["popularity"].where(rows["relation"] == "capital"))
    assert kc.compare(some.assign(half=halves(some)), by="half")["n"].tolist() == [50] * 8


def test_nothing_known_nothing_kept():
    table = kc.compare(study({"none": known(share=0.1), MILD: known(share=0.05)}, chance=0.2)).set_index("recipe")
    assert math.isnan(table.loc[MILD, "retention"])
    assert math.isnan(table.loc[MILD, "retention_low"])
    narrowly = kc.compare(study({"none": known(share=0.22), MILD: known(share=0.2)}, chance=0.2)).set_index("recipe")
    assert math.isfinite(narrowly.loc[MILD, "retention"])
    assert math.isnan(narrowly.loc[MILD, "retention_low"]), "hardly above chance: no interval"


def test_tasks_are_protocols_and_texts_and_relearning_are_left_out(rows):
    tasks = rows.assign(protocol="harness", relation="boolq")
    others = [rows.assign(protocol=p, correct=None) for p in ("perplexity", "relearning")]
    table = kc.compare(pd.concat([rows, tasks, *others]))
    assert list(table["protocol"].unique()) == ["rank", "task boolq"]


def test_probes_are_kept_apart(rows):
    both = pd.concat([rows.assign(facts="worldfacts", probe="a"), rows.assign(facts="lama", probe="b", chance=0.3)])
    table = kc.compare(both)
    assert table.groupby(["facts", "probe"]).size().tolist() == [4, 4]
    assert kc.compare(both, by="facts")["chance"].nunique() == 2


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda r: r[r["recipe"] != "none"], BadRequest, "none was not evaluated beside"),
        (lambda r: r.iloc[1:], BadRequest, "do not query the same facts"),
        (lambda r: r.assign(fact=r["fact"].where(r.index != 5, "other")), BadRequest, "share 199 questions"),
        (lambda r: pd.concat([r, r.iloc[:3]]), BadRequest, "3 of 803 rows repeat a question"),
        (lambda r: r.assign(correct=r["correct"].astype(float).where(r.index != 3)), BadResult, "1 of 800 rows have no value"),
        (lambda r: r.assign(correct=2), BadResult, "other than true and false"),
        (lambda r: r.assign(chance=math.nan), BadResult, "no probabilities"),
        (lambda r: r.assign(chance=np.where(r["recipe"] == MILD, 0.2, 0.1)), BadRequest, "another chance"),
        (lambda r: r.assign(fact=r["fact"].where(r.index != 5)), BadResult, "name no fact"),
        (lambda r: r.drop(columns="chance"), BadRequest, "no column chance"),
        (lambda r: r.iloc[:0], BadResult, "no rows"),
        (lambda r: r.assign(protocol="perplexity"), BadResult, "none is a question"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_compared_are_refused(rows, change, error, says):
    with pytest.raises(error, match=says) as caught:
        kc.compare(change(rows))
    assert "\n" not in str(caught.value)


def test_unknown_recipes_and_columns_are_refused(rows):
    with pytest.raises(BadRequest, match="no rows of rtn@all=2"):
        kc.compare(rows, against={MILD: "rtn@all=2"})
    with pytest.raises(BadRequest, match="magnitud"):
        kc.compare(rows, against="magnitud@all=0.5")
    with pytest.raises(BadRequest, match="no column kind"):
        kc.compare(rows, by="kind")
    with pytest.raises(BadRequest, match="rtn@all=2 was not evaluated beside none"):
        kc.compare(rows, against="rtn@all=2")
