"""Logits of encoders at masks and of encoder-decoders after beginnings, against plain forward passes, one at a time."""

from functools import partial

import pytest
import torch
import transformers as t

from kc_utils.errors import BadRequest
from kc_utils.probing.logits import GapFiller, Logits, MaskedTokens
from tests.models.architectures import SMALL, T5, tiny

SIZES = [{}, {"batch_tokens": 1}, {"batch_tokens": 40, "rows": 3}]


def wide(kind, config):
    """A model with weights large enough that a wrong mask or position shows."""
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    return model


ENCODERS = ("bert", "roberta", "distilbert", "albert", "electra")
MODELS = {name: (partial(tiny, name), MaskedTokens) for name in ENCODERS}
MODELS |= {name: (partial(tiny, name), GapFiller) for name in ("t5", "flan-t5, lamini")}
MODELS["umt5"] = (lambda: wide(t.UMT5ForConditionalGeneration, t.UMT5Config(**T5)), GapFiller)


def inputs_for(kind, seed=0):
    """Statements of many lengths, some at several positions or with several beginnings, some twice."""
    draw = torch.Generator().manual_seed(seed)
    number = lambda low, high: int(torch.randint(low, high, (1,), generator=draw))  # noqa: E731
    found = []
    if kind is MaskedTokens:
        for _ in range(30):
            tokens = tuple(number(1, 40) for _ in range(number(1, 16)))
            found += [(tokens, number(0, len(tokens))) for _ in range(number(1, 4))]
        return found + found[:7]
    for _ in range(8):
        statement = tuple(number(1, 40) for _ in range(number(4, 8)))
        begun = [(0, 5)]
        while len(begun) < 9:
            start = begun[number(0, len(begun))]
            begun.append(start[: number(1, len(start) + 1)] + tuple(number(1, 40) for _ in range(number(0, 4))))
        found += [(statement, b) for b in begun]
    return found + found[:11]


def plainly(model, inputs):
    """Log-probabilities [n, vocabulary], each from a forward pass of its own."""
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            rows = [
                model(input_ids=torch.tensor([s]), decoder_input_ids=torch.tensor([b]), use_cache=False).logits[0, -1]
                for s, b in inputs
            ]
        else:
            rows = [model(torch.tensor([tokens])).logits[0, at] for tokens, at in inputs]
    return torch.log_softmax(torch.stack(rows).float(), -1)


def together(predictor, inputs):
    """The same from a predictor, which covers each input once and holds few logits at a time."""
    rows = {}
    for logits in predictor.logits(inputs):
        assert logits.valid.all()
        assert len({inputs[i] for i in logits.indices}) <= max(predictor.rows, 9 if type(predictor) is GapFiller else 3)
        for row, index in enumerate(logits.indices):
            assert index not in rows, "an input is computed once"
            rows[index] = torch.tensor(logits.logprob(row, list(range(logits.values.shape[1]))))
    assert rows.keys() == set(range(len(inputs)))
    return torch.stack([rows[i] for i in range(len(inputs))])


def least(inputs):
    """The number of tokens where each statement and each shared beginning is computed once."""
    begun = {(s, b) for s, b in inputs if isinstance(b, tuple)}
    last = [b for s, b in begun if not any(s == t and b != c and c[: len(b)] == b for t, c in begun)]
    return sum(map(len, {statement for statement, _ in inputs})) + sum(map(len, last))


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_a_plain_forward_pass(name):
    make, kind = MODELS[name]
    model, inputs = make(), inputs_for(kind)
    assert len(set(inputs)) < len(inputs)
    expected = plainly(model, inputs)
    assert expected.std() > 0.05, "logits that hardly differ would show nothing"
    for sizes in SIZES:
        predictor = kind(model, **sizes)
        assert (together(predictor, inputs) - expected).abs().max() < 1e-4, sizes
        assert kind is GapFiller or predictor._head_apart, "the head runs at the needed positions alone"
        assert sizes or predictor.tokens_computed == least(inputs)
    assert list(kind(model).logits([])) == []


class Head(t.BertForMaskedLM):
    """A head whose logits at one position depend on the others, or one that cannot run at some positions alone."""

    looks_around = False

    def forward(self, input_ids=None, attention_mask=None, **rest):
        states = self.bert(input_ids, attention_mask=attention_mask).last_hidden_state
        around = states.mean(dim=1, keepdim=True) if self.looks_around else 0
        return t.modeling_outputs.MaskedLMOutput(logits=self.cls(states.reshape(*input_ids.shape, -1) + around))


@pytest.mark.parametrize("looks_around", [True, False])
def test_a_head_that_needs_all_positions_gets_them(looks_around):
    torch.manual_seed(0)
    model, inputs = Head(t.BertConfig(initializer_range=0.3, **SMALL)).eval(), inputs_for(MaskedTokens)
    model.looks_around = looks_around
    expected = plainly(model, inputs)
    for sizes in SIZES:
        predictor = MaskedTokens(model, **sizes)
        assert (together(predictor, inputs) - expected).abs().max() < 1e-4
        assert not predictor._head_apart


@pytest.mark.parametrize("name", ENCODERS)
def test_a_statement_as_long_as_the_model_is_scored_and_a_longer_one_refused(name):
    model = tiny(name)
    longest = 24 - 1 if name == "roberta" else 24  # RoBERTa counts its positions from behind the padding's
    inputs = [((5,) * longest, 3)]
    assert (together(MaskedTokens(model), inputs) - plainly(model, inputs)).abs().max() < 1e-4
    with pytest.raises(BadRequest, match=f"a statement takes {longest + 1} tokens, this model has {longest} positions"):
        list(MaskedTokens(model).logits([*inputs, ((5,) * (longest + 1), 3)]))


def test_relative_positions_have_no_end():
    model, inputs = tiny("t5"), [((7,) * 700, (0, 5))]
    assert (together(GapFiller(model), inputs) - plainly(model, inputs)).abs().max() < 1e-4


def test_validity_and_probabilities_of_a_row():
    inf, row = float("inf"), torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.bfloat16)
    assert Logits.of([0], row).valid.tolist() == Logits.of([0], torch.tensor([[1.0, -inf, 3.0]])).valid.tolist() == [True]
    for values in ([1.0, float("nan"), 3.0], [1.0, inf, 3.0], [-inf] * 3, [2.0] * 3):  # the last predicts nothing
        assert Logits.of([0], torch.tensor([values])).valid.tolist() == [False], values
    found = torch.tensor(Logits.of([0], row).logprob(0, [2, 0])).exp().tolist()
    assert found == pytest.approx([0.66524096, 0.09003057], abs=1e-6)
