"""Flips against scikit-style formulas, statsmodels and simulated guessing."""

import math

import numpy as np
import pytest
from statsmodels.stats.inter_rater import cohens_kappa

from kc_utils.stats.flips import flips, guessed_flips
from kc_utils.stats.intervals import wilson
from kc_utils.errors import BadRequest, BadResult
from tests.stats.made import frame, worded


def test_flips_by_hand():
    before = frame([1] * 6 + [0] * 4)
    after = frame([1, 1, 1, 1, 0, 0, 1, 0, 0, 0])
    found = flips(after.iloc[::-1], before)
    assert (found.n, found.lost, found.gained) == (10, 0.2, 0.1)
    assert found.flips == pytest.approx(0.3)
    assert found.flips_ci95 == wilson(3, 10)
    assert found.lost_of_right == pytest.approx(2 / 6)
    assert found.lost_of_right_ci95 == wilson(2, 6)
    assert found.gained_of_wrong == pytest.approx(1 / 4)
    assert found.gained_of_wrong_ci95 == wilson(1, 4)
    assert found.least == pytest.approx(0.1)
    assert found.unrelated == pytest.approx(0.6 * 0.5 + 0.4 * 0.5)
    assert found.agreement == pytest.approx(cohens_kappa([[4, 2], [1, 3]], return_results=False))


@pytest.mark.parametrize(("known_before", "known_after"), [(0.6, 0.4), (0.3, 0.3), (0.2, 0.5), (0.5, 0.0)])
def test_what_guessing_alone_brings(known_before, known_after):
    """A model that forgets some of what it knew, and guesses anew whatever it does not know."""
    rng = np.random.default_rng(0)
    n = 400_000
    chance = rng.choice([0.05, 0.1, 0.5], n)
    place = rng.random(n)  # what is known after is part of what was known before, or the reverse
    before = (place < known_before) | (rng.random(n) < chance)
    after = (place < known_after) | (rng.random(n) < chance)
    lost, gained = guessed_flips(before.mean(), after.mean(), chance)
    assert lost == pytest.approx((before & ~after).mean(), abs=0.003)
    assert gained == pytest.approx((~before & after).mean(), abs=0.003)


def test_flips_beyond_guessing_are_seen():
    rng = np.random.default_rng(1)
    before = frame(rng.random(600) < 0.5, chance=0.0)
    after = before.assign(correct=before["correct"] ^ (rng.random(600) < 0.2))
    found = flips(after, before)
    assert found.guessing == pytest.approx(found.least), "without chance nothing flips but what is forgotten"
    assert found.flips_ci95[0] > found.guessing


def test_landmarks():
    rows = frame([1, 0] * 20)
    same = flips(rows, rows)
    assert (same.flips, same.agreement) == (0, 1)
    assert same.flips_ci95[0] == 0 < same.flips_ci95[1]
    nothing_known = flips(rows, frame([0] * 40))
    assert math.isnan(nothing_known.lost_of_right)
    assert all(math.isnan(x) for x in nothing_known.lost_of_right_ci95)
    assert nothing_known.gained_of_wrong == 0.5
    assert math.isnan(flips(frame([1] * 5), frame([1] * 5)).agreement), "nothing could have flipped"
    assert guessed_flips(0.5, 0.5, np.ones(3)) == (0, 0)


def test_wordings_are_no_more_facts():
    rng = np.random.default_rng(2)
    before, after = frame(rng.random(80) < 0.6), frame(rng.random(80) < 0.5)
    once, thrice = flips(after, before), flips(worded(after, 3), worded(before, 3))
    assert thrice.flips == pytest.approx(once.flips)
    assert thrice.lost_of_right_ci95 == pytest.approx(once.lost_of_right_ci95, abs=0.01)


def test_other_items_are_refused():
    with pytest.raises(BadRequest, match="do not ask the same facts"):
        flips(frame([1, 0]), frame([1, 0, 1]))
    with pytest.raises(BadResult, match="asked nothing"):
        flips(frame([]), frame([]))
