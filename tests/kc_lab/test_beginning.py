"""How weights begin: attention passes on what it looks at, looks for its like, and leaves the token to be read."""

import pytest
import torch

from kc_lab.beginning import _READERS, SHARPNESS
from kc_lab.objectives import OBJECTIVES
from kc_lab.shapes import HEADS, SIZES, fresh


@pytest.fixture(params=[(family, size) for family in OBJECTIVES for size in SIZES], ids="-".join)
def begun(request):
    model = fresh(*request.param, 1)
    return model, *_READERS[model.config.model_type](model)


def test_the_first_layer_passes_on_what_it_looks_at(begun):
    model, layers, _ = begun
    _, _, value, out = layers[0]
    through = out.weight @ value.weight
    scale = model.config.hidden_size**-0.5 if model.config.model_type == "llama" else 1.0
    torch.testing.assert_close(through, scale * torch.eye(len(through)), atol=1e-5, rtol=0)


@torch.no_grad()
def test_in_the_last_layer_a_token_looks_for_its_like(begun):
    _, layers, scaled = begun
    query, key, _, _ = layers[-1]
    states = torch.randn(400, query.weight.shape[1], generator=torch.Generator().manual_seed(0))
    asked, seen = (side.weight @ states.T for side in (query, key))
    width = len(asked) // HEADS
    scores = asked[:width].T @ seen[:width] / (width**0.5 if scaled else 1.0)
    assert float(scores.diagonal().mean()) == pytest.approx(SHARPNESS, rel=0.1)
    others = scores[~torch.eye(len(scores), dtype=torch.bool)]
    assert abs(float(others.mean())) < 0.1 * SHARPNESS


@torch.no_grad()
def test_a_decoder_still_reads_its_own_token_at_the_end():
    """What the layers add is of the size of the embeddings, not eight times as large."""
    model = fresh("decoder", "small", 1)
    ids = torch.randint(10, 200, (4, 12), generator=torch.Generator().manual_seed(0))
    states = model(ids, output_hidden_states=True).hidden_states
    before, after = states[0].norm(dim=-1).mean(), states[-2].norm(dim=-1).mean()
    assert float(after) < 3 * float(before)


def test_a_seed_determines_all_weights():
    for family in OBJECTIVES:
        first, again, other = (fresh(family, "small", seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert any(not torch.equal(first[name], other[name]) for name in first)
