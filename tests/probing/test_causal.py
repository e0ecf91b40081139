"""Next-token scores by trees against a plain forward pass of transformers, one context at a time."""

import types
import warnings

import pytest
import torch
import transformers as t

from kc_utils.probing.causal import NextToken
from kc_utils.probing.reading import Reading
from tests.models.architectures import LLAMA, tiny

SIZES = {
    "n_layer": 2, "n_head": 2, "vocab_size": 40, "hidden_size": 16,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MODELS = {
    "llama": lambda: tiny("llama"),
    "llama, tied": lambda: tiny("llama, tied"),
    "gpt2": lambda: tiny("gpt2"),
    "opt": lambda: tiny("opt"),
    "gpt_neox": lambda: tiny("gpt_neox"),
    "qwen2": lambda: tiny("qwen2"),
    "qwen3": lambda: tiny("qwen3"),
    "phi3": lambda: tiny("phi3"),
    "gemma": lambda: tiny("gemma"),
    "gemma2, capped": lambda: wide(
        t.Gemma2ForCausalLM, t.Gemma2Config(final_logit_softcapping=2.0, attn_logit_softcapping=1.0, **LLAMA)
    ),
}


def wide(kind, config, seed=0):
    """A model with weights large enough that a wrong mask or position shows."""
    torch.manual_seed(seed)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    return model


def contexts(seed=0, count=40, longest=15, vocabulary=40):
    """Distinct contexts that share beginnings of many lengths."""
    draw = torch.Generator().manual_seed(seed)
    number = lambda high: int(torch.randint(high, (1,), generator=draw))  # noqa: E731
    found = [(5,), (5, 6)]
    while len(found) < count:
        start = found[number(len(found))]
        start = start[: 1 + number(len(start))]
        new = start + tuple(number(vocabulary) for _ in range(1 + number(6)))
        if len(new) <= longest and new not in found:
            found.append(new)
    return found


def plainly(model, sequences):
    with torch.no_grad():
        return torch.stack([torch.log_softmax(model(torch.tensor([s])).logits[0, -1].float(), -1) for s in sequences])


def by_reading(reader, sequences):
    rows = {}
    for reading in reader.read(sequences):
        assert reading.valid.all()
        for row, index in enumerate(reading.contexts):
            assert index not in rows, "a context is read once"
            rows[index] = torch.tensor(reading.logprob(row, list(range(reading.logits.shape[1]))))
    assert rows.keys() == set(range(len(sequences)))
    return torch.stack([rows[i] for i in range(len(sequences))])


@pytest.mark.parametrize("name", MODELS)
def test_trees_give_the_scores_of_a_plain_forward_pass(name):
    model, asked = MODELS[name](), contexts()
    expected = plainly(model, asked)
    assert expected.std() > 0.05, "scores that hardly differ would show nothing"
    for sizes in ({}, {"max_nodes": 7, "batch_tokens": 20}, {"max_nodes": 1, "read_rows": 3}, {"batch_tokens": 1}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a fall-back to plain batches would warn
            reader = NextToken(model, **sizes)
            found = by_reading(reader, asked)
        assert reader._trees_work
        assert (found - expected).abs().max() < 1e-4, sizes


def test_each_shared_prefix_is_computed_once():
    model, asked = MODELS["llama"](), contexts(count=60)
    reader = NextToken(model, max_nodes=10_000, batch_tokens=10_000)
    by_reading(reader, asked)
    assert reader.tokens_computed == len({s[:n] for s in asked for n in range(1, len(s) + 1)})
    assert reader.tokens_computed < 0.6 * sum(map(len, asked))


def blind_to_masks():
    """A Llama whose base model drops the mask it is given, as a class with its own attention may."""
    model = MODELS["llama"]()
    forward = model.model.forward

    def without_mask(self, attention_mask=None, **rest):
        four_dimensional = attention_mask is not None and attention_mask.dim() == 4
        return forward(attention_mask=None if four_dimensional else attention_mask, **rest)

    model.model.forward = types.MethodType(without_mask, model.model)
    return model


NO_TREES = {
    "ignores the mask": blind_to_masks,
    "takes no positions (BLOOM)": lambda: wide(t.BloomForCausalLM, t.BloomConfig(**SIZES)),
    "scales its scores (Granite)": lambda: wide(t.GraniteForCausalLM, t.GraniteConfig(logits_scaling=3.0, **LLAMA)),
    "slides a window (Mistral)": lambda: wide(t.MistralForCausalLM, t.MistralConfig(sliding_window=4, **LLAMA)),
}


@pytest.mark.parametrize("name", NO_TREES)
def test_a_model_that_cannot_take_trees_is_read_plainly_and_says_so(name):
    model, asked = NO_TREES[name](), contexts()
    reader = NextToken(model, batch_tokens=50)
    with pytest.warns(UserWarning, match="does not take trees"):
        found = by_reading(reader, asked)
    assert (found - plainly(model, asked)).abs().max() < 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # told once
        by_reading(reader, asked[:3])


def test_nothing_asked_nothing_read():
    assert list(NextToken(MODELS["llama"]()).read([])) == []


def test_every_context_is_read_once_and_few_at_a_time():
    asked = contexts(count=30)
    readings = list(NextToken(MODELS["llama"](), max_nodes=8, read_rows=4).read(asked))
    assert sorted(index for reading in readings for index in reading.contexts) == list(range(len(asked)))
    assert max(len(reading.contexts) for reading in readings) <= 4


def test_a_model_of_nan_is_read_and_marked():
    model = MODELS["llama"]()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.fill_(float("nan"))
    readings = list(NextToken(model).read(contexts(count=5)))
    assert sum(len(r.contexts) for r in readings) == 5
    assert not any(r.valid.any() for r in readings)


@pytest.mark.parametrize(
    ("logits", "valid"),
    [
        ([1.0, 2.0, 3.0], True),
        ([1.0, float("-inf"), 3.0], True),
        ([1.0, float("nan"), 3.0], False),
        ([1.0, float("inf"), 3.0], False),
        ([float("-inf")] * 3, False),
        ([2.0, 2.0, 2.0], False),  # says nothing
    ],
)
def test_validity_of_a_row(logits, valid):
    assert Reading.of([0], torch.tensor([logits])).valid.tolist() == [valid]


def test_log_probabilities_of_a_row():
    reading = Reading.of([0], torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.bfloat16))
    assert torch.tensor(reading.logprob(0, [2, 0])).exp().tolist() == pytest.approx([0.66524096, 0.09003057], abs=1e-6)


@pytest.mark.parametrize("name", [*MODELS, *NO_TREES])
def test_a_model_can_be_asked_beforehand_whether_it_takes_trees(name):
    """Without any context: the answer belongs to the architecture."""
    reader = NextToken((MODELS | NO_TREES)[name]())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert reader.takes_trees() == (name in MODELS)


def test_what_is_known_about_trees_is_not_asked_again():
    model, asked = MODELS["llama"](), contexts(count=10)
    expected = plainly(model, asked)
    for trees in (True, False):
        reader = NextToken(model, trees=trees)
        reader._check_trees = lambda _: pytest.fail("asked again")
        assert (by_reading(reader, asked) - expected).abs().max() < 1e-4
