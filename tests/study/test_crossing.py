"""Studies written as a grid, and what a study needs that is not here."""

import pytest
import yaml

from kc_utils.errors import BadRequest, MissingData
from kc_utils.study import data
from kc_utils.study.crossing import Crossing, matching, plain, runs_of
from kc_utils.study.studyfile import load_study
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("in_project", "results")


def crossing(**change) -> Crossing:
    given = {
        "models": ["smollm2-135m", "bert-base-uncased"],
        "probes": {"few": {"limit": 5}, "many": {"limit": 50}},
        "techniques": {"pruning": {"sparsities": [0.5]}, "final_layer": {"sparsities": [0.5]}},
    }
    return Crossing(**{**given, **change})


def test_every_model_with_every_technique_and_probe():
    runs = runs_of([crossing()])
    assert len(runs) == 2 * 2 * 2
    assert runs["smollm2-135m-pruning-few"] == (
        "decoder_pruning", {"model": "smollm2-135m", "limit": 5, "sparsities": [0.5]},
    )  # fmt: skip
    assert runs["bert-base-uncased-final-layer-many"][0] == "encoder_final_layer"
    assert plain("lab:Encoder_small-s1") == "lab-encoder-small-s1"


def test_patterns_stand_for_models_that_are_there():
    assert matching(["smollm2-135m", "bert-*", "lab:no-such-*"]) == [
        "smollm2-135m",
        "bert-base-uncased",
        "bert-large-uncased",
    ]
    assert matching(["bert-*", "bert-base-uncased"]) == ["bert-base-uncased", "bert-large-uncased"]
    assert runs_of([crossing(models=["lab:no-such-*"])]) == {}


def test_what_clashes_is_refused():
    with pytest.raises(BadRequest, match="two runs of the grid are named 'smollm2-135m-pruning-few'"):
        runs_of([crossing(), crossing()])
    with pytest.raises(BadRequest, match="probe 'few' and technique 'pruning' both set limit"):
        runs_of([crossing(techniques={"pruning": {"limit": 3}})])
    with pytest.raises(BadRequest, match="unknown model"):
        runs_of([crossing(models=["gpt-5"])])


def write(tmp_path, **content):
    path = tmp_path / "crossed.yaml"
    path.write_text(yaml.safe_dump({"title": "Crossed", **content}))
    return str(path)


def test_a_study_of_a_grid_and_single_runs(trained, tmp_path):
    grid = [
        {
            "models": [trained.id],
            "probes": {"few": {"limit": 5}},
            "techniques": {"pruning": {"scopes": ["all"], "sparsities": [0.5]}},
        }
    ]
    own = {"own": {"notebook": "decoder_pruning", "parameters": {"model": trained.id, "sparsities": [0.2]}}}
    study = load_study(write(tmp_path, grid=grid, runs=own, defaults={"relations": ["capital"]}))
    assert [run.template for run in study.runs] == ["decoder_pruning"] * 2
    assert study.runs[1].parameters.limit == 5
    assert study.runs[1].parameters.relations == ("capital",)
    with pytest.raises(BadRequest, match="unknown parameter 'grid.0.probe'"):
        load_study(write(tmp_path, grid=[{**grid[0], "probe": {}}]))
    with pytest.raises(BadRequest, match="names no runs"):
        load_study(write(tmp_path))
    clash = {study.runs[1].id: own["own"]}
    with pytest.raises(BadRequest, match="among the runs and by the grid"):
        load_study(write(tmp_path, grid=grid, runs=clash))


def test_what_is_absent_is_named_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("KC_DATA", raising=False)
    monkeypatch.setenv("KC_CACHE", str(tmp_path))
    asked = [{"facts": "bear"}, {"facts": None, "tasks": ["boolq", "worldfacts"], "text": "wikitext2"}, {}]
    found = data.absent(asked)
    assert set(found) == {"bear", "boolq", "wikitext2"}
    assert all("KC_DATA" in why for why in found.values())
    with pytest.raises(
        MissingData, match=r"study x asks bear \(and 2 more: boolq, wikitext2\), not on this machine: no BEAR"
    ):
        data.check_data("x", asked)
    data.check_data("x", [{"facts": "worldfacts"}, {"facts": "lab"}])
    assert data.absent([{"facts": None, "text": str(ROOT / "README.md")}]) == {}
