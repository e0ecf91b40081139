"""`kc.evaluate` and `kc.results`: rows of evaluations as one table, refused early, read from what is stored."""

import numpy as np
import pandas as pd
import pytest

import kc_utils as kc
from kc_utils.errors import BadRequest, KCError
from kc_utils.study import measure, recording
from kc_utils.study.engine import How, compute_study
from kc_utils.study.rows import REPORTED
from kc_utils.study.studyfile import load_study
from tests.study.recorded import computed, evaluated, recorded, registered, study
from tests.trained import PROBE

__all__ = ["computed", "evaluated", "recorded", "registered", "study"]  # fixtures

CAPITALS = {"relations": ["capital"], "limit": 30, "alternatives": 4}


def test_rows_hold_the_uncompressed_model_and_what_a_recipe_did(trained, results):
    rows = kc.evaluate(trained.id, ["magnitude@all=.50", "rtn@all=3"], **CAPITALS)
    assert list(rows["recipe"].unique()) == ["none", "magnitude@all=0.5", "rtn@all=3"]
    assert list(rows)[:2] == ["model", "recipe"] and list(rows)[-3:] == ["facts", "probe", "origin"]
    assert {*REPORTED, "protocol", "relation", "fact", "template", "correct", "score", "chance", "valid"} <= set(rows)
    by = rows.groupby("recipe")
    assert set(by.size()) == {60} and set(rows["facts"]) == {"worldfacts"} and set(rows["origin"]) == {"here"}
    one = by[list(REPORTED)].first()
    assert one.loc["magnitude@all=0.5", "sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert one.loc["none", "touched_fraction"] == 0 < one.loc["rtn@all=3", "touched_fraction"]
    removed = one.loc["magnitude@all=0.5", "weights_removed"]
    assert removed == pytest.approx(2 * (2 * 64 * 96 + 3 * 64 * 128) / 2, rel=0.01)
    correct = by["margin"].mean()
    assert correct["none"] > correct["magnitude@all=0.5"]
    assert rows.attrs["left_out"] == {}


WRONG = {
    "no name": ({"models": [3]}, "models are names, got 3"),
    "protocol": ({"protocols": "guess"}, "protocols.0"),
    "a word for a number": ({"limit": "few"}, r"limit: .*\(got 'few'\)"),
    "nothing": ({"facts": None}, "name facts, tasks or a text"),
    "no models": ({"models": []}, "nothing to evaluate"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_unknown_is_refused_before_anything_is_computed(trained, results, monkeypatch, name):
    monkeypatch.setattr(measure, "make", lambda *_: pytest.fail("nothing may be loaded"))
    given, message = WRONG[name]
    with pytest.raises(KCError, match=message) as error:
        kc.evaluate(**{"models": trained.id, "recipes": "rtn@all=3", "relations": None, "limit": 5} | given)
    assert "\n" not in str(error.value)
    assert not list(results.glob("cells/*/*"))
    with pytest.raises(TypeError, match="sparsity"):
        kc.evaluate(trained.id, "rtn@all=3", sparsity=0.5)


def test_relearning_has_no_uncompressed_evaluation(results):
    probe = {"facts": "lab:people", "limit": 8, "protocols": "cloze", "relearn_steps": 1}
    rows = kc.evaluate("lab:decoder-small-s1", "rtn@all=2", **probe)
    assert set(rows["recipe"]) == {"rtn@all=2"}


def test_facts_that_a_protocol_cannot_evaluate_are_counted_with_the_reason(trained_as, results):
    rows = kc.evaluate(trained_as("encoder").id, "none", relations=["capital"], limit=60)
    (protocol, text), *rest = rows.attrs["left_out"].items()
    there = rows[rows["protocol"] == "cloze"]["fact"].nunique()
    assert (protocol, rest) == ("cloze", [])
    assert text.startswith(f"{60 - there} of 60 facts: a mask stands for one piece of a word")


def test_recorded_rows_are_results(recorded, evaluated):
    rows = kc.results("small")
    assert set(rows["origin"]) == {"record of small"} and set(rows["model"]) == {"tiny-decoder"}
    assert len(rows) == 3 * 60
    (cell, before), *_ = evaluated.items()
    mine = rows[rows["recipe"] == cell.recipe].reset_index(drop=True)
    pd.testing.assert_series_equal(mine["correct"], before.rows["correct"])
    np.testing.assert_allclose(mine["score"], before.rows["score"], atol=1 / 256)
    assert mine["score"].dtype == float and mine["correct"].dtype == bool and "scores" not in rows
    fresh = kc.evaluate("tiny-decoder", "rtn@all=3", **PROBE.model_dump())
    assert set(fresh["probe"]) == set(rows["probe"]) and set(fresh["origin"]) == {"record of small"}
    for name in REPORTED:
        np.testing.assert_allclose(
            fresh.groupby("recipe")[name].first(), rows.groupby("recipe")[name].first()[["none", "rtn@all=3"]]
        )


def test_results_are_chosen_by_names_and_patterns(recorded):
    some = kc.results(models="tiny-*", recipes=["none", "rtn*"], protocols="rank", facts=["worldfacts"])
    assert set(some["recipe"]) == {"none", "rtn@all=3"} and set(some["protocol"]) == {"rank"} and len(some) == 60
    for wrong in ({"models": "lab:*"}, {"recipes": "gptq*"}, {"facts": "bear"}, {"study": "laptop"}):
        with pytest.raises(BadRequest, match="no finished evaluation fits; there are, of") as error:
            kc.results(**wrong)
        assert "\n" not in str(error.value)


def test_finished_studies_come_before_the_record_and_are_exact(recorded, evaluated, monkeypatch, tmp_path):
    monkeypatch.setenv("KC_RESULTS", str(tmp_path / "mine"))
    cells = list(evaluated)[:2]
    found = {cell.key: result for cell, result in evaluated.items()}
    monkeypatch.setattr("kc_utils.study.store.read", found.get)
    recorded.cells = cells
    recording.keep_finished(recorded)
    rows = kc.results()
    origins = rows.groupby("recipe")["origin"].first().to_dict()
    assert origins == {"none": "small", "magnitude@all=0.5": "small"}, "one origin of a model and probe"
    mine = rows[rows["recipe"] == "magnitude@all=0.5"].reset_index(drop=True)
    pd.testing.assert_series_equal(mine["score"], evaluated[cells[1]].rows["score"])
    (file,) = (tmp_path / "mine" / "finished").glob("*/*/*.parquet")
    file.write_bytes(b"cut")
    assert set(kc.results()["origin"]) == {"record of small"}, "what is damaged is passed over"


def test_a_study_that_is_computed_whole_is_a_result(project, trained, monkeypatch, tmp_path, in_process):
    monkeypatch.setenv("KC_REFERENCE", str(tmp_path / "none"))
    (project.root / "studies" / "own.yaml").write_text(
        f"title: Own\nruns:\n  a: {{notebook: decoder_pruning, parameters: {{model: '{trained.id}', relations: [capital]}}}}"
    )
    own = load_study("own")
    compute_study(own, How(1), recipes=["none"])
    with pytest.raises(BadRequest, match="no finished evaluation"):
        kc.results()
    compute_study(own, How(1))
    rows = kc.results("own")
    assert set(rows["recipe"]) == {"none", "magnitude@all=0.5"} and set(rows["origin"]) == {"own"}
    assert len(rows) == 2 * 2 * 20


def test_rows_of_texts_and_tasks_stand_beside_facts(trained, results, tmp_path):
    text = tmp_path / "capitals.txt"
    text.write_text("The capital of France is Paris. " * 20)
    rows = kc.evaluate(trained.id, "rtn@all=2", text=str(text), **CAPITALS)
    assert set(rows["protocol"]) == {"cloze", "rank", "perplexity"}
    assert rows.loc[rows["protocol"] == "perplexity", "correct"].isna().all()
    assert set(rows["facts"]) == {"worldfacts"}
    only = kc.evaluate(trained.id, "rtn@all=2", facts=None, text=str(text))
    assert set(only["facts"]) == {"capitals"} and only.attrs["left_out"] == {}
