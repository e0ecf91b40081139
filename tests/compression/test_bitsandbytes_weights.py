import pytest
import torch
from scipy.stats import norm
from torch import nn

from kc_utils.compression import bitsandbytes_weights as method
from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, BadResult
from kc_utils.models.stored import quantized
from tests.compression.test_int8 import difference_beside
from tests.models.architectures import tiny

ROWS, INPUTS, OUTPUTS = 9, 192, 40


def nf4_values():
    """The 16 values of NF4: quantiles of a normal distribution, as the QLoRA paper makes them, zero among them."""
    most = (1 - 1 / 32 + 1 - 1 / 30) / 2  # the outermost quantile: so that none is infinite
    above = norm.ppf(torch.linspace(most, 0.5, 9, dtype=torch.float64)[:-1])
    below = -norm.ppf(torch.linspace(most, 0.5, 8, dtype=torch.float64)[:-1])
    values = torch.tensor(sorted([*above, 0.0, *below]), dtype=torch.float64)
    return values / values.abs().max()


@pytest.mark.parametrize("group", [32, 64])
def test_nf4_against_the_definition(group):
    torch.manual_seed(1)
    linear = nn.Linear(INPUTS, OUTPUTS).eval()
    bias = linear.bias.detach()
    blocks = linear.weight.detach().double().reshape(-1, group)
    largest = blocks.abs().amax(1, keepdim=True)
    values = nf4_values()
    places = ((blocks / largest).unsqueeze(-1) - values).abs().argmin(-1)
    module = method.nf4(linear, group).eval()
    held = quantized(module)
    assert torch.allclose(module.weight.quant_state.code.double(), values, atol=1e-6)
    assert torch.equal(held.integers(), places.view(OUTPUTS, INPUTS).to(torch.uint8))
    wanted = (values[places] * largest).view(OUTPUTS, INPUTS)
    assert torch.allclose(held.weight().double(), wanted, atol=1e-7)
    x = torch.randn(ROWS, INPUTS)
    with torch.no_grad():
        assert torch.allclose(module(x).double(), x.double() @ wanted.t() + bias, atol=1e-5)


def test_llm_int8_depends_on_the_batch_by_its_outliers_alone():
    found = {}
    for threshold in (0, 6):
        model = tiny("llama")
        model.model.embed_tokens.weight.data[30] = 0
        model.model.embed_tokens.weight.data[30, 3] = 50  # after the norm one feature of the neighbour is large: 4
        model.model.layers[0].input_layernorm.weight.data *= 2
        apply(model, Recipe.parse(f"llm-int8@all,threshold={threshold}"))
        found[threshold] = difference_beside(model, [30, 31, 30, 32, 30, 33])
    assert found[0] < 1e-6
    assert found[6] > 1e-4


def test_a_group_that_does_not_divide_the_inputs_is_refused_because_the_library_computes_it_wrongly():
    model = tiny("llama")
    with pytest.raises(BadRequest, match="16 inputs, which 64 does not divide, and bitsandbytes would compute"):
        apply(model, Recipe.parse("nf4@all"))
    assert not any(quantized(m) for m in model.modules())


def test_weights_beyond_half_precision_are_not_quantized_to_nonsense():
    model = tiny("llama")
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = 1e6
    with pytest.raises(BadResult, match=r"up_proj\.weight are not finite"):
        apply(model, Recipe.parse("llm-int8@feed_forward"))
