"""Real sentences: kinds of facts, what is read and never read, rows without padding, the objectives on them."""

import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from kc_lab import packing, wikipedia
from kc_lab.models import WIKIPEDIA, fresh
from kc_lab.objectives import NOTHING, mean_loss
from kc_lab.tokenizer import as_transformers
from kc_utils.errors import BadRequest, MissingData
from kc_utils.models.registry import FAMILIES
from kc_utils.places import PACKAGE
from kc_utils.probing.files import find_data
from kc_utils.probing.queries import queries_of
from kc_utils.probing.scorers import SCORERS


def _absent() -> bool:
    try:
        return find_data(wikipedia.needed()) is None
    except MissingData:
        return True


sentences = pytest.mark.skipif(_absent(), reason="KC_DATA does not hold LAMA, ParaRel and BoolQ, which these tests read")


@sentences
def test_kinds_share_no_subject_and_nothing_read_names_a_fact_that_is_never_read():
    parts = {kind: wikipedia.part(kind) for kind in wikipedia.KINDS}
    assert sum(map(len, parts.values())) == len(wikipedia.part(None))
    subjects = [{fact.subject.casefold() for fact in part.facts} for part in parts.values()]
    assert len(set().union(*subjects)) == sum(map(len, subjects))
    read = list(wikipedia.documents())
    whole = "\n".join(read)
    for fact in parts["never"].facts:
        assert wikipedia.sentences()[fact.id] not in whole
        assert fact.subject not in whole or not any(fact.subject in text and fact.answers[0] in text for text in read)
    taught = {(fact.relation, fact.answers[0]) for fact in parts["both"].facts}
    assert {(fact.relation, fact.answers[0]) for kind in parts for fact in parts[kind].facts} == taught
    with pytest.raises(BadRequest, match="no kind 'half': choose both, sentence, never"):
        wikipedia.part("half")


@sentences
def test_held_out_templates_are_never_shown_and_others_are_for_kind_both_alone():
    shown = {text for texts in wikipedia.documents().statements for text, _ in texts}
    held = Counter()
    for kind in wikipedia.KINDS:
        facts = wikipedia.part(kind)
        for query in queries_of(facts, "all"):
            hidden = query.template == wikipedia.held_out(facts.relations[query.fact.relation])
            held[hidden] += 1
            assert (query.stated(query.fact.answers[0]) in shown) == (kind == "both" and not hidden)
    assert held[True] > 0.8 * len(wikipedia.facts())


@sentences
def test_every_answer_is_one_piece_and_the_share_divides_the_subjects():
    tokenizer = wikipedia.build()
    assert all(len(tokenizer.encode(fact.answers[0]).ids) == 1 for fact in wikipedia.facts().facts)
    for share in (0.2, 0.8):
        kinds = Counter(wikipedia.kind_of(fact, share) for fact in wikipedia.facts().facts)
        assert kinds["both"] / (kinds["both"] + kinds["sentence"]) == pytest.approx(share, abs=0.04)


def _text(begin: int, length: int) -> np.ndarray:
    """Numbers in a row, of which the last but one is the answer."""
    return np.stack([np.arange(begin, begin + length), np.arange(length) == length - 2]).astype(np.int16)


@pytest.fixture(scope="module")
def texts() -> list[np.ndarray]:
    """Two hundred texts of three to sixty tokens, of which no two share a token."""
    lengths = np.random.default_rng(0).integers(3, 60, size=200)
    return [_text(end - length + 100, length) for end, length in zip(np.cumsum(lengths), lengths, strict=True)]


def test_every_token_of_a_row_is_read_and_every_text_stands_whole_in_one_row(texts):
    passages, whole = [np.stack([_text(20000 + 50 * n, 50)[0], np.zeros(50)]).astype(np.int16) for n in range(40)], texts[:150]
    packed = packing.Packed(whole, [texts[150:175], texts[175:]], passages, seed=3, passes=2, rows=16)
    rows = packed.rows
    assert rows.tokens.shape == rows.document.shape == (len(rows.tokens), packing.LENGTH)
    pieces = Counter()
    for tokens, salient, document in zip(rows.tokens, rows.salient, rows.document, strict=True):
        assert document[0] == 0 and set(np.diff(document)) <= {0, 1}
        for number in range(document[-1] + 1):
            pieces[tuple(tokens[document == number]), tuple(salient[document == number])] += 1
    times = [pieces[tuple(tokens), tuple(salient.astype(bool))] for tokens, salient in texts]
    assert set(times[:150]) == {2} and sum(times[150:175]) == sum(times[175:]) == 2
    stream = [int(token) for token in rows.tokens[rows.tokens >= 20000]]
    assert len(stream) < 0.3 * rows.tokens.size
    goes_on = (b == a + 1 or ((a - 20000) % 50 == 49 and (b - 20000) % 50 == 0) for a, b in pairwise(stream))
    assert all(goes_on), "ordinary language goes on where the row before stopped"
    assert np.array_equal(np.concatenate([packed.batch(step).tokens for step in range(packed.steps)]), rows.tokens)


