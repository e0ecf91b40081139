"""Cells of a study without its notebooks: once each, in several processes, and what fails told at the end."""

import json
import shutil

import pytest
import yaml

from kc_utils.errors import BadRequest, BadResult
from kc_utils.study import store
from kc_utils.study.compute import compute_study
from kc_utils.study.studyfile import load_study

pytestmark = pytest.mark.usefixtures("in_project", "results")


@pytest.fixture
def written(trained, tmp_path):
    def write(model=trained.id, **parameters):
        values = {"model": model, "scopes": ["all"], "sparsities": [0.2, 0.5], "relations": ["capital"], "limit": 30}
        asked = {"few": {"protocols": ["rank"]}, "more": {"protocols": ["cloze"]}}
        runs = {
            name: {"notebook": "decoder_pruning", "parameters": {**values, **probe, **parameters}}
            for name, probe in asked.items()
        }
        path = tmp_path / "two.yaml"
        path.write_text(yaml.safe_dump({"title": "Two probes", "runs": runs}))
        return str(path)

    return write


@pytest.mark.parametrize("cores", [2])
def test_every_cell_once(written, cores):
    study = load_study(written())
    done = compute_study(study, cores, show_progress=False)
    assert (done.cells, done.before, done.failed) == (6, 0, ())
    found = [store.made(cell.key) for cell in study.cells]
    assert sum(made["seconds"]["load"] > 0 for made in found) == 3, (
        "each version is made for the first of its two probes"
    )
    again = compute_study(study, cores, show_progress=False)
    assert (again.cells, again.before) == (6, 6)


def test_what_fails_is_told_and_the_rest_is_kept(written, trained, tmp_path):
    study = load_study(written(sparsities=[0.2], relations=["capital"]))
    broken = study.cells[1]
    folder = shutil.copytree(trained.folder, tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(BadResult, match=r"none of 4 cells could be computed; first, path:.*broken"):
        compute_study(load_study(written(model=f"path:{folder}", sparsities=[0.2])), 1, show_progress=False)
    assert not store.has(broken.key)


def test_a_part_of_a_study(written, kc):
    study = load_study(written())
    done = compute_study(study, 1, show_progress=False, models=["path:*"], recipes=["none", "*=0.2"])
    assert (done.cells, done.before) == (4, 0)
    assert [cell.recipe for cell in study.cells if not store.has(cell.key)] == ["magnitude@all=0.5"] * 2
    with pytest.raises(BadRequest, match=r"no model of study .* is 'lab:\*'; it has path:"):
        compute_study(study, 1, show_progress=False, models=["lab:*"])
    code, _, err = kc("study", "compute", written(), "--recipes", "*gptq*")
    assert code == 2 and "no recipe of study" in err and "it has none, magnitude@all=0.2, magnitude@all=0.5" in err


def test_from_the_command_line(written, kc):
    code, out, err = kc("study", "compute", written(), "--cores", "1")
    assert (code, out) == (0, "6 cells of " + written() + ", 6 of them computed now\n"), err
    code, _, err = kc("record", written())
    assert code == 2
    assert err.strip().endswith("lies on this machine alone: only models of `kc models` are recorded")
    code, out, err = kc("study", "plan", "smoke", "--gpu", "h100", "--json")
    (line,) = json.loads(out)
    assert (code, line["model"], line["fits"]) == (0, "smollm2-135m", True), err
    code, out, _ = kc("study", "plan", "smoke", "--gpu", "h100")
    assert "An estimate from arithmetic, not a measurement" in out
    code, _, err = kc("study", "plan", "smoke", "--gpu", "abacus")
    assert code == 2
    assert err.startswith("kc: no card 'abacus' in the table")
