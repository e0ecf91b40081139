"""Consistency over wordings against a count of pairs one by one."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from kc_utils.stats.consistency import consistency, consistency_by_fact
from kc_utils.stats.intervals import wilson
from kc_utils.errors import BadRequest, BadResult
from tests.stats.made import frame


def asked(predictions: dict[str, list[int]], relation="r", protocol="rank"):
    """Rows from each fact's predictions, one for each wording; 0 is the right answer."""
    rows = []
    for fact, chosen in predictions.items():
        column = {"cloze": "predicted_token"}.get(protocol, "chosen")
        part = frame([c == 0 for c in chosen], protocol=protocol, relation=relation, fact=fact, popularity=1.0)
        rows.append(part.assign(template=range(len(chosen)), **{column: chosen}))
    return pd.concat(rows, ignore_index=True)


def test_pairs_by_hand():
    rows = asked({"a": [0, 0, 0], "b": [0, 2, 2], "c": [1, 2, 3], "d": [-1, -1, 0], "e": [1]})
    found = consistency_by_fact(rows.sample(frac=1, random_state=0)).set_index("fact")
    assert found["consistency"].to_dict() == pytest.approx({"a": 1, "b": 1 / 3, "c": 0, "d": 0})
    assert found["consistent_right"].to_dict() == pytest.approx({"a": 1, "b": 0, "c": 0, "d": 0})
    assert found["accuracy"].to_dict() == pytest.approx({"a": 1, "b": 1 / 3, "c": 0, "d": 1 / 3})
    assert found["all_right"].to_dict() == {"a": True, "b": False, "c": False, "d": False}
    assert found["any_right"].to_dict() == {"a": True, "b": True, "c": False, "d": True}
    assert (found["pairs"] == 3).all()


@pytest.mark.parametrize("protocol", ["rank", "openbook", "cloze"])
def test_pairs_one_by_one(protocol):
    rng = np.random.default_rng(0)
    predictions = {f"f{i}": rng.integers(-1, 3, rng.integers(2, 6)).tolist() for i in range(40)}
    found = consistency_by_fact(asked(predictions, protocol=protocol)).set_index("fact")
    for fact, chosen in predictions.items():
        pairs = list(itertools.combinations(chosen, 2))
        assert found.loc[fact, "consistency"] == pytest.approx(np.mean([a == b != -1 for a, b in pairs]))
        assert found.loc[fact, "consistent_right"] == pytest.approx(np.mean([a == b == 0 for a, b in pairs]))


def test_micro_counts_facts_and_macro_relations():
    rows = pd.concat(
        [asked({f"a{i}": [0, 0] for i in range(9)}, "big"), asked({"b": [1, 2]}, "small")], ignore_index=True
    )
    found = consistency(rows).set_index(["average", "measure"])
    assert found.loc[("micro", "consistency"), "value"] == pytest.approx(0.9)
    assert found.loc[("macro", "consistency"), "value"] == pytest.approx(0.5)
    assert found.loc[("micro", "all_right"), ["low", "high"]].tolist() == pytest.approx(list(wilson(9, 10)))
    assert math.isnan(found.loc[("macro", "consistency"), "low"]), "two relations say nothing of others"
    assert set(found["facts"]) == {10}
    assert set(found["relations"]) == {2}


def test_intervals_hold_their_values():
    rng = np.random.default_rng(1)
    parts = [asked({f"{r}-{i}": rng.integers(0, 2, 3).tolist() for i in range(12)}, f"r{r}") for r in range(8)]
    found = consistency(pd.concat(parts, ignore_index=True))
    assert ((found["low"] < found["value"]) & (found["value"] < found["high"])).all()
    assert found["low"].min() >= 0
    assert found["high"].max() <= 1


def test_what_cannot_be_counted():
    rows = asked({"a": [0, 0], "b": [1, 1]})
    with pytest.raises(BadRequest, match="one of rank, openbook, cloze, openbook-cloze at a time"):
        consistency(pd.concat([rows, rows.assign(protocol="openbook")]))
    with pytest.raises(BadRequest, match="these rows are of generate"):
        consistency(rows.assign(protocol="generate"))
    with pytest.raises(BadRequest, match="two wordings"):
        consistency(rows[rows["template"] == 0])
    with pytest.raises(BadResult, match="2 rows have no chosen"):
        consistency(rows.assign(chosen=[0, np.nan, np.nan, 1]))
    with pytest.raises(BadResult, match="no rows"):
        consistency(rows.iloc[:0])
