"""What cannot be counted is refused, and the message says what to do."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kc_utils.stats.items import ITEM, checked, clusters_of, in_order, paired, same_numbers
from kc_utils.errors import BadRequest, BadResult
from tests.stats.made import frame, worded


def test_rows_come_back_in_the_order_of_their_items():
    rows = worded(frame([1, 0, 1, 1]), 2)
    shuffled = rows.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(checked(shuffled), checked(rows))
    assert checked(shuffled)["correct"].dtype == bool


@given(
    st.lists(
        st.tuples(*(st.sampled_from(names) for names in (("rank", "cloze"), ("b", "a", "é", "B"), ("2", "10", None))))
    )
)
def test_order_and_repetitions_are_those_of_pandas(items):
    rows = pd.DataFrame(items, columns=ITEM, dtype=object).assign(place=range(len(items)))
    repeated = int(rows.duplicated(ITEM).sum())
    if rows.empty or repeated:
        with pytest.raises((BadRequest, BadResult), match=f"^{repeated} of" if repeated else "asked nothing"):
            in_order(rows)
    else:
        pd.testing.assert_frame_equal(in_order(rows), rows.sort_values(ITEM, kind="stable", ignore_index=True))


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (lambda r: r.iloc[:0], BadResult, "asked nothing"),
        (lambda r: pd.concat([r, r.iloc[:2]]), BadRequest, "2 of 5 rows repeat a question"),
        (lambda r: r.drop(columns="correct"), BadRequest, "no column correct"),
        (lambda r: r.drop(columns="template"), BadRequest, "no column template"),
        (lambda r: r.assign(correct=[True, None, False]), BadResult, "1 of 3 rows have no value"),
        (lambda r: r.assign(correct=pd.array([1, pd.NA, 0], "boolean")), BadResult, "1 of 3 rows have no value"),
        (lambda r: r.assign(correct=[1.0, np.nan, 0.0]), BadResult, "1 of 3 rows have no value"),
        (lambda r: r.assign(correct=[0.5, 1, 0]), BadResult, "other than true and false"),
        (lambda r: r.assign(correct=["yes", "no", "no"]), BadResult, "no value"),
        (lambda r: r.assign(chance=[0.1, np.nan, 0.1]), BadResult, "no probabilities"),
        (lambda r: r.assign(chance=1.5), BadResult, "no probabilities"),
    ],
)
def test_what_cannot_be_counted_is_refused(damage, error, says):
    with pytest.raises(error, match=says):
        checked(damage(frame([1, 0, 1])))


def test_objects_and_numbers_of_right_and_wrong_are_taken():
    for values in (
        [1, 0, 1],
        [1.0, 0.0, 1.0],
        pd.array([True, False, True], "boolean"),
        np.array([True, False, True], object),
    ):
        assert checked(frame([0, 0, 0]).assign(correct=values))["correct"].tolist() == [True, False, True]


def test_pairs_lie_beside_each_other_whatever_their_order():
    rows, base = frame([1, 0, 1, 0]), frame([0, 0, 1, 1])
    joined = paired(checked(rows.iloc[::-1]), checked(base), ["correct"])
    assert joined["correct"].tolist() == [True, False, True, False]
    assert joined["correct_baseline"].tolist() == [False, False, True, True]


def test_other_wrong_answers_are_not_the_same_question():
    with pytest.raises(BadRequest, match="other wrong answers"):
        paired(checked(frame([1, 0], chance=0.1)), checked(frame([1, 0], chance=0.2)), ["correct"])


def test_clusters():
    rows = worded(frame([1] * 6, relation=list("aabbcc")), 2)
    assert len(set(clusters_of(rows, "fact"))) == 6
    assert (clusters_of(rows, "fact")[:6] == clusters_of(rows, "fact")[6:]).all()
    with pytest.raises(BadRequest, match="3 relations are too few"):
        clusters_of(rows, "relation")
    many = frame([1] * 12, relation=list("abcdef") * 2)
    assert clusters_of(many, "relation").tolist() == [0, 1, 2, 3, 4, 5] * 2
    with pytest.raises(BadRequest, match="no cluster 'task'"):
        clusters_of(rows, "task")
    with pytest.raises(BadResult, match="name no fact"):
        clusters_of(rows.assign(fact=None), "fact")


def test_a_model_beside_itself_is_told_from_one_that_answers_alike():
    rows = in_order(frame([1, 0, 1], score=[0.1, np.nan, 0.3], scores=[[0.1, 0.2]] * 3))
    assert same_numbers(rows, in_order(rows.copy()))
    assert not same_numbers(rows, rows.assign(score=[0.1, np.nan, 0.31]))
