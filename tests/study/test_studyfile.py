"""Study files: runs one by one and as a grid, checked as a whole before anything runs."""

import pytest

from kc_utils.errors import BadRequest, KCError, MissingData
from kc_utils.study import studyfile
from kc_utils.study.studyfile import Crossing, load_study, runs_of
from tests.conftest import ROOT

STUDIES = sorted(p.stem for p in (ROOT / "studies").glob("*.yaml"))

pytestmark = pytest.mark.usefixtures("results")


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_of_the_project_loads(name, in_project):
    """Those that need benchmarks, where these are; see test_paper_study.py for the others."""
    try:
        study = load_study(name, fetch=False)
    except MissingData as missing:
        pytest.skip(str(missing))
    assert study.name == name and study.title and study.runs
    assert all(run.plan.models and run.cells[0].recipe == "none" for run in study.runs[:12])
    if name == "laptop":
        many = [c for c in study.cells if c.model == "smollm2-135m" and len(c.probe.factset()) >= 360]
        assert len({c.recipe for c in many} - {"none"}) >= 40


def test_defaults_are_overlaid_by_the_run(study, trained):
    (run,) = load_study(study(parameters={"limit": 7})).runs
    assert (run.study, run.id, run.template, run.plan.models) == ("test", "a-run", "decoder_pruning", (trained.id,))
    assert run.plan.values["limit"] == 7 == run.cells[0].probe.limit
    assert run.plan.values["method"] == "magnitude", "the notebook's own default"
    assert [c.recipe for c in run.cells] == ["none", "magnitude@all=0.5"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": {"sparsity": 0.5}}, r"^test\.yaml, run a-run: .*no parameter sparsity; it takes"),
        ({"parameters": {"model": "path:/nowhere"}}, r"^test\.yaml, run a-run: .*no config\.json"),
        ({"run": {"notebook": "decoder_magic"}}, "run a-run: no notebook 'decoder_magic' in notebooks/"),
        ({"run": {"notebok": "decoder_pruning"}}, "unknown parameter 'runs.a-run.notebok'"),
        ({"titel": "x"}, "unknown parameter 'titel'; it takes title, about, defaults, runs"),
        ({"runs": {}}, "names no runs"),
        ({"runs": None}, "runs: "),
        ({"runs": {"../x": {"notebook": "decoder_pruning"}}}, "run id '../x' must be lower-case"),
        ({"defaults": {"relation": []}}, "defaults: no notebook of this study has a parameter relation"),
    ],
)
def test_a_bad_file_is_refused_before_anything_runs(study, results, change, message):
    with pytest.raises(KCError, match=message) as error:
        load_study(study(**change))
    assert "\n" not in str(error.value)
    assert isinstance(error.value, MissingData) == ("config" in message)
    assert not results.exists()


@pytest.mark.parametrize(
    "content", [b"runs: [", b"", b"- a\n- b\n", b"\xff\xfe\x00", b"runs:\n  a: {notebook: x}\n  a: {notebook: x}\n"]
)
def test_a_file_that_is_not_a_study(tmp_path, content):
    (tmp_path / "odd.yaml").write_bytes(content)
    says = "a is written twice" if content.count(b"notebook") == 2 else ""
    with pytest.raises(BadRequest, match=rf"odd\.yaml.*{says}") as error:
        load_study(str(tmp_path / "odd.yaml"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.yaml"])
def test_an_unknown_study_names_the_known_ones(in_project, name):
    with pytest.raises(BadRequest, match=r"no study 'nowhere.*choose benchmarks, lab-.*lab-wikipedia, laptop, paper, smoke"):
        load_study(name)


def test_the_name_of_an_output_follows_what_it_depends_on(study, project, monkeypatch):
    path = study()
    first = load_study(path).runs[0].digest
    assert load_study(path).runs[0].digest == first
    assert load_study(study(parameters={"seed": 1})).runs[0].digest != first
    monkeypatch.setattr(studyfile, "code_hash", lambda *_: "other code")
    assert load_study(study()).runs[0].digest != first


def test_defaults_are_for_the_notebooks_that_have_them(study, trained):
    """A notebook over several models takes no `relations`, which the study's other runs do."""
    one = {"notebook": "decoder_pruning", "parameters": {"scopes": ["all"], "sparsities": [0.5]}}
    several = {"notebook": "lab_bits", "parameters": {"models": [trained.id], "limit": 6}}
    loaded = load_study(study(runs={"one": one, "several": several}))
    assert loaded.runs[0].cells[0].probe.relations == ("capital",)
    assert loaded.runs[1].plan.models == (trained.id,)


def crossing(**change) -> Crossing:
    given = {
        "models": ["smollm2-135m", "bert-base-uncased"],
        "probes": {"few": {"limit": 5}, "many": {"limit": 50}},
        "techniques": {"pruning": {"sparsities": [0.5]}, "final_layer": {"sparsities": [0.5]}},
    }
    return Crossing(**(given | change))


def test_a_grid_is_models_times_techniques_times_probes():
    runs = runs_of([crossing()])
    assert len(runs) == 2 * 2 * 2
    run = runs["smollm2-135m-pruning-few"]
    assert run.parameters == {"model": "smollm2-135m", "limit": 5, "sparsities": [0.5]}
    assert run.notebook == "decoder_pruning"
    assert runs["bert-base-uncased-final-layer-many"].notebook == "encoder_final_layer"
    models = [run.parameters["model"] for run in runs_of([crossing(models=["bert-*", "bert-base-uncased"])]).values()]
    assert list(dict.fromkeys(models)) == ["bert-base-uncased", "bert-large-uncased"]
    assert runs_of([crossing(models=["lab:no-such-*"])]) == {}


def test_what_clashes_in_a_grid_is_refused():
    with pytest.raises(BadRequest, match="two runs of the grid are named 'smollm2-135m-pruning-few'"):
        runs_of([crossing(), crossing()])
    with pytest.raises(BadRequest, match="probe 'few' and technique 'pruning' both set limit"):
        runs_of([crossing(techniques={"pruning": {"limit": 3}})])
    with pytest.raises(BadRequest, match="unknown model"):
        runs_of([crossing(models=["gpt-5"])])


def test_a_study_of_a_grid_and_single_runs(study, trained):
    techniques = {"pruning": {"scopes": ["all"], "sparsities": [0.5]}}
    grid = [{"models": [trained.id], "probes": {"few": {"limit": 5}}, "techniques": techniques}]
    loaded = load_study(study(grid=grid))
    assert [run.template for run in loaded.runs] == ["decoder_pruning"] * 2
    assert loaded.runs[1].cells[0].probe.limit == 5
    with pytest.raises(BadRequest, match="unknown parameter 'grid.0.probe'"):
        load_study(study(grid=[{**grid[0], "probe": {}}]))
    own = {loaded.runs[1].id: {"notebook": "decoder_pruning"}}
    with pytest.raises(BadRequest, match="among the runs and by the grid"):
        load_study(study(grid=grid, runs=own))
