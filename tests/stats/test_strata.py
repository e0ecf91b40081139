"""Curves of findings, the samples that they are read off, and the fields of recipes."""

import numpy as np
import pandas as pd
import pytest

import kc_utils as kc
from kc_utils.errors import BadRequest
from kc_utils.stats import strata
from kc_utils.stats.claims import AGAINST, FOR
from kc_utils.stats.compare import compare
from kc_utils.stats.evidence import LAB, LANGUAGE, Evidence
from kc_utils.stats.names import PRECISIONS, canonical, filled, in_order_of_precision, lab_parts, recipe_fields
from kc_utils.stats.strata import ALIKE, averages, curves, from_memory, in_lab, lab_singles, rule_of, two_sided
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
    assert found[["model", "facts", "probe"]].drop_duplicates().values.tolist() == [["smollm2-135m", "worldfacts", "wider"]]
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
        assert curve["pruned"].tolist() == [0, 0.2, 0.4, 0.6]
        assert curve["retention"].iloc[0] == 1
        assert not curve["clear"].iloc[0]
    language = table[table["seeds"] == 1].set_index("pruned")
    assert language["clear"].to_dict() == {0: False, 0.2: False, 0.4: True, 0.6: True}
    assert language.loc[0.4, "retention"] == pytest.approx(80 / 120)
    decoder = table[table["line"] == "decoder"].set_index("pruned")
    assert decoder.loc[0.4, "retention"] == pytest.approx(np.mean([(n - 40) / 120 for n in (118, 116, 114)]))


def test_a_loss_is_as_clear_on_one_page_as_on_another(monkeypatch):
    recorded = kc.results(models="smollm2-135m", protocols="rank", recipes="magnitude@*")
    there = strata.tests_at_hand().query("model == 'smollm2-135m' and protocol == 'rank'")
    assert recorded.groupby("probe")["recipe"].nunique().sum() == there["recipe"].str.startswith("magnitude@").sum()
    many = pd.DataFrame({"model": "m", "protocol": "rank", "recipe": [f"magnitude@all={n / 1000}" for n in range(400)]})
    monkeypatch.setattr(strata, "tests_at_hand", lambda: many)
    made = results(RIGHT | {"magnitude@all=0.4": 148, "magnitude@all=0.5": 144}, "m")
    assert compare(made).query("not clear")["recipe"].tolist() == ["none", "magnitude@all=0.2"]
    whole, few = (curves(from_memory(made, r)) for r in (PRUNED, r"magnitude@all=0\.[24]"))
    assert (whole.loc[whole["clear"], "pruned"].tolist(), few["clear"].any()) == ([0.5, 0.6], False), "3e-5 and 5e-4"
    line = whole.set_index("recipe").loc["magnitude@all=0.4"]
    errors = line["visible"] / (line["retention_high"] - line["retention_low"]) * 3.92
    assert errors == pytest.approx(3.84 + 0.84, abs=0.01), "normal quantiles of 0.05 / 800 and of four in five"
    means = averages(from_memory(made, PRUNED), sorted(set(made["recipe"]) - {"none"})).set_index("pruned")
    assert means["visible"][0.4] == pytest.approx(line["visible"], rel=0.1), "of one source, by its own resamples"


def test_protocols_are_never_mixed():
    both = pd.concat([rows(160), rows(80, "cloze").assign(chance=0.0)], ignore_index=True)
    pruned = pd.concat([rows(156), rows(20, "cloze").assign(chance=0.0)], ignore_index=True)
    table = from_memory(results({"none": both, "magnitude@all=0.2": pruned}), PRUNED)
    for made in (curves(table), averages(table, ["magnitude@all=0.2"])):
        made = made[made["recipe"] != "none"].set_index("protocol")["retention"]
        assert made.to_dict() == {"rank": pytest.approx(116 / 120), "cloze": pytest.approx(20 / 80)}


