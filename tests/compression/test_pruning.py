"""Row, N:M and random pruning."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import prune

from kc_utils.compression import pruning
from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest
from kc_utils.models.scopes import select
from tests.models.architectures import tiny


def drawn(sizes, k, seed):
    tensors = {name: torch.ones(size) for name, size in sizes.items()}
    pruning.zero_random(tensors, k, seed)
    return {name: t == 0 for name, t in tensors.items()}


def test_random_pruning_depends_on_seed_and_names_and_not_on_order():
    sizes = {"a": (pruning.DRAWN + 3,), "b": (40, 50)}
    first = drawn(sizes, 9000, 1)
    again = drawn(dict(reversed(sizes.items())), 9000, 1)
    other = drawn(sizes, 9000, 2)
    assert all(torch.equal(first[n], again[n]) for n in sizes)
    assert not torch.equal(first["a"], other["a"])
    more = drawn(sizes, 12000, 1)
    assert [sum(int(z.sum()) for z in some.values()) for some in (first, more, drawn(sizes, 0, 1))] == [9000, 12000, 0]
    assert all(bool((more[n] | ~first[n]).all()) for n in sizes)  # the larger draw holds the smaller


def test_the_draw_is_that_of_the_stored_results():
    """Rows of earlier runs hold good only while the same seed draws the same weights."""
    gone = [mask.flatten().nonzero().flatten().tolist() for mask in drawn({"a": (50,), "b": (3, 20)}, 6, 1).values()]
    assert gone == [[10, 12], [11, 24, 30, 34]]
    assert pruning.random_rows(20, 4, 3, "head").tolist() == [13, 16, 6, 17]


@pytest.mark.parametrize(("method", "order"), [("rows-l1", 1), ("rows-l2", 2)])
@pytest.mark.parametrize("amount", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_rows_equal_torch(method, order, amount):
    ours, theirs = tiny("opt"), tiny("opt")
    apply(ours, Recipe.parse(f"{method}@all={amount}"))
    for m in select(theirs, "all"):
        prune.ln_structured(m.module, "weight", amount=amount, n=order, dim=0)
        prune.remove(m.module, "weight")
    for a, b in zip(select(ours, "all"), select(theirs, "all"), strict=True):
        assert torch.equal(a.weight, b.weight), a.name


def test_random_rows():
    model = tiny("bart")
    report = apply(model, Recipe.parse("random-rows@head=0.2,seed=3"))
    gone = (model.lm_head.weight == 0).all(1)
    assert int(gone.sum()) == 8 == report.zeros // 16
    assert bool((model.lm_head.weight[~gone] != 0).all())
    assert set(pruning.random_rows(40, 8, 3, "lm_head.weight").tolist()) == set(gone.nonzero().flatten().tolist())
    assert set(pruning.random_rows(40, 8, 4, "lm_head.weight").tolist()) != set(gone.nonzero().flatten().tolist())


@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from([(2, 4), (4, 8), (1, 2), (3, 5)]), st.integers(0, 3))
def test_n_of_m_zeroes_exactly_with_ties_by_position(outputs, groups, pattern, seed):
    n, m = pattern
    weight = torch.from_numpy(np.random.default_rng(seed).integers(1, 3, (outputs, groups * m)).astype(np.float32))
    expected = weight.clone().view(-1, m)
    for group in expected:
        group[torch.from_numpy(np.argsort(group.abs().numpy(), kind="stable")[: m - n].copy())] = 0
    pruning.keep_n_of_m(weight, n, m)
    assert torch.equal(weight.view(-1, m), expected)


def test_n_of_m_runs_along_the_inputs_of_a_conv1d():
    model = tiny("gpt2")
    report = apply(model, Recipe.parse("2:4@feed_forward"))
    assert report.sparsity == 0.5
    stored = model.transformer.h[1].mlp.c_proj.weight  # (in, out)
    assert bool(((stored.t().reshape(-1, 4) == 0).sum(1) == 2).all())


def test_a_width_that_m_does_not_divide_is_refused_before_anything_changes():
    model = tiny("llama")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(BadRequest, match=r"mlp\.down_proj\.weight has 24 inputs, not a multiple of 16"):
        apply(model, Recipe.parse("magnitude@all=0.5+8:16@all"))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
