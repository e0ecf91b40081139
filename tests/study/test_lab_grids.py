"""Notebooks over several models: which cells, probes and recipes follow from their parameters."""

import pytest

from kc_utils.errors import BadRequest
from kc_utils.study.grids import ANY, parameters, split_template, takes
from kc_utils.study.lab_grids import RELEARNED, TECHNIQUES, in_full

SMALL = {
    "retention": {
        "sparsities": [0.2], "quantizations": ["rtn 4"], "pruned_first": [0.2], "quantized_second": ["int8"],
        "final_layer": [0.5], "controls": 10,
    },
    "bits": {"compressions": ["rtn@all=4"]},
    "scopes": {"sparsities": [0.2], "weights": [1000]},
    "first_to_go": {"compressions": ["rtn@all=2"]},
    "erased_or_hidden": {"compressions": ["rtn@all=2"], "strangers": 12, "relearn_steps": 2},
}  # fmt: skip


@pytest.fixture
def models(trained_as):
    return [trained_as(family).id for family in ("decoder", "encoder")]


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_notebook_of_any_family(technique):
    assert split_template(f"lab_{technique}") == (ANY, technique)
    assert takes(f"lab_{technique}") is TECHNIQUES[technique]


@pytest.mark.parametrize("template", ["lab_pruning", "retention", "lab", "decoder_retention", "lablab_retention"])
def test_other_names_are_refused(template):
    with pytest.raises(BadRequest, match="such as decoder_pruning, or lab and one of retention"):
        split_template(template)


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_every_model_is_asked_every_probe_under_every_recipe(models, technique):
    checked = parameters(f"lab_{technique}", models=models, limit=12, **SMALL[technique])
    cells = checked.cells()
    assert cells[0].recipe == "none"
    assert len(set(cells)) == len(cells)
    assert {c.model for c in cells} == set(models)
    names = {probe: name for name, probe in checked.probes.items()}
    for model in models:
        for name in checked.probes:
            mine = [c.recipe for c in cells if c.model == model and names[c.probe] == name]
            assert set(mine) == set(checked.recipes()) | ({"none"} if name != RELEARNED else set())
    assert checked.probe is not None
    assert checked.asked_models == tuple(models)


def test_recipes_of_retention(models):
    checked = parameters("lab_retention", models=models, limit=12, **SMALL["retention"])
    assert checked.techniques() == {
        "pruning": ["magnitude@all=0.2"],
        "quantization": ["rtn@all=4"],
        "pruning_then_quantization": ["magnitude@all=0.2+int8@all"],
        "final_layer": ["magnitude@head=0.5"],
    }
    assert list(checked.probes) == ["taught", "stated", "rule"]
    assert checked.probes["stated"].protocols == ("openbook-cloze",)


def test_scopes_are_pruned_by_fractions_and_by_numbers(models):
    checked = parameters("lab_scopes", models=models, limit=12, **SMALL["scopes"])
    assert checked.recipes() == [
        "magnitude@attention=0.2", "magnitude@feed_forward=0.2", "magnitude@attention,weights=1k",
        "magnitude@feed_forward,weights=1k",
    ]  # fmt: skip


def test_pages_share_the_cells_of_taught_facts(models):
    one, other = (
        parameters(f"lab_{t}", models=models, limit=12, **SMALL[t]).probes["taught"] for t in ("retention", "bits")
    )
    assert one == other


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("int8", "int8@all"),
        ("rtn 3, group=32", "rtn@all=3,group=32"),
        ("magnitude@attention 0.2", "magnitude@attention=0.2"),
        ("magnitude 0.2 + rtn 4", "magnitude@all=0.2+rtn@all=4"),
        ("rtn@all=4", "rtn@all=4"),
        ("magnitude@all,weights=1000", "magnitude@all,weights=1k"),
    ],
)
def test_recipes_may_be_written_short(short, full):
    assert in_full(short) == full


def test_lists_may_come_as_text(models):
    given = parameters("lab_bits", models=str(models), limit="12", compressions="['rtn@all=4']")
    assert given == parameters("lab_bits", models=models, limit=12, compressions=["rtn@all=4"])


WRONG = {
    "unknown parameter": ("bits", {"recipes": ["rtn@all=4"]}, "unknown parameter 'recipes'; it takes models, limit"),
    "one model": ("bits", {"model": "smollm2-135m"}, "unknown parameter 'model'"),
    "no models": ("bits", {"models": []}, "models: .*at least 1"),
    "unknown model": ("bits", {"models": ["gpt-5"]}, "unknown model 'gpt-5'"),
    "a model twice": ("bits", {"models": ["smollm2-135m", "smollm2-135m"]}, "models: .*named twice"),
    "no recipes": ("bits", {"compressions": []}, "no recipe beside the uncompressed"),
    "not a recipe": ("bits", {"compressions": ["prune"]}, "prune"),
    "unknown method": ("retention", {"quantizations": ["magic 4"]}, "magic"),
    "sparsity 1": ("scopes", {"sparsities": [1.0]}, "from 0 to below 1"),
    "no weights": ("scopes", {"weights": ["many"]}, "weights.0"),
    "facts": ("bits", {"facts": "worldfacts"}, "unknown parameter 'facts'"),
    "least_lost 1": ("first_to_go", {"least_lost": 1.0}, "least_lost"),
    "one bin": ("first_to_go", {"bins": 1}, "bins"),
    "no shot": ("erased_or_hidden", {"shots": [0]}, "shots: .*from 1 to 16"),
    "no steps": ("erased_or_hidden", {"relearn_steps": 0}, "relearn_steps"),
}


@pytest.mark.parametrize("name", WRONG)
def test_impossible_parameters_are_refused_in_one_line(models, name):
    technique, changes, message = WRONG[name]
    with pytest.raises(BadRequest, match=message) as error:
        parameters(f"lab_{technique}", **{"models": models, "limit": 12, **SMALL[technique], **changes})
    assert "\n" not in str(error.value)