def test_averages_weigh_sources_and_models_alike_and_stand_on_the_same_strata():
    few = results({"none": 160, "magnitude@all=0.2": 160}, facts="bear")  # has not all that most have
    trex = results({r: n - 20 * (r != "none") for r, n in RIGHT.items()}, facts="lama:trex")
    rank, cloze = (
        from_memory(pd.concat([results(RIGHT), trex, few, lab()]), PRUNED).assign(protocol=p) for p in ("rank", "cloze")
    )
    table = averages(pd.concat([rank, cloze]), ["magnitude@all=0.4", "magnitude@all=0.2"])
    assert list(dict.fromkeys(table["whose"])) == ["smollm2-135m", "6 lab models"]
    assert set(zip(table["whose"], table["strata"], strict=True)) == {("smollm2-135m", 2), ("6 lab models", 6)}
    own = table[(table["whose"] == "smollm2-135m") & (table["protocol"] == "rank")]
    assert own["recipe"].tolist() == ["none", "magnitude@all=0.2", "magnitude@all=0.4"]
    assert own["retention"].tolist() == pytest.approx([1, np.mean([116, 96]) / 120, np.mean([80, 60]) / 120])
    assert own["clear"].tolist() == [False, True, True]


def test_word_embeddings_alone_stand_beside_ranking_where_they_were_measured(monkeypatch):
    names = [("smollm2-135m", "p1", 0.4), ("lab:decoder-small-s1", "p1", 0.3), ("lab:decoder-small-s2", "p1", 0.5)]
    monkeypatch.setattr(strata, "static_controls", lambda: pd.DataFrame(names, columns=["model", "probe", "static"]))
    sources = [results(RIGHT, probe="p1"), results(RIGHT, probe="p2", facts="bear")]
    both = {r: pd.concat([rows(n), rows(n, "cloze")], ignore_index=True) for r, n in RIGHT.items()}
    models = [results(both, f"lab:decoder-small-s{s}", "lab", probe="p1") for s in (1, 2)]
    found = curves(from_memory(pd.concat([*sources, *models]), PRUNED)).set_index(["line", "protocol"])["static_retention"]
    of = {key: part.iloc[0] for key, part in found.groupby(level=[0, 1])}
    chance = sources[0]["chance"].iloc[0]
    assert of["worldfacts", "rank"] == pytest.approx((0.4 - chance) / (160 / N - chance))
    assert of["decoder", "rank"] == pytest.approx((0.4 - chance) / (160 / N - chance)), "the mean of seeds"
    assert np.isnan(of["bear", "rank"]) and np.isnan(of["decoder", "cloze"])
    means = averages(from_memory(pd.concat(sources), PRUNED), ["magnitude@all=0.2"])
    assert means["static_retention"].isna().all(), "of one source it is not known"
    means = averages(from_memory(sources[0], PRUNED), ["magnitude@all=0.2"])
    assert set(means["static_retention"]) == {of["worldfacts", "rank"]}


@pytest.mark.parametrize("study", ["benchmarks", "lab-load"])
def test_the_table_of_controls_covers_what_is_recorded(study):
    ranked = kc.results(study, recipes="none", protocols="rank")
    known = strata.static_controls().set_index(["model", "probe"])
    for key, part in ranked.groupby(["model", "probe"]):
        line = known.loc[key]
        assert line["n"] == len(part) and line["rank"] == pytest.approx(part["correct"].mean(), abs=1e-4), "benchmarks/static.py"
        assert line["chance"] == pytest.approx(part["chance"].mean(), abs=1e-4)


def test_a_comparison_is_decided_from_both_sides():
    def sides(attention, feed_forward):
        right = {"none": 160} | {f"magnitude@attention=0.{a}": attention for a in (2, 3)}
        right |= {f"magnitude@feed_forward=0.{a}": feed_forward for a in (2, 3)}
        rows = pd.concat([results(right), *(results(right, f"lab:decoder-small-s{s}", "lab") for s in (1, 2, 3))])
        return {part.kind: part.side for part in two_sided(rule_of("attention-pruned"), Evidence(rows))}

    assert sides(100, 150) == {LANGUAGE: FOR, LAB: FOR}
    assert sides(150, 100) == {LANGUAGE: AGAINST, LAB: AGAINST}
    assert sides(150, 150)[LAB] == ALIKE, "no difference in any model"


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
