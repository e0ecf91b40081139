import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kc_utils.compression.recipe import Recipe, Step
from kc_utils.errors import BadRequest

CANONICAL = [
    ("none", "none"),
    (" magnitude@attention = 0.50 ", "magnitude@attention=0.5"),
    ("magnitude@all=0.5,per=model", "magnitude@all=0.5"),
    ("magnitude@all=.5,preset=paper,per=layer", "magnitude@all=0.5,per=layer,preset=paper"),
    ("random@head=0.3,seed=0", "random@head=0.3"),
    ("random-rows@head=2e-1", "random-rows@head=0.2"),
    ("rtn@feed_forward=4,group=64", "rtn@feed_forward=4"),
    ("rtn@feed_forward=4,sym=True,group=channel", "rtn@feed_forward=4,group=channel,sym=true"),
    ("magnitude@all=0.4 + int8@all", "magnitude@all=0.4+int8@all"),
    ("int8@all,per=channel,engine=torchao", "int8@all"),
    ("int8@all,preset=paper,per=tensor,engine=torch", "int8@all,engine=torch,per=tensor,preset=paper"),
    ("int4-weight@all,group=32,sym=True", "int4-weight@all,group=32,sym=true"),
    ("nf4@head,group=64,double=TRUE", "nf4@head,double=true"),
    ("magnitude@attention,weights=10000000", "magnitude@attention,weights=10M"),
    ("magnitude@attention.qkv[3-3]=0.5", "magnitude@attention.qkv[3]=0.5"),
]


@pytest.mark.parametrize(("text", "canonical"), CANONICAL)
def test_canonical_text(text, canonical):
    recipe = Recipe.parse(text)
    assert str(recipe) == canonical
    assert Recipe.parse(canonical) == recipe
    assert hash(Recipe.parse(canonical)) == hash(recipe)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 10**12))
def test_amounts_read_back_from_their_text(amount, weights):
    recipe = Recipe((Step("magnitude", "all", amount), Step("random", "head", None, {"weights": weights})))
    assert Recipe.parse(str(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write none"),
        ("magnitude", "METHOD@SCOPE"),
        ("magnitude@all", "how much"),
        ("magnitude@all=", "nothing follows"),
        ("magnitude@all=1", "from 0 to below 1"),
        ("magnitude@all=nan", "from 0 to below 1"),
        ("magnitude@everything=0.5", "unknown scope 'everything'.*attention"),
        ("magnitudes@all=0.5", "unknown method 'magnitudes'.*magnitude, random"),
        ("magnitude@all=0.5,sed=1", "no option 'sed'; it has per, preset, weights"),
        ("magnitude@all=0.5,per=column", "per=column: it is one of model, layer, row"),
        ("magnitude@all=0.5,per=row,per=row", "given twice"),
        ("magnitude@all=0.5,weights=10M", "exclude each other"),
        ("magnitude@all,weights=10M,per=row", "leave per= out"),
        ("magnitude@all,weights=0", "number of weights"),
        ("magnitude@all=0.5++int8@all", "a step is missing"),
        ("none+int8@all", "none stands alone"),
        ("random@head=0.3,seed=-1", "whole number of at least 0"),
        ("gptq@all=4.0", "one of 2, 3, 4, 8"),
        ("gptq@all=4,group=tensor", "a group is channel, or a whole number"),
        ("rtn@all=4,group=0", "tensor, channel"),
        ("rtn@all=4,sym=yes", "true or false"),
        ("int8@all=8", "takes no amount"),
        ("4:2@all", "unknown method '4:2'"),
    ],
)
def test_what_no_model_could_do_is_refused(text, message):
    with pytest.raises(BadRequest, match=message) as caught:
        Recipe.parse(text)
    assert "\n" not in str(caught.value)


def test_a_step_made_in_code_is_checked_too():
    assert str(Step("rtn", "all", 4)) == "rtn@all=4"
    for wrong in (("rtn", "all", 4.5), ("rtn", "all", True), ("magnitude", "all", "0.5x"), ("magnitude", "al", 0.5)):
        with pytest.raises(BadRequest):
            Step(*wrong)
    with pytest.raises(TypeError):
        Step("magnitude", "all", 0.5).options["per"] = "row"


def test_reading_a_recipe_needs_no_torch():
    code = "import sys; from kc_utils.compression.recipe import Recipe as R; R.parse('2:4@all'); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
