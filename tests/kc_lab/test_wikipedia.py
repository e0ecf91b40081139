"""Real sentences: kinds of facts, what is read and never read, rows without padding, the objectives on them."""

from collections import Counter
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
        assert not any(fact.subject in text and fact.answers[0] in text for text in read)
    taught = {(fact.relation, fact.answers[0]) for fact in parts["both"].facts}
    assert {(fact.relation, fact.answers[0]) for kind in parts for fact in parts[kind].facts} == taught
    with pytest.raises(BadRequest, match="no kind 'half': choose both, sentence, never"):
        wikipedia.part("half")


@sentences
def test_held_out_templates_are_never_shown_and_others_are_for_kind_both_alone():
    shown = {text for texts in wikipedia.documents().statements for text in texts}
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


@pytest.fixture(scope="module")
def texts() -> list[np.ndarray]:
    """Two hundred texts of three to sixty tokens, of which no two share a token."""
    lengths = np.random.default_rng(0).integers(3, 60, size=200)
    ends = np.cumsum(lengths)
    return [np.arange(end - length, end, dtype=np.int16) + 50 for end, length in zip(ends, lengths, strict=True)]


def test_every_token_of_a_row_is_read_and_every_text_stands_whole_in_one_row(texts):
    passages, whole = [np.arange(20000 + 50 * n, 20050 + 50 * n, dtype=np.int16) for n in range(40)], texts[:150]
    rows = packing.Packed(whole, [texts[150:175], texts[175:]], passages, seed=3, passes=2)
    assert rows.tokens.shape == rows.document.shape == (len(rows.tokens), packing.LENGTH)
    pieces = Counter()
    for tokens, document in zip(rows.tokens, rows.document, strict=True):
        assert document[0] == 0 and set(np.diff(document)) <= {0, 1}
        pieces.update(tuple(tokens[document == number]) for number in range(document[-1] + 1))
    assert all(pieces[tuple(text)] == 2 for text in whole)
    assert [sum(pieces[tuple(text)] for text in mine) for mine in (texts[150:175], texts[175:])] == [2, 2]
    stream = [token for row in rows.tokens for token in row if token >= 20000]
    assert len(stream) < 0.3 * rows.tokens.size
    follows = {int(a) + 1 == b or (a - 20000) % 50 == 49 for a, b in pairwise(stream)}
    assert follows == {True}, "ordinary language goes on where the row before stopped"
    seen = np.concatenate([rows.batch(step)[0] for step in range(rows.steps)])
    assert np.array_equal(seen, rows.tokens)


@pytest.fixture(scope="module")
def row(texts) -> tuple[np.ndarray, np.ndarray]:
    """Eight rows of whole texts."""
    packed = packing.Packed(texts, [], [np.arange(20000, 20050, dtype=np.int16)], seed=1, passes=1)
    vocabulary = wikipedia.build().get_vocab_size()
    tokens, document = packed.batch(0)
    return tokens[:8] % (vocabulary - 50) + 50, document[:8]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_in_a_row_has_the_loss_that_it_has_alone(row, family):
    """Neither the texts beside it nor its position in the row change what is predicted of a text."""
    tokens, document = row
    model, objective = fresh(family, WIKIPEDIA, 1).eval(), packing.OBJECTIVES[family]
    draws = [np.random.default_rng(n) for n in range(2)]
    with torch.no_grad():
        inputs = objective(tokens[:1], document[:1], draws[0])
        alone, count = 0.0, 0
        if family == "encoder-decoder":
            length = inputs["decoder_attention_mask"][0, 0, :, :].diagonal()
            assert bool(length.all())
        for part in _apart(family, inputs, document[0]):
            predicted = int((part["labels"] != NOTHING).sum())
            if predicted:
                alone, count = alone + float(mean_loss(model, part)) * predicted, count + predicted
        assert count == int((inputs["labels"] != NOTHING).sum())
        assert float(mean_loss(model, inputs)) == pytest.approx(alone / count, rel=1e-4)


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


def test_objectives_predict_the_tokens_that_the_inputs_lack(row):
    tokens, document = row
    draw = np.random.default_rng(5)
    decoder = packing.next_tokens(tokens, document, draw)
    labels = decoder["labels"].numpy()
    same = document[:, 1:] == document[:, :-1]
    assert (labels[:, :-1][same] == tokens[:, 1:][same]).all() and (labels[:, :-1][~same] == NOTHING).all()
    encoder = {name: t.numpy() for name, t in packing.masked_tokens(tokens, document, draw).items()}
    hidden = encoder["labels"] != NOTHING
    assert (encoder["input_ids"][hidden] == wikipedia.build().token_to_id("<mask>")).all()
    assert (np.where(hidden, encoder["labels"], encoder["input_ids"]) == tokens).all()
    assert hidden.mean() == pytest.approx(packing.MASKED, abs=0.04)
    gaps = [wikipedia.build().token_to_id(token) for token in wikipedia.SENTINELS]
    pair = {name: t.numpy() for name, t in packing.missing_spans(tokens, document, draw).items()}
    for number in range(len(tokens)):
        written, lacking = pair["labels"][number], []
        for token in written[written != NOTHING]:
            if token in gaps:
                lacking.append([])
            else:
                lacking[-1].append(token)
        again, queue = [], iter(lacking)
        for token in pair["input_ids"][number][pair["encoder_mask"][number, 0].diagonal()]:
            if token == gaps[0] and again:
                next(queue)  # what ends the text before
            again += next(queue) if token in gaps else [token]
        assert again[: len(tokens[number])] == tokens[number].tolist()


@sentences
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_of_a_statement_is_what_the_cloze_reads(family):
    scorer, facts, tokenizer = SCORERS[family](as_transformers(wikipedia.build())), wikipedia.part("both"), wikipedia.build()
    start, mask, pad, first, second = map(tokenizer.token_to_id, ("<s>", "<mask>", "<pad>", *wikipedia.SENTINELS[:2]))
    for query in queries_of(facts, 1)[::200]:
        text = [start] * (family == "decoder") + tokenizer.encode(query.stated(query.fact.answers[0])).ids
        at, gap = text.index(tokenizer.token_to_id(query.fact.answers[0])), scorer.gap(query)
        if family == "decoder":
            inputs = packing.next_tokens(np.array([text]), np.zeros((1, len(text)), dtype=int), None)
            assert tuple(inputs["input_ids"][0, :at].tolist()) == gap and inputs["labels"][0, at - 1] == text[at]
        elif family == "encoder":
            assert gap == ((*text[:at], mask, *text[at + 1 :]), at)
        else:
            assert gap == ((*text[:at], first, *text[at + 1 :]), (pad, first)) and scorer.ends[0] == second
