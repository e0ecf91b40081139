import pytest

from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, MissingData
from kc_utils.probing.probe import Asked
from kc_utils.study.grids import TECHNIQUES, parameters, split_template

NAMES = ("pruning", "quantization", "pruning_then_quantization", "final_layer", "gptq")


def recipes(trained, technique, **values):
    return parameters(f"decoder_{technique}", model=trained.id, **values).recipes()


def test_recipes_of_each_technique(trained):
    assert recipes(trained, "pruning", scopes=["all", "head"], sparsities=[0.1, 0.5]) == [
        "magnitude@all=0.1", "magnitude@all=0.5", "magnitude@head=0.1", "magnitude@head=0.5",
    ]  # fmt: skip
    assert recipes(trained, "pruning", scopes=["all"], sparsities=[0.1], per="layer") == ["magnitude@all=0.1,per=layer"]
    assert recipes(trained, "pruning", scopes=["all"], sparsities=[0.1], method="random") == ["random@all=0.1"]
    assert recipes(trained, "quantization", scopes=["all"], bits=[4, 2], group=32) == [
        "int8@all", "rtn@all=4,group=32", "rtn@all=2,group=32",
    ]  # fmt: skip
    assert recipes(trained, "quantization", scopes=["all"], bits=[4], methods=["rtn"], group=64) == ["rtn@all=4"]
    assert recipes(trained, "pruning_then_quantization", scopes=["all"], sparsities=[0.2], quantizations=["rtn 4"]) == [
        "magnitude@all=0.2", "rtn@all=4", "magnitude@all=0.2+rtn@all=4",
    ]  # fmt: skip
    assert recipes(trained, "final_layer", methods=["rows-l1", "random"], sparsities=[0.3]) == [
        "rows-l1@head=0.3", "random@head=0.3",
    ]  # fmt: skip


def test_every_way_to_store_weights_has_the_options_it_takes(trained):
    methods = ["int8", "rtn", "int8-weight", "int4-weight", "nf4", "llm-int8"]
    found = recipes(
        trained, "quantization", scopes=["attention"], methods=methods, bits=[3], group=32, int8_engine="torch"
    )
    assert found == [
        "int8@attention,engine=torch", "rtn@attention=3,group=32", "int8-weight@attention",
        "int4-weight@attention,group=32", "nf4@attention,group=32", "llm-int8@attention",
    ]  # fmt: skip


@pytest.mark.parametrize("technique", ["pruning", "quantization", "pruning_then_quantization"])
def test_the_papers_sets_of_matrices_reach_every_step(trained, technique):
    values = {} if technique == "quantization" else {"sparsities": [0.3]}
    for text in recipes(trained, technique, preset="paper", **values):
        assert all(step.options["preset"] == "paper" for step in Recipe.parse(text).steps), text


def test_gptq_stands_beside_rounding_on_the_same_grid(trained):
    checked = parameters("decoder_gptq", model=trained.id, scopes=["attention"], bits=[4, 3], group=32, samples=4)
    assert checked.pairs() == [
        ("gptq@attention=4,group=32,samples=4", "rtn@attention=4,group=32,sym=true"),
        ("gptq@attention=3,group=32,samples=4", "rtn@attention=3,group=32,sym=true"),
    ]
    assert [c.recipe for c in checked.cells()] == ["none", *(r for pair in checked.pairs() for r in pair)]
    for gptq, rtn in (map(Recipe.parse, pair) for pair in checked.pairs()):
        same = [(s.scope, s.amount, s.options["group"], s.options["sym"]) for s in (*gptq.steps, *rtn.steps)]
        assert same[0] == same[1]
    asymmetric = parameters("decoder_gptq", model=trained.id, bits=[4], sym=False)
    assert asymmetric.recipes() == ["gptq@all=4,sym=false", "rtn@all=4,group=128"]


def test_second_steps_take_amounts_and_options(trained):
    found = recipes(
        trained, "pruning_then_quantization", scopes=["all"], sparsities=[0.2],
        quantizations=["rtn 3, group=32", "nf4", "int8,engine=torch"],
    )  # fmt: skip
    assert found[1:4] == ["rtn@all=3,group=32", "nf4@all", "int8@all,engine=torch"]


def test_cells_begin_with_the_uncompressed_model_and_do_not_repeat(trained):
    checked = parameters("decoder_pruning", model=trained.id, scopes=["all", "all"], sparsities=[0.5, 0.50, 0.1])
    assert [c.recipe for c in checked.cells()] == ["none", "magnitude@all=0.5", "magnitude@all=0.1"]
    assert all(c.probe == checked.probe for c in checked.cells())
    for name in Asked.model_fields:
        assert getattr(checked, name) == getattr(checked.probe, name)


def test_pairs_stand_beside_their_parts(trained):
    texts = recipes(trained, "pruning_then_quantization")
    pairs = [t for t in texts if len(Recipe.parse(t).steps) == 2]
    assert len(pairs) == 3 * 2 * 2
    for pair in pairs:
        assert set(pair.split("+")) <= set(texts)


