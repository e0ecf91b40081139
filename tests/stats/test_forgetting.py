"""Losses by popularity, margin and relation: by hand, and where compression strikes blindly or not."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from kc_utils.stats.forgetting import (
    known_items,
    loss_against_baseline,
    loss_by,
    loss_by_margin,
    loss_by_popularity,
    loss_by_type,
    loss_curve,
    quantile_bins,
)
from kc_utils.stats.intervals import wilson
from kc_utils.stats.statistics import compare
from kc_utils.errors import BadRequest, BadResult
from tests.stats.made import frame, worded


def test_known_and_lost():
    found = known_items(frame([1, 0, 1, 0], margin=[1.0, -1, 2, -2]), frame([1, 1, 0, 0], margin=[3.0, 4, -1, -2]))
    assert found["lost"].tolist() == [False, True]
    assert found["margin_baseline"].tolist() == [3, 4]
    with pytest.raises(BadResult, match="answers none of 2 items"):
        known_items(frame([1, 0]), frame([0, 0]))


def test_losses_of_groups():
    relation = list("aaaaabbbbb")
    before, after = (
        frame([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], relation=relation),
        frame([1, 0, 0, 1, 1] + [0] * 5, relation=relation),
    )
    found = loss_by(after.sample(frac=1, random_state=1), before, "relation").set_index("relation")
    assert found.loc["a", ["known", "lost_of_known"]].tolist() == [4, 0.5]
    assert found.loc["a", ["lost_low", "lost_high"]].tolist() == list(wilson(2, 4))
    assert found.loc["a", "retention"] == pytest.approx(compare(after[:5], before[:5]).retention)
    assert found.loc["b", "known"] == 0
    assert math.isnan(found.loc["b", "lost_of_known"]), "nothing known, nothing to lose"
    assert math.isnan(found.loc["b", "retention"])


def test_bins_are_even_and_keep_facts_whole():
    rows = worded(frame([1] * 23, popularity=np.arange(23.0)[::-1]), 3)
    bins = quantile_bins(rows, "popularity", 4)
    assert (bins.groupby(rows["fact"]).nunique() == 1).all()
    sizes = bins[:23].value_counts()
    assert sizes.max() - sizes.min() <= 1
    assert (bins[0], bins[22]) == (4, 1)
    ordered = pd.Series(bins.to_numpy(), rows["popularity"]).sort_index()
    assert ordered.is_monotonic_increasing
    assert quantile_bins(frame([1] * 100, popularity=np.arange(100.0)), "popularity", 10).value_counts().eq(10).all()


def test_bins_within_relations_hold_of_each_as_many():
    rows = frame(
        [1] * 12, relation=list("aaaaaabbbbbb"), popularity=[1, 2, 3, 4, 5, 6, 100, 200, 300, 400, 500, np.nan]
    )
    assert quantile_bins(rows, "popularity", 2, "relation").tolist()[:11] == [1, 1, 1, 2, 2, 2, 1, 1, 2, 2, 2]
    assert quantile_bins(rows, "popularity", 2).tolist()[:11] == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    assert quantile_bins(rows, "popularity", 2).isna().tolist() == [False] * 11 + [True]
    with pytest.raises(BadRequest, match="0 facts with a popularity"):  # rows of a harness task
        quantile_bins(rows.assign(popularity=None), "popularity", 2)
    with pytest.raises(BadRequest, match="11 facts with a popularity cannot be parted into 12"):
        quantile_bins(rows, "popularity", 12)


def test_a_tail_that_suffers_is_seen():
    rng = np.random.default_rng(0)
    popularity = np.exp(rng.normal(5, 2, 800))
    order = popularity.argsort().argsort() / 800
    before = frame(rng.random(800) < 0.7, popularity=popularity)
    after = before.assign(correct=before["correct"] & (rng.random(800) < 0.3 + 0.6 * order))
    found = loss_by_popularity(after, before, bins=4)
    assert found["popularity"].tolist() == [1, 2, 3, 4]
    assert found["lost_of_known"].is_monotonic_decreasing
    assert found["retention"].is_monotonic_increasing
    assert found["lost_low"].iloc[0] > found["lost_high"].iloc[3]
    assert found["n"].tolist() == [200] * 4


def test_losses_by_margin_take_the_uncompressed_models():
    rng = np.random.default_rng(1)
    margin = rng.normal(2, 2, 500)
    before = frame(margin > 0, margin=margin)
    moved = margin + rng.normal(0, 1.5, 500)
    after = frame(moved > 0, margin=moved)
    found = loss_by_margin(after.sample(frac=1, random_state=2), before, bins=5)
    known = margin[margin > 0]
    assert found["n"].sum() == found["known"].sum() == len(known)
    assert (found["baseline_accuracy"] == 1).all()
    edges = np.sort(known)
    assert found["margin_min"].iloc[0] == edges[0]
    assert found["margin_max"].iloc[-1] == edges[-1]
    assert (found["margin_max"].to_numpy()[:-1] < found["margin_min"].to_numpy()[1:]).all()
    narrow = (margin > 0) & (margin <= found["margin_max"].iloc[0])
    assert found["lost_of_known"].iloc[0] == pytest.approx((moved[narrow] <= 0).mean())
    assert found["lost_of_known"].iloc[0] > found["lost_of_known"].iloc[-1] + 0.2
    with pytest.raises(BadRequest, match="no margin"):
        loss_by_margin(after.drop(columns="margin"), before.drop(columns="margin"))


def test_the_curve_of_losses():
    rng = np.random.default_rng(2)
    margin = rng.uniform(0, 4, 600)
    before = frame([1] * 600, margin=margin)
    after = frame(rng.random(600) > np.exp(-margin), margin=margin)
    curve = loss_curve(known_items(after, before), points=15, share=0.15)
    assert curve.window == 90
    assert (np.diff(curve.at) > 0).all()
    assert curve.share == pytest.approx(np.exp(-curve.at), abs=0.15)
    inside = (curve.low <= np.exp(-curve.at)) & (np.exp(-curve.at) <= curve.high)
    assert inside.mean() > 0.7
    nearest = np.sort(margin)[:90]
    assert curve.share[0] == pytest.approx((~after["correct"])[margin <= nearest[-1]].mean())
    with pytest.raises(BadRequest, match="too few for a curve"):
        loss_curve(known_items(after[:10], before[:10]))
    with pytest.raises(BadRequest, match="no age"):
        loss_curve(known_items(after, before), along="age")


def test_losses_by_type_of_relation():
    rows = frame([1] * 6, relation=list("aabbcc"))
    after = rows.assign(correct=[True, True, False, True, False, False])
    found = loss_by_type(after, rows, {"a": "1-1", "b": "1-1", "c": "N-M"}).set_index("type")
    assert found["lost_of_known"].to_dict() == {"1-1": 0.25, "N-M": 1.0}
    with pytest.raises(BadRequest, match="no type is given for c"):
        loss_by_type(after, rows, {"a": "1-1", "b": "1-1"})


def test_relations_against_their_baseline():
    relation = [r for r in "abcde" for _ in range(10)]
    right = [2, 4, 6, 8, 10]
    before = frame([i < k for k in right for i in range(10)], relation=relation)
    after = frame(
        [i < k - drop for k, drop in zip(right, [2, 3, 1, 1, 0], strict=True) for i in range(10)], relation=relation
    )
    found = loss_against_baseline(after, before)
    lines = found.relations.set_index("relation")
    assert lines["loss"].tolist() == pytest.approx([0.2, 0.3, 0.1, 0.1, 0.0])
    assert lines["baseline_accuracy"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert lines["lost_of_known"].tolist() == pytest.approx([1, 0.75, 1 / 6, 1 / 8, 0])
    assert (found.spearman, found.p) == pytest.approx(tuple(spearmanr([2, 3, 1, 1, 0], right)))
    assert found.oldham == pytest.approx(spearmanr([2, 3, 1, 1, 0], [1, 2.5, 5.5, 7.5, 10]).statistic)
    few = loss_against_baseline(after[:30], before[:30])
    assert math.isnan(few.spearman)
    assert len(few.relations) == 3


def test_what_is_luck_in_the_baseline_is_no_loss():
    """Both models know each relation equally; the baseline's lucky relations seem to lose. Oldham's correlation is not fooled."""
    rng = np.random.default_rng(3)
    relation = np.repeat([f"r{i:02}" for i in range(50)], 12)
    raw, oldham = [], []
    for _ in range(10):
        before, after = (frame(rng.random(600) < 0.5, relation=relation) for _ in range(2))
        found = loss_against_baseline(after, before)
        raw.append(found.spearman)
        oldham.append(found.oldham)
    assert np.mean(raw) > 0.5
    assert abs(np.mean(oldham)) < 0.2
