import pytest
import yaml

from kc_utils.errors import BadRequest, KCError, MissingData
from kc_utils.study import studyfile
from kc_utils.study.grids import split_template
from kc_utils.study.studyfile import load_study
from tests.conftest import ROOT

STUDIES = sorted(p.stem for p in (ROOT / "studies").glob("*.yaml"))

pytestmark = pytest.mark.usefixtures("in_project", "results")


@pytest.fixture
def study(trained, tmp_path):
    """Write a study of one run with changes to it (`run=...`), its parameters or the whole file; returns its path."""

    def write(run=None, parameters=None, **file):
        content = {
            "title": "Test",
            "defaults": {"model": trained.id, "relations": ["capital"], "limit": 5},
            "runs": {
                "a-run": {
                    "notebook": "decoder_pruning",
                    "parameters": {"scopes": ["all"], "sparsities": [0.5], **(parameters or {})},
                    **(run or {}),
                }
            },
        } | file
        path = tmp_path / "test.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_of_the_project_loads(name):
    """Those that ask benchmarks, where these are; see test_paper_study.py for the others."""
    try:
        study = load_study(name, fetch=False)
    except MissingData as missing:
        pytest.skip(str(missing))
    assert study.name == name
    assert study.title
    assert study.runs
    for run in study.runs[:12]:
        assert run.parameters.asked_models
        assert split_template(run.template)
        assert run.cells[0].recipe == "none"
        assert run.output.stem == f"{run.id}-{run.digest}"


def test_the_default_study_compresses_enough():
    asked = [c for c in load_study("laptop").cells if len(c.probe.factset()) >= 500]
    assert len({c.recipe for c in asked} - {"none"}) >= 40


def test_the_studies_that_are_promised_are_there():
    assert {"laptop", "smoke"} <= set(STUDIES)


def test_defaults_are_overlaid_by_the_run(study, trained):
    (run,) = load_study(study(parameters={"limit": 7})).runs
    assert (run.study, run.id, run.template) == ("test", "a-run", "decoder_pruning")
    assert (run.parameters.limit, run.parameters.model) == (7, trained.id)
    assert run.values["method"] == "magnitude", "the notebook's own default"
    assert [c.recipe for c in run.cells] == ["none", "magnitude@all=0.5"]


def test_cells_that_runs_share_are_counted_once(study):
    run = {"notebook": "decoder_pruning", "parameters": {"scopes": ["all"], "sparsities": [0.5]}}
    loaded = load_study(study(runs={"one": run, "two": run}))
    assert len(loaded.cells) == 2
    assert loaded.run("two").cells == loaded.run("one").cells
    with pytest.raises(BadRequest, match="no run 'three': it has one, two"):
        loaded.run("three")


WRONG_RUN = {
    "unknown parameter": ({"sparsity": 0.5}, "no parameter sparsity; it takes"),
    "unknown model": ({"model": "gpt-5"}, "unknown model 'gpt-5'"),
    "unknown scope": ({"scopes": ["everything"]}, "everything"),
    "sparsity 1": ({"sparsities": [1.0]}, "from 0 to below 1"),
    "sparsity not a number": ({"sparsities": [float("nan")]}, "from 0 to below 1"),
    "unknown relation": ({"relations": ["flavour"]}, "no relation flavour"),
    "unknown facts": ({"facts": "lore"}, "unknown facts"),
    "nothing to do": ({"sparsities": []}, "no recipe"),
    "no model folder": ({"model": "path:/nowhere"}, "no config.json"),
}


@pytest.mark.parametrize("name", WRONG_RUN)
def test_a_bad_run_is_named_before_anything_runs(study, results, name):
    parameters, message = WRONG_RUN[name]
    with pytest.raises(KCError, match=rf"^test\.yaml, run a-run: .*{message}") as error:
        load_study(study(parameters=parameters))
    assert "\n" not in str(error.value)
    assert not results.exists()


def test_what_is_missing_is_told_apart_from_what_is_wrong(study):
    with pytest.raises(MissingData):
        load_study(study(parameters={"model": "path:/nowhere"}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run": {"notebook": "decoder_magic"}}, "run a-run: no notebook 'decoder_magic' in notebooks/"),
        ({"run": {"notebok": "decoder_pruning"}}, "unknown parameter 'runs.a-run.notebok'"),
        ({"titel": "x"}, "unknown parameter 'titel'; it takes title, about, defaults, runs"),
        ({"title": None}, "title: "),
        ({"runs": {}}, "names no runs"),
        ({"runs": None}, "runs: "),
        ({"runs": {"A Run": {"notebook": "decoder_pruning"}}}, "run id 'A Run' must be lower-case"),
        ({"runs": {"../x": {"notebook": "decoder_pruning"}}}, "run id '../x' must be lower-case"),
    ],
)
def test_a_bad_file_is_refused(study, change, message):
    with pytest.raises(BadRequest, match=message) as error:
        load_study(study(**change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"runs: [", b"", b"- a\n- b\n", b"\xff\xfe\x00", b"title: \tx: y"])
def test_a_file_that_is_not_a_study(tmp_path, content):
    (tmp_path / "odd.yaml").write_bytes(content)
    with pytest.raises(BadRequest, match=r"odd\.yaml") as error:
        load_study(str(tmp_path / "odd.yaml"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.yaml", "../studies/smoke"])
def test_an_unknown_study_names_the_known_ones(name):
    if name.startswith(".."):
        assert load_study(name).name == "smoke"
    else:
        with pytest.raises(BadRequest, match=r"no study 'nowhere.*choose benchmarks, laptop, paper, smoke"):
            load_study(name)


def test_outside_of_a_checkout(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadRequest, match="not inside a checkout"):
        load_study("smoke")


def test_the_name_of_an_output_follows_what_it_depends_on(study, monkeypatch):
    path = study()
    first = load_study(path).runs[0].digest
    assert load_study(path).runs[0].digest == first
    assert load_study(study(parameters={"seed": 1})).runs[0].digest != first
    run = load_study(study()).runs[0]
    monkeypatch.setattr(studyfile, "code_hash", lambda *_: "other code")
    assert run.digest != first


def test_a_run_written_twice_is_refused(study, tmp_path):
    path = tmp_path / "test.yaml"
    study()
    text = path.read_text()
    run = text[text.index("  a-run:") : text.index("title:")]
    path.write_text(text.replace(run, run + run))
    with pytest.raises(BadRequest, match="a-run is written twice"):
        load_study(str(path))


def test_defaults_are_for_the_notebooks_that_have_them(study, trained):
    """A notebook over several models takes no `relations`, which the study's other runs do."""
    one = {"notebook": "decoder_pruning", "parameters": {"scopes": ["all"], "sparsities": [0.5]}}
    several = {"notebook": "lab_bits", "parameters": {"models": [trained.id], "compressions": ["rtn 4"], "limit": 6}}
    loaded = load_study(study(runs={"one": one, "several": several}))
    assert loaded.run("one").parameters.relations == ("capital",)
    assert loaded.run("several").parameters.models == (trained.id,)
    assert loaded.run("one").digest != loaded.run("several").digest


def test_a_default_that_no_notebook_has_is_refused(study, trained):
    defaults = {"model": trained.id, "limit": 5, "relation": ["capital"]}
    with pytest.raises(BadRequest, match="test.yaml, defaults: no notebook of this study has a parameter relation"):
        load_study(study(defaults=defaults))
