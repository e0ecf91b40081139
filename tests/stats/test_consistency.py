"""Consistency over templates against a count of pairs one by one."""

import itertools

import numpy as np
import pandas as pd
import pytest

from kc_utils.errors import BadResult
from kc_utils.stats.consistency import agreement, by_fact
from tests.stats.made import frame, study


def queried(predictions: dict[str, list[int]], relation="r", protocol="rank"):
    """Rows from each fact's predictions, one for each template; 0 is the right answer."""
    rows = []
    for fact, chosen in predictions.items():
        column = {"cloze": "predicted_token"}.get(protocol, "chosen")
        part = frame([c == 0 for c in chosen], protocol=protocol, relation=relation, fact=fact, popularity=1.0)
        rows.append(part.assign(template=range(len(chosen)), **{column: chosen}))
    return pd.concat(rows, ignore_index=True)


def test_pairs_by_hand():
    rows = queried({"a": [0, 0, 0], "b": [0, 2, 2], "c": [1, 2, 3], "d": [-1, -1, 0], "e": [1]})
    found = by_fact(rows.sample(frac=1, random_state=0), "chosen")
    assert found.to_dict() == pytest.approx({"a": 1, "b": 1 / 3, "c": 0, "d": 0})


@pytest.mark.parametrize("protocol", ["rank", "openbook", "cloze"])
def test_pairs_one_by_one(protocol):
    rng = np.random.default_rng(0)
    column = "predicted_token" if protocol == "cloze" else "chosen"
    predictions = {f"f{i}": rng.integers(-1, 3, rng.integers(2, 6)).tolist() for i in range(40)}
    found = by_fact(queried(predictions, protocol=protocol), column)
    for fact, chosen in predictions.items():
        pairs = list(itertools.combinations(chosen, 2))
        assert found[fact] == pytest.approx(np.mean([a == b != -1 for a, b in pairs]))


def test_a_line_for_each_recipe_beside_the_uncompressed_model():
    rng = np.random.default_rng(1)
    before = {f"f{i}": [0, 0, int(i % 4 == 0)] for i in range(80)}
    after = {fact: rng.integers(0, 2, 3).tolist() for fact in before}
    table = agreement(study({"none": queried(before), "rtn@all=3": queried(after)})).set_index("recipe")
    assert table.loc["none", "value"] == pytest.approx((60 + 20 / 3) / 80)
    line = table.loc["rtn@all=3"]
    assert line["baseline_value"] == table.loc["none", "value"]
    assert line["low"] < line["value"] < line["high"] < 1
    assert line["value"] == pytest.approx(0.5, abs=0.1)
    assert (line["facts"], line["bits"], line["protocol"]) == (80, 3, "rank")


def test_one_template_says_nothing_and_missing_predictions_are_refused():
    rows = study({"none": queried({"a": [0, 0], "b": [1, 1]})})
    assert agreement(rows[rows["template"] == 0]).empty
    assert agreement(rows.assign(protocol="generate")).empty
    with pytest.raises(BadResult, match="2 rows have no chosen"):
        agreement(rows.assign(chosen=[0, np.nan, np.nan, 1]))
    with pytest.raises(BadResult, match="no rows"):
        agreement(rows.iloc[:0])
