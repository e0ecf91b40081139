"""Magnitude pruning against torch.nn.utils.prune and against plain sorting."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn.utils import prune

from kc_utils.compression import magnitude
from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest
from kc_utils.models.scopes import select
from tests.models.architectures import tiny

FINITE = st.floats(-4, 4, width=32)
VALUES = st.one_of(FINITE, st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, -1e-40]))  # with ties and denormals
MATRICES = st.lists(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=VALUES), min_size=1, max_size=3
)


def kept_by_sorting(arrays, k):
    """Keep-mask of all arrays in a row: a stable sort by |w| takes equal ones by position."""
    flat = np.abs(np.concatenate([a.ravel() for a in arrays]))
    keep = np.ones(flat.size, bool)
    keep[np.argsort(flat, kind="stable")[:k]] = False
    return keep


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors]).float().numpy()


@given(MATRICES, st.floats(0, 1), st.sampled_from(magnitude.DTYPES))
def test_exactly_the_k_smallest_go_with_ties_by_position(arrays, share, dtype):
    originals = [torch.from_numpy(a).to(dtype) for a in arrays]
    k = round(share * sum(a.size for a in arrays))
    tensors = [t.clone() for t in originals]
    magnitude.prune_smallest(tensors, k)
    keep = kept_by_sorting([t.float().numpy() for t in originals], k)
    np.testing.assert_array_equal(flat(tensors), np.where(keep, flat(originals), 0))
    once = [t.clone() for t in tensors]
    magnitude.prune_smallest(tensors, k)
    assert all(torch.equal(a, b) for a, b in zip(tensors, once, strict=True)), "pruned weights are the smallest"


@pytest.mark.parametrize("kind", ["normal", "rounded", "equal", "pruned", "bfloat16", "misleading"])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.5, 0.95])
def test_many_weights_in_several_pieces(kind, share, monkeypatch):
    """Ties over pieces and matrices, in weights rounded as by a quantizer, all equal, zero in nine of ten places, or unlike the
    sample that brackets the cut."""
    monkeypatch.setattr(magnitude, "PIECE", 1000)
    monkeypatch.setattr(magnitude, "STRIDE", 25)
    weights = torch.randn(30_000, generator=torch.Generator().manual_seed(1))
    if kind == "rounded":
        weights = (weights * 8).round() / 8
    elif kind == "equal":
        weights = weights.sign() * 0.25
    elif kind == "pruned":
        weights[torch.arange(30_000) % 10 != 0] = 0
    elif kind == "bfloat16":
        weights = weights.bfloat16()
    elif kind == "misleading":
        weights[::25] *= 100
    parts, k = [weights[:6999].clone(), weights[6999:].clone().view(-1, 11)], round(share * 30_000)
    magnitude.prune_smallest(parts, k)
    keep = kept_by_sorting([weights.float().numpy()], k)
    np.testing.assert_array_equal(flat(parts), np.where(keep, weights.float().numpy(), 0))


def test_mixed_dtypes_share_one_cut():
    tensors = [torch.tensor([1.001]), torch.tensor([1.0078125], dtype=torch.bfloat16)]  # neighbours in bfloat16
    magnitude.prune_smallest(tensors, 1)
    assert [float(t) for t in tensors] == [0, 1.0078125]


@pytest.mark.parametrize("per", ["model", "layer"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bert"])
def test_recipe_equals_torch_on_models(name, per):
    ours, theirs = tiny(name), tiny(name)
    report = apply(ours, Recipe.parse(f"magnitude@all=0.37,per={per}"))
    pairs = [(m.module, "weight") for m in select(theirs, "all")]
    if per == "model":
        prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=0.37)
    else:
        for module, weight in pairs:
            prune.l1_unstructured(module, weight, amount=0.37)
    for module, weight in pairs:
        prune.remove(module, weight)
    expected = theirs.state_dict()
    assert expected.keys() == ours.state_dict().keys()
    assert all(torch.equal(weight, expected[key]) for key, weight in ours.state_dict().items())
    together = [report.weights_touched] if per == "model" else [m.numel for m in report.per_matrix]
    assert report.zeros == sum(round(0.37 * n) for n in together)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 12)), elements=VALUES), st.floats(0, 0.999))
def test_rows_are_pruned_each_by_itself(array, sparsity):
    k = round(sparsity * array.shape[1])
    weight = torch.from_numpy(array.copy())
    assert magnitude.prune_rows(weight, k) == k * len(array)
    for row, original in zip(weight.numpy(), array, strict=True):
        np.testing.assert_array_equal(row, np.where(kept_by_sorting([original], k), original, 0))


def test_per_row_means_output_neurons_of_a_conv1d_too():
    model = tiny("gpt2")
    apply(model, Recipe.parse("magnitude@feed_forward.up=0.25,per=row"))
    stored = model.transformer.h[0].mlp.c_fc.weight  # (in, out)
    assert (stored == 0).sum(0).tolist() == [4] * stored.shape[1]


def test_a_budget_in_weights_is_met_exactly():
    model = tiny("llama")
    with pytest.raises(BadRequest, match="weights only; ask for fewer"):
        apply(model, Recipe.parse("magnitude@attention,weights=10k"))
    assert apply(model, Recipe.parse("magnitude@attention,weights=500")).zeros == 500
    assert sum(int((m.weight == 0).sum()) for m in select(model, "attention")) == 500


MEMORY = """
import ctypes, pathlib, torch
from kc_utils.compression import magnitude
def resident(field):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
weights = [torch.randn(2_000_000) for _ in range(5)]
magnitude.prune_smallest([torch.randn(1000)], 500)
ctypes.CDLL(None).malloc_trim(0)
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
for k in (5_000_000, 8_000_000, 2_500_000):  # the last cut lies among weights that are zero already
    magnitude.prune_smallest(weights, k)
print((resident("VmHWM") - before) / 40_000_000)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux")
def test_it_takes_under_a_fifth_of_the_models_memory():
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.2
