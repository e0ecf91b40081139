"""What a notebook plans: its `parameters` and `grid` cells alone, checked before anything runs."""

import nbformat
import pytest

import kc_utils as kc
from kc_utils.errors import BadRequest, KCError, MissingData
from kc_utils.models.registry import registry
from kc_utils.study.notebooks import plan
from tests.conftest import ROOT
from tests.study.conftest import GRID, PARAMETERS

FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_notebook_is_valid_stripped_and_plans_its_defaults(file, in_project):
    book = nbformat.read(file, as_version=4)
    nbformat.validate(book)
    code = [c for c in book.cells if c.cell_type == "code"]
    assert all(c.outputs == [] and c.execution_count is None for c in code)
    assert not any("remove-input" in c.metadata.get("tags", ()) for c in code)
    assert [sum(tag in c.metadata.get("tags", ()) for c in code) for tag in ("parameters", "grid")] == [1, 1]
    if file.stem.startswith("lab_") and not any(model.startswith("lab:") for model in registry()):
        pytest.skip("no checkpoints of the lab here; `kc lab train --all` makes them")
    found = plan(file.stem)
    assert found.recipes and "none" not in found.recipes
    assert len(set(found.cells)) == len(found.cells) >= len(found.models) * len(found.recipes)
    assert all(kind for kind in found.notebook.declared.values()), "every parameter has a type"


def test_cells_begin_with_the_uncompressed_model_and_do_not_repeat(project, trained):
    given = {"model": trained.id, "scopes": ["all", "all"], "sparsities": [0.5, 0.50, 0.1]}
    found = plan("decoder_pruning", given)
    assert [c.recipe for c in found.cells] == ["none", "magnitude@all=0.5", "magnitude@all=0.1"]
    (probe,) = found.probes.values()
    assert (probe.facts, probe.limit, probe.protocols) == ("worldfacts", 20, ("cloze", "rank"))
    assert found.values["method"] == "magnitude", "the notebook's own default"
    assert plan("decoder_pruning", {**given, "templates": "all", "facts": "worldfacts", "limit": None}).cells


def test_several_models_and_probes(project, trained_as):
    models = [trained_as(family).id for family in ("decoder", "encoder")]
    found = plan("lab_bits", {"models": models, "steps": 4, "bits": [4, 2]})
    assert list(found.probes) == ["taught", "again"] and found.notebook.family is None
    taught, again = (
        [[c.recipe for c in found.cells if (c.probe, c.model) == (p, m)] for m in models] for p in found.probes.values()
    )
    assert taught == [["none", "rtn@all=4", "rtn@all=2"]] * 2 and again == [["rtn@all=4", "rtn@all=2"]] * 2


def test_the_name_of_a_notebook_says_the_family_of_its_models(project, trained):
    for name in ("decoder_x", "lab_x", "own"):
        assert plan(project(name, PARAMETERS, GRID), {"model": trained.id}).models == (trained.id,)
    for name, family in (("encoder_x", "encoder"), ("encoder_decoder_x", "encoder-decoder")):
        with pytest.raises(BadRequest, match=f"^{name}: it is for models of family {family}; path:.* of family decoder"):
            plan(project(name, PARAMETERS, GRID), {"model": trained.id})


