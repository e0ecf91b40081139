import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn
from torch.nn.utils import prune

from kc_utils.compression import magnitude, selection
from kc_utils.compression.apply import apply
from kc_utils.compression.chunks import CHUNK
from kc_utils.compression.recipe import Recipe
from kc_utils.compression.selection import Cut, cut_near_sample
from kc_utils.errors import BadModel, BadRequest
from kc_utils.models.scopes import select
from tests.models.architectures import tiny

FINITE = st.floats(-4, 4, width=32)
VALUES = st.one_of(FINITE, st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, -1e-40]))  # with ties and denormals
MATRICES = st.lists(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=VALUES), min_size=1, max_size=3
)


def smallest_by_sorting(arrays, k):
    """Keep-mask of all arrays in a row: a stable sort by |w| takes equal ones by position."""
    flat = np.abs(np.concatenate([a.ravel() for a in arrays]))
    keep = np.ones(flat.size, bool)
    keep[np.argsort(flat, kind="stable")[:k]] = False
    return keep


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors]).float().numpy()


@given(MATRICES, st.floats(0, 1))
def test_exactly_the_k_smallest_go_with_ties_by_position(arrays, share):
    k = round(share * sum(a.size for a in arrays))
    tensors = [torch.from_numpy(a.copy()) for a in arrays]
    magnitude.zero_smallest(tensors, magnitude.thresholds(tensors, [k])[0])
    before = np.concatenate([a.ravel() for a in arrays])
    np.testing.assert_array_equal(flat(tensors), np.where(smallest_by_sorting(arrays, k), before, 0))


@given(MATRICES, st.floats(0, 1))
def test_pruning_twice_changes_nothing(arrays, share):
    tensors = [torch.from_numpy(a.copy()) for a in arrays]
    k = round(share * sum(a.size for a in arrays))
    magnitude.zero_smallest(tensors, magnitude.thresholds(tensors, [k])[0])
    once = flat(tensors)
    magnitude.zero_smallest(tensors, magnitude.thresholds(tensors, [k])[0])
    np.testing.assert_array_equal(flat(tensors), once)


@given(
    MATRICES, st.lists(st.floats(0, 0.999), min_size=1, max_size=5), st.sampled_from([torch.bfloat16, torch.float16])
)
def test_a_sweep_equals_pruning_afresh_also_in_half_precision(arrays, sparsities, dtype):
    originals = [torch.from_numpy(a).to(dtype) for a in arrays]
    swept = [o.clone() for o in originals]
    matrices = [Holder(t) for t in swept]
    for _, k in magnitude.sweep(matrices, sparsities):
        fresh = [o.clone() for o in originals]
        magnitude.zero_smallest(fresh, magnitude.thresholds(fresh, [k])[0])
        assert all(torch.equal(a, b) for a, b in zip(swept, fresh, strict=True))
        keep = smallest_by_sorting([o.float().numpy() for o in originals], k)
        np.testing.assert_array_equal(flat(swept), np.where(keep, flat(originals), 0))


class Holder:
    def __init__(self, weight):
        self.weight = weight


def test_mixed_dtypes_share_one_cut():
    tensors = [torch.tensor([1.001, 0.5]), torch.tensor([1.0, 2.0], dtype=torch.bfloat16)]
    magnitude.zero_smallest(tensors, magnitude.thresholds(tensors, [3])[0])
    assert [t.tolist() for t in tensors] == [[0, 0], [0, 2]]
    tensors = [torch.tensor([1.001]), torch.tensor([1.0078125], dtype=torch.bfloat16)]  # neighbours in bfloat16
    magnitude.zero_smallest(tensors, magnitude.thresholds(tensors, [1])[0])
    assert [float(t) for t in tensors] == [0, 1.0078125]


def test_ties_over_several_chunks_and_threads():
    tensors = [torch.full((CHUNK + 5,), -0.25), torch.full((3, CHUNK), 0.25), torch.tensor([0.1, 0.25])]
    n = sum(t.numel() for t in tensors)
    k = 2 * CHUNK + 77
    magnitude.zero_smallest(tensors, magnitude.thresholds(tensors, [k])[0])
    zero = flat(tensors) == 0
    assert zero.sum() == k
    assert zero[: k - 1].all() and zero[n - 2]  # 0.1 at the end is smaller; of the equal ones the first went


