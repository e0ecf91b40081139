"""Curves of findings, the samples that they are read off, and the fields of recipes."""

import math

import numpy as np
import pandas as pd
import pytest

from kc_utils.errors import BadRequest
from kc_utils.stats.names import PRECISIONS, canonical, filled, in_order_of_precision, lab_parts, recipe_fields
from kc_utils.stats.strata import curves, from_memory, in_lab, lab_singles, milestones
from tests.stats.claimed import N, results, rows

PRUNED = r"magnitude@all=[\d.]+"
RIGHT = {"none": 160, "magnitude@all=0.2": 156, "magnitude@all=0.4": 120, "magnitude@all=0.6": 50, "rtn@all=4": 150}


def lab(counts=RIGHT, families=("decoder", "encoder"), seeds=(1, 2, 3)):
    return pd.concat(
        [
            results({r: n - 2 * s * (r != "none") for r, n in counts.items()}, f"lab:{f}-small-s{s}", "lab")
            for f in families
            for s in seeds
        ]
    )


def test_one_sample_of_each_model_and_source_from_memory():
    both = pd.concat([rows(160), rows(190, "openbook"), rows(40, "cloze")], ignore_index=True)
    table = pd.concat(
        [
            results({"none": both, "magnitude@all=0.2": both, "rtn@all=4": both}),
            results(RIGHT, probe="wider", origin="record"),
            results({**RIGHT, "none": 42}, facts="bear"),  # guesses
            results({"none": 160, "rtn@all=4": 150}, facts="lama"),  # nothing that is wanted
            results(RIGHT, "lab:decoder-small-s1", "lab:strangers"),
        ]
    )
    found = from_memory(table, PRUNED)
    assert found[["model", "facts", "probe"]].drop_duplicates().values.tolist() == [
        ["smollm2-135m", "worldfacts", "wider"]
    ]
    assert set(found["protocol"]) == {"rank"}
    assert set(found["recipe"]) == {r for r in RIGHT if r != "rtn@all=4"}
    assert from_memory(table, PRUNED, least=4).empty


def test_curves_of_language_models_and_means_of_lab_models():
    found = from_memory(pd.concat([results(RIGHT), lab()]), PRUNED)
    table = curves(found)
    assert table.groupby(["panel", "line"], sort=False)["seeds"].first().to_dict() == {
        ("smollm2-135m", "worldfacts"): 1, ("lab, small models", "encoder"): 3, ("lab, small models", "decoder"): 3,
    }  # fmt: skip
    for _, curve in table.groupby(["panel", "line"]):
        assert curve["percent"].tolist() == [0, 20, 40, 60]
        assert curve["retention"].iloc[0] == 1
        assert not curve["clear"].iloc[0]
    language = table[table["seeds"] == 1].set_index("percent")
    assert language["clear"].to_dict() == {0: False, 20: False, 40: True, 60: True}
    assert language.loc[40, "retention"] == pytest.approx(80 / 120)
    decoder = table[table["line"] == "decoder"].set_index("percent")
    assert decoder.loc[40, "retention"] == pytest.approx(np.mean([(n - 40) / 120 for n in (118, 116, 114)]))
    first = milestones(table).set_index("curve")
    assert first["percent"].to_dict() == {"worldfacts": 40, "small encoder": 20, "small decoder": 20}
    kept = language["retention"]
    assert first.loc["worldfacts", "half"] == pytest.approx(40 + 20 * (kept[40] - 0.5) / (kept[40] - kept[60]))
    mild = milestones(curves(from_memory(results({"none": 160, "magnitude@all=0.2": 160}), PRUNED)))
    assert mild["recipe"].isna().all()
    assert math.isnan(mild["half"].iloc[0])


def test_families_answer_the_same_questions_and_nothing_makes_nothing():
    table = lab()
    fewer = table[~(table["model"].str.contains("encoder") & (table["fact"] < "f010"))]
    assert set(lab_singles(from_memory(fewer, PRUNED))["n"]) == {N - 10}
    assert in_lab(pd.DataFrame({"model": ["lab:decoder-small-s1", "smollm2-135m"]})).tolist() == [True, False]
    assert curves(from_memory(table, "gptq@.*")).empty


def test_fields_of_recipes():
    both = recipe_fields("magnitude@attention=0.2+rtn@all=4")
    assert both == {
        "recipe": "magnitude@attention=0.2+rtn@all=4", "steps": 2, "method": "magnitude", "scope": "attention", "amount": 0.2,
        "pruned": 0.2, "precision": "RTN 4 bits", "bits": 4,
    }  # fmt: skip
    none = recipe_fields("none")
    assert (none["steps"], none["method"], none["amount"], none["pruned"], none["bits"]) == (0, "none", None, 0.0, None)
    assert recipe_fields("int8@all")["bits"] == 8
    assert recipe_fields("nf4@all")["precision"] in PRECISIONS
    assert canonical("magnitude@all=.50") == filled("magnitude@all={amount}", 0.5) == "magnitude@all=0.5"
    with pytest.raises(BadRequest):
        canonical("prune@all=0.5")
    assert lab_parts("lab:encoder-decoder-small-x4-s2") == ("encoder-decoder", "small-x4", "s2")
    assert lab_parts("smollm2-135m") is None
    ordered = in_order_of_precision(pd.Series(["RTN 3 bits", "int8 dynamic", "not quantized", "GPTQ 4 bits"]))
    assert list(ordered.cat.categories) == ["not quantized", "int8 dynamic", "GPTQ 4 bits", "RTN 3 bits"]