@pytest.fixture(scope="module")
def rows(texts) -> packing.Rows:
    """Eight rows of whole texts, in tokens of the vocabulary."""
    found = packing.Packed(texts, [], [_text(100, 50)], seed=1, passes=1, rows=16).batch(0)[:8]
    return replace(found, tokens=found.tokens % (wikipedia.build().get_vocab_size() - 100) + 100)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_in_a_row_has_the_loss_that_it_has_alone(rows, family):
    """Neither the texts beside it nor its position in the row change what is predicted of a text."""
    model = fresh(family, WIKIPEDIA, 1).eval()
    inputs = packing.OBJECTIVES[family](rows[:1], np.random.default_rng(0))
    with torch.no_grad():
        parts = [part for part in _apart(family, inputs, rows.document[0]) if (part["labels"] != NOTHING).any()]
        counts = [int((part["labels"] != NOTHING).sum()) for part in parts]
        alone = sum(float(mean_loss(model, part)) * count for part, count in zip(parts, counts, strict=True))
        assert sum(counts) == int((inputs["labels"] != NOTHING).sum())
        assert float(mean_loss(model, inputs)) == pytest.approx(alone / sum(counts), rel=1e-4)


def _apart(family: str, inputs: dict, document: np.ndarray):
    """The texts of a row one by one, without mask and positions, as transformers takes them by itself."""
    if family != "encoder-decoder":
        for number in range(document[-1] + 1):
            mine = torch.from_numpy(document == number)
            yield {"input_ids": inputs["input_ids"][:, mine], "labels": inputs["labels"][:, mine]}
        return
    seen, across = inputs["encoder_mask"][0, 0], inputs["attention_mask"][0, 0]
    first = [0, *(n for n in range(1, len(seen)) if not seen[n, n - 1])]
    for begin in first:
        mine, written = seen[begin], across[:, begin]
        yield {"input_ids": inputs["input_ids"][:, mine], "labels": inputs["labels"][:, written]}


def test_objectives_predict_the_tokens_that_the_inputs_lack(rows):
    tokens, document, draw = rows.tokens, rows.document, np.random.default_rng(5)
    labels = packing.next_tokens(rows, draw)["labels"].numpy()
    same = document[:, 1:] == document[:, :-1]
    assert (labels[:, :-1][same] == tokens[:, 1:][same]).all() and (labels[:, :-1][~same] == NOTHING).all()
    encoder = {name: t.numpy() for name, t in packing.masked_tokens(rows, draw).items()}
    hidden, mask, *gaps = encoder["labels"] != NOTHING, *map(wikipedia.build().token_to_id, ("<mask>", *wikipedia.SENTINELS))
    assert (encoder["input_ids"] == np.where(hidden, mask, tokens)).all()
    assert (encoder["labels"][hidden] == tokens[hidden]).all()
    assert hidden[~rows.salient].mean() == pytest.approx(packing.MASKED, abs=0.05)
    assert hidden[rows.salient].mean() == pytest.approx(packing.SALIENT + (1 - packing.SALIENT) * packing.MASKED, abs=0.2)
    pair = {name: t.numpy() for name, t in packing.missing_spans(rows, draw).items()}
    lacking = 0
    for number, row in enumerate(tokens):
        spans, again = [], []
        for token in pair["labels"][number][pair["labels"][number] != NOTHING]:
            spans = [*spans, []] if token in gaps else [*spans[:-1], [*spans[-1], token]]
        queue, begun = iter(spans), pair["encoder_mask"][number, 0]
        for at, token in enumerate(pair["input_ids"][number]):
            if at and not begun[at, at - 1]:
                assert next(queue) == [], "the gap behind a text's last"
            if len(again) < len(row):
                again += next(queue) if token in gaps else [token]
        assert again == row.tolist()
        lacking += sum(map(len, spans))
    assert lacking / tokens.size == pytest.approx(packing.MASKED, abs=0.08)


@sentences
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_of_a_statement_is_what_the_cloze_reads(family):
    scorer, facts, tokenizer = SCORERS[family](as_transformers(wikipedia.build())), wikipedia.part("both"), wikipedia.build()
    start, mask, pad, first, second = map(tokenizer.token_to_id, ("<s>", "<mask>", "<pad>", *wikipedia.SENTINELS[:2]))
    for query in queries_of(facts, 1)[::200]:
        text = [start] * (family == "decoder") + tokenizer.encode(query.stated(query.fact.answers[0])).ids
        at, gap = text.index(tokenizer.token_to_id(query.fact.answers[0])), scorer.gap(query)
        if family == "decoder":
            row = np.array([text])
            inputs = packing.next_tokens(packing.Rows(row, row < 0, np.zeros_like(row)), None)
            assert tuple(inputs["input_ids"][0, :at].tolist()) == gap and inputs["labels"][0, at - 1] == text[at]
        elif family == "encoder":
            assert gap == ((*text[:at], mask, *text[at + 1 :]), at)
        else:
            assert gap == ((*text[:at], first, *text[at + 1 :]), (pad, first)) and scorer.ends[0] == second


@sentences
def test_the_training_of_the_chapter_learns(capsys):
    page = (PACKAGE.parent / "book/background/learning.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    for shown, tried in ((", 40\n", ", 2\n"), ("    loss.backward()", "    losses.append(float(loss)); loss.backward()")):
        assert shown in code
        code = code.replace(shown, tried)
    run = {"losses": []}
    exec(code, run)
    assert np.mean(run["losses"][-3:]) < 0.8 * run["losses"][0]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(wikipedia.KINDS)