def test_thresholds_say_what_they_are():
    found = magnitude.thresholds([torch.tensor([3.0, -1.0, 1.0, 2.0])], [0, 1, 2, 4])
    assert found[0] is None
    assert [(t.value, t.take, t.equal) for t in found[1:]] == [(1.0, 1, 2), (1.0, 2, 2), (3.0, 1, 1)]
    with pytest.raises(ValueError, match="between 0 and the number of keys, 4"):
        magnitude.thresholds([torch.ones(4)], [5])


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.995]))
def test_global_mask_equals_torch(seed, sparsity):
    ours, theirs = linears(seed), linears(seed)
    tensors = [m.weight.detach() for m in ours]
    k = round(sparsity * sum(t.numel() for t in tensors))
    magnitude.zero_smallest(tensors, magnitude.thresholds(tensors, [k])[0])
    prune.global_unstructured([(m, "weight") for m in theirs], pruning_method=prune.L1Unstructured, amount=sparsity)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.weight.detach(), b.weight.detach(), rtol=0, atol=0)


def linears(seed):
    torch.manual_seed(seed)
    return [nn.Linear(17, 33), nn.Linear(64, 9), nn.Linear(5, 200)]


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
    asked = (
        round(0.37 * report.weights_touched)
        if per == "model"
        else sum(round(0.37 * m.numel) for m in report.per_matrix)
    )
    assert report.zeros == asked


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 12)), elements=VALUES), st.floats(0, 0.999))
def test_rows_are_pruned_each_by_itself(array, sparsity):
    k = round(sparsity * array.shape[1])
    weight = torch.from_numpy(array.copy())
    assert magnitude.prune_rows(weight, k) == k * len(array)
    for row, original in zip(weight.numpy(), array, strict=True):
        np.testing.assert_array_equal(row, np.where(smallest_by_sorting([original], k), original, 0))


def test_per_row_means_output_neurons_of_a_conv1d_too():
    model = tiny("gpt2")
    apply(model, Recipe.parse("magnitude@feed_forward.up=0.25,per=row"))
    stored = model.transformer.h[0].mlp.c_fc.weight  # (in, out)
    assert (stored == 0).sum(0).tolist() == [4] * stored.shape[1]


@pytest.mark.parametrize("scope", ["attention", "feed_forward"])
def test_a_budget_in_weights_is_met_exactly(scope):
    model = tiny("llama")
    report = apply(model, Recipe.parse(f"magnitude@{scope},weights=500"))
    assert report.zeros == 500
    assert sum(int((m.weight == 0).sum()) for m in select(model, scope)) == 500