@pytest.mark.parametrize(
    ("template", "family", "technique"),
    [(f"{prefix}_{t}", family, t) for prefix, family in
     (("decoder", "decoder"), ("encoder", "encoder"), ("encoder_decoder", "encoder-decoder")) for t in NAMES],
)  # fmt: skip
def test_notebook_names_say_family_and_technique(template, family, technique):
    assert split_template(template) == (family, technique)
    assert technique in TECHNIQUES


@pytest.mark.parametrize("template", ["pruning", "decoder", "decoder_", "decoder_distillation", "robot_pruning", ""])
def test_an_unknown_notebook_name(template):
    with pytest.raises(BadRequest, match="such as decoder_pruning"):
        split_template(template)


WRONG = {
    "unknown parameter": ({"sparsity": [0.1]}, "unknown parameter 'sparsity'; it takes"),
    "unknown model": ({"model": "gpt-5"}, "unknown model 'gpt-5'"),
    "another family": ({"model": "bert-base-uncased"}, "for models of family decoder; bert-base-uncased is of family encoder"),
    "unknown scope": ({"scopes": ["everything"]}, "everything"),
    "unknown method": ({"method": "magic"}, "method: .*'magic'"),
    "sparsity 1": ({"sparsities": [1.0]}, "from 0 to below 1"),
    "negative sparsity": ({"sparsities": [-0.1]}, "from 0 to below 1"),
    "sparsity not a number": ({"sparsities": [float("nan")]}, "from 0 to below 1"),
    "sparsity a word": ({"sparsities": ["half"]}, "sparsities.0: .*'half'"),
    "sparsities not a list": ({"sparsities": 0.5}, "sparsities"),
    "unknown preset": ({"preset": "mine"}, "preset: .*'mine'"),
    "nothing with a right answer": ({"facts": None, "text": "wikitext2"}, "needs questions with right answers"),
    "no sparsities": ({"sparsities": []}, "no recipe"),
    "no scopes": ({"scopes": []}, "no recipe"),
    "limit 0": ({"limit": 0}, "limit: .*greater than or equal to 1"),
    "unknown protocol": ({"protocols": ["guess"]}, "protocols.0: .*'cloze', 'rank', 'openbook', 'openbook-cloze' or 'generate'"),
    "no templates": ({"templates": 0}, "templates"),
    "unknown facts": ({"facts": "lore"}, "unknown facts 'lore'"),
    "unknown relation": ({"relations": ["flavour"]}, "no relation flavour"),
    "no relations": ({"relations": []}, "relations: .*at least one"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_impossible_parameters_are_refused_in_one_line(trained, name):
    changes, message = WRONG[name]
    values = {"model": trained.id, "scopes": ["all"], "sparsities": [0.5], "limit": 5} | changes
    with pytest.raises(BadRequest, match=message) as error:
        parameters("decoder_pruning", **values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("technique", "changes"),
    [
        ("quantization", {"bits": [5]}),
        ("quantization", {"bits": [4.5]}),
        ("quantization", {"bits": [4], "group": 0}),
        ("quantization", {"methods": ["gptq"]}),
        ("quantization", {"methods": []}),
        ("quantization", {"methods": ["nf4"], "group": 48}),
        ("quantization", {"int8_engine": "mine"}),
        ("gptq", {"bits": [5]}),
        ("gptq", {"bits": []}),
        ("gptq", {"samples": 0}),
        ("gptq", {"group": "tensor"}),
        ("pruning_then_quantization", {"quantizations": ["rtn 4,groups=32"]}),
        ("pruning_then_quantization", {"quantizations": ["rtn"]}),
        ("pruning_then_quantization", {"quantizations": ["rtn 5"]}),
        ("pruning_then_quantization", {"quantizations": ["int8 4"]}),
        ("final_layer", {"sparsities": [0.5], "methods": ["rtn"]}),
        ("final_layer", {"sparsities": [0.5], "methods": []}),
        ("final_layer", {}),
    ],
)
def test_impossible_parameters_of_the_other_techniques(trained, technique, changes):
    with pytest.raises(BadRequest) as error:
        parameters(f"decoder_{technique}", model=trained.id, **changes)
    assert "\n" not in str(error.value)


def test_a_model_folder_that_is_not_there():
    with pytest.raises(MissingData, match=r"no config\.json"):
        parameters("decoder_pruning", model="path:/nowhere", sparsities=[0.5])


def test_a_list_may_come_as_text_as_papermill_gives_it():
    given = {"model": "smollm2-135m", "limit": 5}
    as_text = parameters("decoder_pruning", **given, scopes="['all']", sparsities="[0.1, 0.5]")
    assert as_text == parameters("decoder_pruning", **given, scopes=["all"], sparsities=[0.1, 0.5])
    with pytest.raises(BadRequest, match="sparsities"):
        parameters("decoder_pruning", **given, sparsities="[0.1, __import__('os')]")
