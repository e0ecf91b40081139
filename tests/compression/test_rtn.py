import math

import pytest
import torch

from kc_utils.compression import rtn
from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.models.scopes import select
from tests.models.architectures import tiny


def half(x):
    """A Python number rounded to float16."""
    return torch.tensor(x, dtype=torch.float32).half().item()


def by_hand(group, bits, sym):
    """The grid of one group in plain Python, from the definition."""
    top = 2**bits - 1
    low, high = min(*group, 0.0), max(*group, 0.0)
    if sym:
        high = max(-low, high)
        low = -high
    scale = half((high - low) / top) or 1.0
    zero = (top + 1) // 2 if sym else min(max(round(-low / scale), 0), top)
    return [scale * (min(max(round(x / scale) + zero, 0), top) - zero) for x in group]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("sym", [False, True])
@pytest.mark.parametrize("group", [4, 5, 64, "channel", "tensor"])
def test_against_a_plain_loop(bits, sym, group):
    torch.manual_seed(bits)
    weight = torch.randn(7, 13) * 0.02
    pruned = torch.rand(7, 13) < 0.4
    weight[pruned] = 0
    width = 13 if group in ("channel", 64) else group
    if group == "tensor":
        expected = torch.tensor(by_hand(weight.flatten().tolist(), bits, sym)).view(7, 13)
        number = 1
    else:
        pieces = [[row[i : i + width] for i in range(0, 13, width)] for row in weight.tolist()]
        expected = torch.tensor([[v for p in row for v in by_hand(p, bits, sym)] for row in pieces])
        number = 7 * math.ceil(13 / width)
    grid = rtn.quantize_(weight, bits, group, sym)
    torch.testing.assert_close(weight, expected, rtol=1e-6, atol=1e-9)
    assert grid.scale.numel() == grid.zero.numel() == number
    assert torch.equal(grid.weight(grid.integers(weight)), weight)  # the grid and whole numbers are all there is to it
    assert most_levels(weight, width if group != "tensor" else None) <= 2**bits
    assert bool((weight[pruned] == 0).all())


def most_levels(weight, width):
    if width is None:
        return len(weight.unique())
    return max(len(set(row[i : i + width].tolist())) for row in weight for i in range(0, weight.shape[1], width))


def test_zero_and_tiny_groups_stay_finite():
    weight = torch.tensor([[0.0, 0.0, 0.0], [1e-30, -1e-30, 0.0], [5e-5, -5e-5, 1e-5]])
    rtn.quantize_(weight, 4, "channel")
    assert bool(weight.isfinite().all())
    assert weight[:2].abs().max() < 1e-29
    assert weight[2, 0] > 0


@pytest.mark.parametrize(
    ("recipe", "bits_per_weight"),
    [  # 16-bit scale, `bits`-bit zero point; d_model 16 and d_ff 24 by hand
        ("rtn@attention.qkv=4,group=8", 4 + 20 / 8),
        ("rtn@attention.qkv=4,group=8,sym=true", 4 + 16 / 8),
        ("rtn@feed_forward.down=3,group=16", 3 + 2 * 19 / 24),  # 16 and a shorter group of 8
        ("rtn@attention.query=8,group=tensor", 8 + 24 / 256),
    ],
)
def test_bits_per_weight_by_hand(recipe, bits_per_weight):
    report = apply(tiny("llama"), Recipe.parse(recipe))
    assert report.encodings == {"dense": report.steps[0].matrices}
    assert report.bits_per_weight == pytest.approx(bits_per_weight)
    assert report.steps[0].bits == int(recipe.split("=")[1][0])


def test_a_conv1d_is_grouped_along_its_inputs():
    model, linear = tiny("gpt2"), tiny("gpt2").transformer.h[0].mlp.c_proj.weight.detach().t().contiguous()
    apply(model, Recipe.parse("rtn@feed_forward.down=3,group=32"))
    rtn.quantize_(linear, 3, 32)
    assert torch.equal(model.transformer.h[0].mlp.c_proj.weight, linear.t())


def test_bfloat16_models_stay_bfloat16():
    model = tiny("llama").bfloat16()
    apply(model, Recipe.parse("rtn@all=4,group=8"))
    for m in select(model, "all"):
        assert m.weight.dtype == torch.bfloat16
        assert most_levels(m.weight, 8) <= 16