def test_a_budget_above_the_scope_is_refused():
    with pytest.raises(BadRequest, match="holds 1536 weights only"):
        apply(tiny("llama"), Recipe.parse("magnitude@attention,weights=10k"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", magnitude.DTYPES)
def test_weights_that_are_not_finite_are_refused(bad, dtype):
    weight = torch.ones(3, 5, dtype=dtype)
    weight[1, 2] = bad
    with pytest.raises(BadModel, match="1 weights are NaN or infinite"):
        magnitude.thresholds([torch.ones(4, dtype=dtype), weight], [2])


def test_other_dtypes_are_refused():
    with pytest.raises(BadModel, match="float64"):
        magnitude.thresholds([torch.ones(4, dtype=torch.float64)], [2])


@pytest.mark.parametrize("sparsity", [0.001, 0.3, 0.5, 0.97])
@pytest.mark.parametrize("values", ["normal", "coarse", "sorted"])
def test_the_cut_near_a_sample_is_the_cut_of_the_histograms(sparsity, values, monkeypatch):
    """Enough weights for the one-pass way; coarse values tie at the cut, sorted ones make the sample's guess hard."""
    weights = torch.randn(5 * magnitude.SAMPLE // 4, generator=torch.Generator().manual_seed(1))
    if values == "coarse":
        weights = (weights * 8).round() / 8
    elif values == "sorted":
        weights = weights.sort().values
    k = round(sparsity * weights.numel())
    expected = weights.clone()
    order = torch.argsort(weights.abs(), stable=True)
    expected[order[:k]] = 0
    parts = [weights[:1000], weights[1000:]]
    near = magnitude.thresholds(parts, [k])
    ks = [round(share * weights.numel()) for share in (0.2, 0.21, 0.6)] + [k, k + 1, 0]
    several = magnitude.thresholds(parts, ks)
    monkeypatch.setattr(magnitude, "_near_sample", lambda tensors, pieces, k: None)
    assert near == magnitude.thresholds(parts, [k])
    monkeypatch.setattr(selection, "FEW", 0)
    monkeypatch.setattr(selection, "NEAR", 0)
    counted = magnitude.thresholds(parts, ks)
    assert several == counted
    for found in near + several + counted:
        if found and found.end is not None:
            ties = np.flatnonzero(weights.abs().numpy() == np.float32(found.value))
            assert found.end == ties[found.take - 1] + 1
    swept = [part.clone() for part in parts]
    magnitude.zero_smallest(swept, several[3])
    magnitude.zero_smallest(parts, near[0])
    assert torch.equal(weights, expected)
    assert torch.equal(torch.cat(swept), expected)


@pytest.mark.parametrize("way", ["kept", "counted"])
def test_a_sweep_over_many_weights_equals_sorting(way, monkeypatch):
    """Ties at the cuts, two of them in the same ones, in two dtypes; asked for in any order, done in rising order."""
    if way == "counted":  # as where too many weights are equal
        monkeypatch.setattr(selection, "FEW", 0)
        monkeypatch.setattr(selection, "NEAR", 0)
    generator = torch.Generator().manual_seed(2)
    originals = [
        torch.randn(magnitude.SAMPLE, generator=generator),
        torch.randn(300, 700, generator=generator).bfloat16(),
    ]
    originals[0][::7] = 0.5
    originals[1][::9] = -0.5
    share_below_half = float((flat(originals).__abs__() < 0.5).mean())
    swept = [o.clone() for o in originals]
    sparsities = [share_below_half + 0.02, 0.1, 0.9, share_below_half + 0.01]
    met = []
    for sparsity, k in magnitude.sweep([Holder(t) for t in swept], sparsities):
        met.append(sparsity)
        keep = smallest_by_sorting([o.float().numpy() for o in originals], k)
        np.testing.assert_array_equal(flat(swept), np.where(keep, flat(originals), 0))
    assert met == sorted(sparsities)


@pytest.fixture
def one_thread():
    """Buffers are by thread, so that memory is measured with one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_pruned_weights_are_pruned_again_in_little_memory(one_thread):
    """Nine in ten weights are equal (zero): they are counted and not kept."""
    weights = torch.randn(20 * magnitude.SAMPLE, generator=torch.Generator().manual_seed(3))
    n = weights.numel()
    magnitude.zero_smallest([weights], magnitude.thresholds([weights], [9 * n // 10])[0])
    for ks in ([n // 2], [n // 4, n // 2]):
        tracemalloc.start()
        assert magnitude.thresholds([weights], ks)[-1].value == 0
        assert tracemalloc.get_traced_memory()[1] < 3 * n, "kept, they would take 12 bytes each"
        tracemalloc.stop()


def test_nine_sparsities_in_a_tenth_of_the_memory(one_thread):
    weights = torch.randn(100 * magnitude.SAMPLE, generator=torch.Generator().manual_seed(5))
    tracemalloc.start()
    states = list(magnitude.sweep([Holder(weights)], [i / 10 for i in range(1, 10)]))
    assert tracemalloc.get_traced_memory()[1] < 0.1 * weights.numel() * weights.element_size()
    tracemalloc.stop()
    assert int((weights == 0).sum()) == states[-1][1] == 90 * magnitude.SAMPLE


def test_weights_with_a_structure_by_position_are_sampled_evenly():
    """Rows and groups of 32, 64, ... weights: a sample that met every fourth place only would mislead."""
    weights = torch.randn(16 * magnitude.SAMPLE // 64, 64, generator=torch.Generator().manual_seed(4))
    weights *= 1 + torch.arange(64) % 4
    k = weights.numel() // 2
    found = magnitude._near_sample([weights], [weights.view(-1)], k)
    assert [cut.key for cut in found] == [int(weights.abs().view(-1).kthvalue(k).values.view(torch.int32))]


def test_a_sample_that_misleads_costs_time_only():
    keys = [np.arange(100_000, dtype=np.int32)]
    right = np.arange(0, 100_000, 5, dtype=np.int32)
    too_low, too_equal = right // 2, right // 1000
    for sample, cut in ((right, Cut(49_999, 1, 1)), (too_low, None), (too_equal, None)):
        assert cut_near_sample(keys, lambda c: c.copy(), 50_000, sample, 1 << 30) == cut
    assert cut_near_sample(keys, lambda c: c.copy(), 50_000, right, 99_999) is None, "a key that is no number"
