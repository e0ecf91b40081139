"""Next-token scores of an encoder-decoder's decoder against a plain forward pass of transformers, one at a time."""

import pytest
import torch
import transformers as t

from kc_utils.probing.seq2seq import GapFiller
from tests.probing.test_masked import by_reading
from tests.models.architectures import T5, tiny

MODELS = {
    "t5": lambda: tiny("t5"),
    "flan-t5, lamini": lambda: tiny("flan-t5, lamini"),
    "umt5": lambda: wide(t.UMT5ForConditionalGeneration, t.UMT5Config(**T5)),
}
SIZES = [{}, {"batch_tokens": 1}, {"batch_tokens": 40, "read_rows": 3}, {"read_rows": 1}, {"batch_tokens": 10_000}]


def wide(kind, config):
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    return model


def queries(seed=0, statements=8, beginnings=9, vocabulary=40):
    """Statements of a few lengths with beginnings of which some begin others; some asked twice."""
    draw = torch.Generator().manual_seed(seed)
    number = lambda low, high: int(torch.randint(low, high, (1,), generator=draw))  # noqa: E731
    found = []
    for _ in range(statements):
        statement = tuple(number(1, vocabulary) for _ in range(number(4, 8)))
        said = [(0, 5)]
        while len(said) < beginnings:
            start = said[number(0, len(said))]
            said.append(start[: number(1, len(start) + 1)] + tuple(number(1, vocabulary) for _ in range(number(0, 4))))
        found += [(statement, s) for s in said]
    return found + found[:11]


def plainly(model, asked):
    """Log-probabilities [n, vocabulary], each from a forward pass of its own."""
    rows = []
    with torch.no_grad():
        for statement, said in asked:
            output = model(input_ids=torch.tensor([statement]), decoder_input_ids=torch.tensor([said]), use_cache=False)
            rows.append(output.logits[0, -1].float())
    return torch.log_softmax(torch.stack(rows), -1)


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_a_plain_forward_pass(name):
    model, asked = MODELS[name](), queries()
    assert len(set(asked)) < len(asked)
    assert any(a != b and a[0] == b[0] and b[1][: len(a[1])] == a[1] for a in asked for b in asked)
    expected = plainly(model, asked)
    assert expected.std() > 0.05, "scores that hardly differ would show nothing"
    for sizes in SIZES:
        assert (by_reading(GapFiller(model, **sizes), asked) - expected).abs().max() < 1e-4, sizes


def test_statements_and_shared_beginnings_are_computed_once():
    reader, asked = GapFiller(tiny("t5")), queries()
    by_reading(reader, asked)
    longest = [(s, said) for s, said in set(asked) if not any(
        s == other and said != more and more[: len(said)] == said for other, more in asked
    )]  # fmt: skip
    encoded = sum(map(len, {statement for statement, _ in asked}))
    assert reader.tokens_computed == encoded + sum(len(said) for _, said in longest)


def test_few_scores_are_held_at_a_time():
    asked = list(dict.fromkeys(queries()))
    readings = list(GapFiller(tiny("t5"), read_rows=12).read(asked))
    assert max(len(r.contexts) for r in readings) <= 12


def test_nothing_asked_nothing_read():
    assert list(GapFiller(tiny("t5")).read([])) == []


def test_relative_positions_have_no_end():
    model, asked = tiny("t5"), [((7,) * 700, (0, 5))]
    assert (by_reading(GapFiller(model), asked) - plainly(model, asked)).abs().max() < 1e-4


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_a_model_of_nan_or_of_zeros_is_read_and_marked(value):
    model, asked = tiny("t5"), queries()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    readings = list(GapFiller(model).read(asked))
    assert sum(len(r.contexts) for r in readings) == len(asked)
    assert not any(r.valid.any() for r in readings)
