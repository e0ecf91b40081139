"""int8 products in float32: the same whole numbers as int64 gives, also where every term is as large as can be."""

import pytest
import torch
from torchao.kernel import intmm

from kc_utils.compression import int8_products
from kc_utils.compression.apply import apply
from kc_utils.compression.int8_products import exact_product, install, scaled_product
from kc_utils.compression.recipe import Recipe
from tests.models.architectures import logits, tiny

THEIRS = intmm._int_scaled_matmul_cpu  # when tests are collected, before any of them installs another


@pytest.mark.parametrize("inner", [1, 64, 1024, 1025, 2500, 5000])
@pytest.mark.parametrize("values", ["random", "largest", "smallest", "alternating"])
def test_products_are_exact(inner, values):
    torch.manual_seed(0)
    shapes = (7, inner), (inner, 9)
    a, b = {
        "random": lambda: [torch.randint(-128, 128, s, dtype=torch.int8) for s in shapes],
        "largest": lambda: [torch.full(s, 127, dtype=torch.int8) for s in shapes],
        "smallest": lambda: [torch.full(s, -128, dtype=torch.int8) for s in shapes],
        "alternating": lambda: [(torch.arange(s[0] * s[1]) % 2 * 255 - 128).to(torch.int8).reshape(s) for s in shapes],
    }[values]()
    expected = a.long() @ b.long()
    found = exact_product(a, b)
    assert found.dtype == torch.int32
    assert (found.long() == expected).all()
    scales = torch.rand(7, 1)
    assert torch.equal(scaled_product(a, b, scales), expected.int().float() * scales)


@pytest.fixture
def own(monkeypatch):
    """torchao's product, in its place again, whatever was installed before."""
    monkeypatch.setattr(intmm, "_int_scaled_matmul_cpu", THEIRS)
    return THEIRS


def test_a_model_scores_alike_with_either_product(own, monkeypatch):
    found = []
    for product in (own, scaled_product):
        monkeypatch.setattr(int8_products, "install", lambda: False)
        monkeypatch.setattr(intmm, "_int_scaled_matmul_cpu", product)
        model = tiny("llama")
        apply(model, Recipe.parse("int8@all"))
        found.append(logits(model))
    assert torch.equal(*found)


@pytest.mark.parametrize(("vnni", "amx"), [(True, False), (False, True), (False, False)])
def test_processors_that_have_instructions_keep_them(own, monkeypatch, vnni, amx):
    monkeypatch.setattr(intmm, "_int_scaled_matmul_cpu", own)
    monkeypatch.setattr(intmm, "_cpu_is_vnni_supported", lambda: vnni)
    monkeypatch.setattr(intmm, "_cpu_is_amx_tile_supported", lambda: amx)
    assert install() == (not (vnni or amx))
    assert (intmm._int_scaled_matmul_cpu is scaled_product) == (not (vnni or amx))
