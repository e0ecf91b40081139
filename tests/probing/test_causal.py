"""Next-token logits by trees against a plain forward pass of transformers, one context at a time; the trees themselves."""

import types
import warnings
from functools import partial

import pytest
import torch
import transformers as t

from kc_utils.probing.causal import NextToken
from kc_utils.probing.prefix_tree import grow
from tests.models.architectures import LLAMA, tiny
from tests.probing.test_logits import together, wide

SIZES = {
    "n_layer": 2, "n_head": 2, "vocab_size": 40, "hidden_size": 16,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
CAPPED = t.Gemma2Config(final_logit_softcapping=2.0, attn_logit_softcapping=1.0, **LLAMA)
KNOWN = ("llama", "llama, tied", "gpt2", "opt", "gpt_neox", "qwen2", "qwen3", "phi3", "gemma")
MODELS = {name: partial(tiny, name) for name in KNOWN}
MODELS["gemma2, capped"] = lambda: wide(t.Gemma2ForCausalLM, CAPPED)


def contexts(seed=0, count=40, longest=15, vocabulary=40):
    """Contexts that share beginnings of many lengths, some twice."""
    draw = torch.Generator().manual_seed(seed)
    number = lambda high: int(torch.randint(high, (1,), generator=draw))  # noqa: E731
    found = [(5,), (5, 6)]
    while len(found) < count:
        start = found[number(len(found))]
        start = start[: 1 + number(len(start))]
        new = start + tuple(number(vocabulary) for _ in range(1 + number(6)))
        if len(new) <= longest and new not in found:
            found.append(new)
    return found + found[:5]


def plainly(model, sequences):
    with torch.no_grad():
        return torch.stack([torch.log_softmax(model(torch.tensor([s])).logits[0, -1].float(), -1) for s in sequences])


@pytest.mark.parametrize("name", MODELS)
def test_trees_give_the_scores_of_a_plain_forward_pass(name):
    model, sequences = MODELS[name](), contexts()
    expected = plainly(model, sequences)
    assert expected.std() > 0.05, "logits that hardly differ would show nothing"
    for sizes in ({}, {"max_nodes": 7, "batch_tokens": 20}, {"max_nodes": 1, "rows": 3}, {"batch_tokens": 1}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a fall-back to plain batches would warn
            predictor = NextToken(model, **sizes)
            found = together(predictor, sequences)
        assert predictor._trees_work
        assert (found - expected).abs().max() < 1e-4, sizes
    assert NextToken(model).takes_trees(), "tried without any context: the answer belongs to the architecture"


def test_each_shared_prefix_is_computed_once():
    model, sequences = MODELS["llama"](), contexts(count=60)
    predictor = NextToken(model, max_nodes=10_000, batch_tokens=10_000)
    together(predictor, sequences)
    assert predictor.tokens_computed == len({s[:n] for s in sequences for n in range(1, len(s) + 1)})
    assert predictor.tokens_computed < 0.6 * sum(map(len, sequences))


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
def test_a_model_that_cannot_take_trees_is_computed_plainly_with_a_warning(name):
    model, sequences = NO_TREES[name](), contexts()
    predictor = NextToken(model, batch_tokens=50)
    with pytest.warns(UserWarning, match="does not take trees"):
        found = together(predictor, sequences)
    assert (found - plainly(model, sequences)).abs().max() < 1e-4
    with pytest.warns(UserWarning, match="does not take trees"):
        assert not NextToken(model).takes_trees()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # warned of once
        together(predictor, sequences[:3])


def test_long_sequences_that_begin_alike_share_a_tree():
    """A long passage and its answers, each read at every token: the passage is computed once."""
    passage = tuple(range(100))
    answers = [passage + answer[:end] for answer in ((200, 201, 202), (300, 301, 302)) for end in range(4)]
    (branch,) = grow(answers, max_nodes=10)
    assert len(branch) == 106
    many = [passage + (number,) * 10 for number in range(200, 240)]
    branches = grow(many, max_nodes=10)
    assert max(map(len, branches)) <= 220
    assert sum(map(len, branches)) <= 40 * 10 + 4 * 100, "the passage once for about ten answers"