WRONG = {
    "unknown parameter": ({"sparsity": [0.1]}, "has no parameter sparsity; it takes model, scopes"),
    "another family": ({"model": "bert-base-uncased"}, "for models of family decoder; bert-base-uncased is of family encoder"),
    "sparsity 1": ({"sparsities": [1.0]}, "from 0 to below 1"),
    "a text that is code": ({"sparsities": "[0.1, __import__('os')]"}, "sparsities is of type list"),
    "a text for an int": ({"bins": "many"}, "bins is of type int, got 'many'"),
    "a number for a truth": ({"deep": 1}, "deep is of type bool, got 1"),
    "nothing with a right answer": ({"facts": None, "text": "wikitext2"}, "needs questions with right answers"),
    "no sparsities": ({"sparsities": []}, "no recipe"),
    "no relations": ({"relations": []}, "relations: .*at least 1 item"),
    "no model folder": ({"model": "path:/nowhere"}, r"no config\.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_impossible_parameters_are_refused_in_one_line(project, trained, results, name):
    changes, message = WRONG[name]
    with pytest.raises(KCError, match=f"^decoder_pruning.*{message}") as error:
        plan("decoder_pruning", {"model": trained.id, "limit": 5} | changes)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, MissingData if name == "no model folder" else BadRequest)
    assert not results.exists()


BAD_CELLS = {
    "no parameters": (("x = 1",), ("other",), "own.ipynb has no cell tagged `parameters`"),
    "no grid": ((PARAMETERS,), ("parameters",), "own.ipynb has no cell tagged `grid`"),
    "another package": ((PARAMETERS, "import numpy as np\nrecipes = []"), None, "cell `grid`: imports numpy; .*standard library"),
    "a defect": ((PARAMETERS, "recipes = [1 / 0]"), None, "cell `grid`: ZeroDivisionError: division by zero"),
    "a slip": ((PARAMETERS, "recipes = ["), None, "cell `grid`, line 1: "),
    "recipes that are no texts": ((PARAMETERS, "recipes = [0.5]"), None, r"got \[0.5\]"),
    "probes that are a list": ((PARAMETERS, GRID + "\nprobes = []"), None, "probes are a dict"),
    "an unknown field of a probe": ((PARAMETERS, GRID + "\nprobes = {'a': {'fact': 1}}"), None, "'a': unknown parameter 'fact'"),
    "no model": (("sparsity: float = 0.1", "recipes = ['rtn@all=4']"), None, "declares model, or models"),
    "a model twice": (("models: list = ['smollm2-135m'] * 2", "recipes = ['rtn@all=4']"), None, "models: name at least one"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CELLS)
def test_a_notebook_that_cannot_be_planned_is_one_line(project, name):
    sources, tags, message = BAD_CELLS[name]
    project("own", *sources, **({"tags": tags} if tags else {}))
    with pytest.raises(BadRequest, match=message) as error:
        plan("own")
    assert "\n" not in str(error.value)
    with pytest.raises(BadRequest, match="no notebook 'decoder_magic' in notebooks/: there are decoder_pruning"):
        plan("decoder_magic")
    (project.root / "notebooks" / "own.ipynb").write_text("[]")
    with pytest.raises(BadRequest, match=r"own\.ipynb is not a notebook"):
        plan("own")


def test_the_planner_runs_two_cells_and_prints_nothing(project, trained, tmp_path, capsys):
    mark = tmp_path / "mark"
    project("own", PARAMETERS, GRID + "\nprint('planned')", f"open({str(mark)!r}, 'w')")
    assert plan("own", {"model": trained.id}).recipes == ("magnitude@all=0.5",)
    assert not mark.exists() and capsys.readouterr().out == ""


def test_a_notebook_checks_its_own_parameters(project, trained):
    variables = {"model": trained.id, "sparsities": "[0.1, 0.5]", "relations": ["capital"], "kc": kc, "recipes": []}
    text = kc.check("decoder_pruning", variables).data
    assert variables["sparsities"] == [0.1, 0.5]
    assert "`tiny-decoder` (decoder; licence local; a local folder)" in text and "20 facts of `worldfacts`" in text
    assert "**Recipes**: 2, and the uncompressed model" in text
    with pytest.raises(BadRequest, match="decoder_pruning has no parameter sparsitys"):
        kc.check("decoder_pruning", variables | {"sparsitys": [0.1], "In": ["# Parameters\nsparsitys = [0.1]"]})
    # a student's own variables are no parameters; what papermill wrote is
    own = variables | {"mine": 3, "In": ["", PARAMETERS, "mine = 3"]}
    assert kc.check("decoder_pruning", own)
    with pytest.raises(BadRequest, match="has no parameter mine"):
        kc.check("decoder_pruning", own | {"In": ["", PARAMETERS, "# Parameters\nmine = 3"]})
    with pytest.raises(BadRequest, match="no relation flavour"):
        kc.check("decoder_pruning", variables | {"relations": ["flavour"]})

    text = kc.check("decoder_pruning", {"model": "vicuna-7b", "relations": ["capital"]}).data
    assert "**Not run here**" in text and "licence" in text
    assert "**Note**" in kc.check("decoder_pruning", {"model": "smollm2-135m", "relations": ["capital"]}).data
