from collections import Counter

import pytest
import torch
import transformers
from torch import nn

from kc_utils.errors import BadModel, BadRequest
from kc_utils.models.roles import ARCHITECTURES, Architecture, Scope
from kc_utils.models.scopes import matrices, scopes, select
from tests.models.architectures import BLOCK_MATRICES, TINY, tiny


@pytest.mark.parametrize("name", TINY)
def test_every_weight_matrix_has_exactly_one_role(name):
    model = tiny(name)
    found = matrices(model)
    weights = [p for p in model.parameters() if p.dim() >= 2]  # each shared one once
    assert (len(found), sum(m.numel for m in found)) == (len(weights), sum(p.numel() for p in weights))
    assert len({m.name for m in found}) == len(found)
    for m in found:
        assert model.get_parameter(m.name).shape == m.shape
        assert m.rows.shape == (m.outputs, m.inputs)

    attention, feed_forward = select(model, "attention"), select(model, "feed_forward")
    assert (len(attention), len(feed_forward)) == BLOCK_MATRICES[name]
    names = [m.name for m in [*attention, *feed_forward]]
    assert sorted(names) == sorted(m.name for m in select(model, "all"))
    # the finest scopes split the blocks: nothing twice, nothing left out (fused gate and up has no scope of its own)
    fine = Counter()
    for scope in ("attention.qkv", "attention.output", "feed_forward.up", "feed_forward.gate", "feed_forward.down"):
        fine.update(m.name for m in found if Scope(scope).covers(m.role, m.part, m.layer))
    assert set(fine.values()) == {1}
    assert set(fine) == set(names) - {m.name for m in found if m.role == "feed_forward.gate_up"}
    # linear layers outside the blocks, counted from module types, have one of the known roles
    linear = {n for n, m in model.named_modules() if type(m).__name__ in ("Linear", "Conv1D")}
    roles = {m.name.removesuffix(".weight"): m.role for m in [*found, *select(model, "head")]}
    blocks = {name.removesuffix(".weight") for name in names}
    assert {roles[n] for n in linear - blocks} <= {"head", "transform", "projection", "pooler"}


def test_every_row_of_the_table_is_built_here():
    assert {tiny(name).config.model_type for name in TINY} == set(ARCHITECTURES)


@pytest.fixture(scope="module")
def bert_base():
    with torch.device("meta"):
        return transformers.BertForMaskedLM(transformers.BertConfig())


@pytest.mark.parametrize(
    ("scope", "preset", "number", "weights"),
    [  # the paper states 21.2, 63.7 and 85.5 million; the consistent ones by hand
        ("attention", "paper", 36, 36 * 768 * 768),
        ("feed_forward", "paper", 36, 24 * 768 * 3072 + 12 * 768 * 768),
        ("all", "paper", 73, 85_524_480),
        ("attention", "consistent", 48, 48 * 768 * 768),
        ("feed_forward", "consistent", 24, 24 * 768 * 3072),
        ("all", "consistent", 72, 84_934_656),
        ("transform", "consistent", 1, 768 * 768),
    ],
)
def test_bert_base_counts(bert_base, scope, preset, number, weights):
    found = select(bert_base, scope, preset)
    assert (len(found), sum(m.numel for m in found)) == (number, weights)


@pytest.mark.parametrize("name", TINY)
def test_the_paper_takes_the_head_only_when_quantizing_and_leaves_the_output_to_bert(name):
    model = tiny(name)
    pruned, rounded = ({m.role for m in select(model, "all", "paper", quantizing=q)} for q in (False, True))
    assert "head" not in pruned and rounded == pruned | {"head"}
    roles = {m.role for m in select(model, "attention", "paper")}
    assert ("attention.output" in roles) == (model.config.model_type not in ("bert", "roberta"))


def test_parts_and_layers_of_an_encoder_decoder():
    model = tiny("bart")  # 2 encoder layers, 3 decoder layers
    counts = {"encoder.attention": 8, "decoder.self_attention": 12, "decoder.attention": 24, "decoder": 24 + 6}
    assert {scope: len(select(model, scope)) for scope in counts} == counts
    assert all("encoder_attn" in m.name for m in select(model, "decoder.cross_attention"))
    assert {m.layer for m in select(model, "all[1-2]")} == {1, 2}
    assert {m.part for m in select(model, "all[2]")} == {"decoder", "cross"}
    assert [m.name for m in select(tiny("llama"), "attention.query[1]")] == ["model.layers.1.self_attn.q_proj.weight"]


@pytest.mark.parametrize(
    ("name", "scope", "message"),
    [
        ("llama", "decoder.cross_attention", "has no such matrix; it has all, attention"),
        ("llama", "attention[2-3]", "layers of this llama model are 0 to 1"),
        ("gpt2", "attention.query", "use attention.qkv"),
        ("phi3", "feed_forward.gate", "use feed_forward"),
        ("bert", "feed_forward.gate", "has no such matrix"),
    ],
)
def test_a_scope_that_the_model_lacks(name, scope, message):
    with pytest.raises(BadRequest, match=message):
        select(tiny(name), scope)


@pytest.mark.parametrize(
    "scope", ["attn", "all.query", "head[0]", "attention[3-1]", "attention[]", "", "embedding", "all[-1]", None]
)
def test_a_scope_that_no_model_has(scope):
    with pytest.raises(BadRequest, match="scope"):
        Scope.parse(scope)


def test_the_table_of_scopes():
    model = tiny("llama, tied")
    table = scopes(model).set_index("scope")
    weights = 2 * (16 * 16 * 2 + 2 * 8 * 16 + 3 * 16 * 24)
    assert table.loc["all", ["matrices", "weights"]].tolist() == [14, weights]
    every = sum(p.numel() for p in model.parameters() if p.dim() >= 2)
    assert table.loc["all", "share"] == pytest.approx(weights / every)
    assert table.loc[["all", "embedding"], "share"].sum() == pytest.approx(1)
    assert table.loc["head", "tied"] and not table.loc["embedding", "selectable"]
    assert [m.tied for name in ("llama, tied", "llama") for m in select(tiny(name), "head")] == [True, False]
    assert "decoder.attention" not in table.index  # the same as attention here
    assert "decoder.cross_attention" in set(scopes(tiny("t5"))["scope"])


class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.ModuleDict({"mix": nn.Linear(4, 4), "out": nn.Linear(4, 4)}) for _ in range(2)])
        self.words = nn.Embedding(9, 4)


def test_an_unknown_architecture_is_refused_with_its_matrices_and_can_be_described():
    with pytest.raises(BadModel, match=r"layers\.\*\.mix\.weight \(4 x 4\).*words\.weight \(9 x 4\).*architecture:"):
        matrices(Strange())
    stack = {"layers": "layers.*", "attention": {"qkv": "mix", "output": "out"}}
    description = {"family": "decoder", "decoder": stack, "embedding": "words"}
    assert [m.name for m in select(Strange(), "attention.qkv[1]", description=description)] == ["layers.1.mix.weight"]
    with pytest.raises(BadModel, match="words"):
        matrices(Strange(), {**description, "embedding": []})
    with pytest.raises(BadRequest, match="embeddings"):
        matrices(Strange(), {**description, "embeddings": "words"})
    with pytest.raises(BadRequest, match="an encoder or a decoder"):
        Architecture.read({"family": "decoder"})


def test_a_matrix_without_a_role_is_refused():
    model = tiny("llama")
    model.model.layers[0].adapter = nn.Linear(16, 16)
    with pytest.raises(BadModel, match=r"model\.layers\.0\.adapter\.weight"):
        matrices(model)
