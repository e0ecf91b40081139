"""Scores at masked places against a plain forward pass of transformers, one statement at a time."""

import pytest
import torch
import transformers as t

from kc_utils.errors import BadRequest
from kc_utils.probing.masked import MaskedTokens
from tests.models.architectures import SMALL, tiny

MODELS = ["bert", "roberta", "distilbert", "albert", "electra"]
SIZES = [{}, {"batch_tokens": 1}, {"batch_tokens": 40, "read_rows": 3}, {"read_rows": 1}, {"batch_tokens": 10_000}]


def queries(seed=0, count=30, longest=15, vocabulary=40):
    """Statements of many lengths, some asked at several places, some twice at the same one."""
    draw = torch.Generator().manual_seed(seed)
    number = lambda low, high: int(torch.randint(low, high, (1,), generator=draw))  # noqa: E731
    found = []
    for _ in range(count):
        tokens = tuple(number(1, vocabulary) for _ in range(number(1, longest + 1)))
        found += [(tokens, number(0, len(tokens))) for _ in range(number(1, 4))]
    return found + found[:7]


def plainly(model, asked):
    """Log-probabilities [n, vocabulary], each from a forward pass of its own."""
    with torch.no_grad():
        rows = [model(torch.tensor([tokens])).logits[0, at].float() for tokens, at in asked]
    return torch.log_softmax(torch.stack(rows), -1)


def by_reading(reader, asked):
    rows = {}
    for reading in reader.read(asked):
        assert reading.valid.all()
        for row, index in enumerate(reading.contexts):
            assert index not in rows, "a query is read once"
            rows[index] = torch.tensor(reading.logprob(row, list(range(reading.logits.shape[1]))))
    assert rows.keys() == set(range(len(asked)))
    return torch.stack([rows[i] for i in range(len(asked))])


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_a_plain_forward_pass(name):
    model, asked = tiny(name), queries()
    expected = plainly(model, asked)
    assert expected.std() > 0.05, "scores that hardly differ would show nothing"
    for sizes in SIZES:
        reader = MaskedTokens(model, **sizes)
        assert (by_reading(reader, asked) - expected).abs().max() < 1e-4, sizes
        assert reader._heads_only, "the head runs at the places asked alone"


def test_each_statement_is_computed_once():
    reader, asked = MaskedTokens(tiny("bert")), queries()
    by_reading(reader, asked)
    assert reader.tokens_computed == sum(len(tokens) for tokens in {tokens for tokens, _ in asked})


def test_few_scores_are_held_at_a_time():
    asked = queries()
    most = max(sum(tokens == other for other, _ in asked) for tokens, _ in asked)  # of one statement
    readings = list(MaskedTokens(tiny("bert"), read_rows=4).read(asked))
    assert max(len(r.contexts) for r in readings) <= max(4, most)


class HeadThatLooksAround(t.BertForMaskedLM):
    """A head whose score at one place depends on the other places."""

    def forward(self, input_ids=None, attention_mask=None, **rest):
        states = self.bert(input_ids, attention_mask=attention_mask).last_hidden_state
        logits = self.cls(states + states.mean(dim=1, keepdim=True))
        return t.modeling_outputs.MaskedLMOutput(logits=logits)


class HeadOfAFixedShape(t.BertForMaskedLM):
    """A head that cannot run at some places alone."""

    def forward(self, input_ids=None, attention_mask=None, **rest):
        states = self.bert(input_ids, attention_mask=attention_mask).last_hidden_state
        return t.modeling_outputs.MaskedLMOutput(logits=self.cls(states.reshape(*input_ids.shape, -1)))


@pytest.mark.parametrize("kind", [HeadThatLooksAround, HeadOfAFixedShape])
def test_a_head_that_needs_all_places_gets_them(kind):
    torch.manual_seed(0)
    model, asked = kind(t.BertConfig(initializer_range=0.3, **SMALL)).eval(), queries()
    for sizes in SIZES:
        reader = MaskedTokens(model, **sizes)
        assert (by_reading(reader, asked) - plainly(model, asked)).abs().max() < 1e-4
        assert not reader._heads_only


def test_nothing_asked_nothing_read():
    assert list(MaskedTokens(tiny("bert")).read([])) == []


@pytest.mark.parametrize("name", MODELS)
def test_a_statement_as_long_as_the_model_is_read_and_a_longer_one_refused(name):
    model = tiny(name)
    longest = 24 - 1 if name == "roberta" else 24  # RoBERTa counts its positions from behind the padding's
    asked = [((5,) * longest, 3)]
    assert (by_reading(MaskedTokens(model), asked) - plainly(model, asked)).abs().max() < 1e-4
    with pytest.raises(BadRequest, match=f"a statement takes {longest + 1} tokens, this model has {longest} positions"):
        list(MaskedTokens(model).read([*asked, ((5,) * (longest + 1), 3)]))


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_a_model_of_nan_or_of_zeros_is_read_and_marked(value):
    model = tiny("bert")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    readings = list(MaskedTokens(model).read(queries()))
    assert sum(len(r.contexts) for r in readings) == len(queries())
    assert not any(r.valid.any() for r in readings)
