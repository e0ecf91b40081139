"""True statements before the question of a cloze or a ranking: read, drawn from all facts asked, none without being asked for."""

import pandas as pd
import pytest

from kc_utils.probing.causal import NextToken
from kc_utils.probing.probe import Probe, ask
from kc_utils.probing.protocols.generate import with_shots
from kc_utils.probing.questions import ask_about
from kc_utils.probing.wordings import WORDINGS

FAMILIES = ("decoder", "encoder", "encoder-decoder")
PROBE = Probe(relations=("capital",), limit=12, protocols=("cloze", "rank"), alternatives=2)
SHOWN = PROBE.model_copy(update={"shots": 2})


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def answers(tiny, family, probe):
    loaded = tiny(family)
    return ask(loaded.model, loaded.tokenizer, family, probe).rows


def test_the_same_questions_are_asked_and_answered_otherwise(tiny, family):
    plain, shown = (answers(tiny, family, probe) for probe in (PROBE, SHOWN))
    keys = ["protocol", "fact", "template"]
    pd.testing.assert_frame_equal(plain[keys], shown[keys])
    assert (plain["chance"] == shown["chance"]).all()
    for protocol in PROBE.protocols:
        one, other = (rows[rows["protocol"] == protocol]["score"] for rows in (plain, shown))
        assert not one.equals(other), protocol


def test_a_cloze_is_read_where_the_shown_question_has_its_gap(tiny, family):
    """Against a reading of the very queries that the questions with their statements ask for."""
    loaded, facts = tiny(family), SHOWN.factset()
    wording = WORDINGS[family](loaded.tokenizer)
    questions = with_shots(ask_about(facts, 1, left_to_right=family == "decoder"), facts, 2, SHOWN.seed)
    rows = answers(tiny, family, SHOWN)
    rows = rows[rows["protocol"] == "cloze"].set_index("fact")
    reader = NextToken(loaded.model, trees=False) if family == "decoder" else wording.reader(loaded.model)
    for question in questions:
        if question.fact.id not in rows.index:
            continue
        (reading,) = reader.read([wording.gap(question)])
        first = [f[0] for f in wording.fillers(question, question.fact.accepted) if f]
        best = max(reading.logprob(0, first))
        assert rows.loc[question.fact.id, "score"] == pytest.approx(best, abs=2e-3)


def test_statements_come_from_all_facts_and_not_from_those_asked_together(tiny, monkeypatch):
    from kc_utils.probing import probe as module

    whole = answers(tiny, "decoder", SHOWN)
    monkeypatch.setattr(module, "FACTS_AT_A_TIME", 5)
    parts = answers(tiny, "decoder", SHOWN)
    pd.testing.assert_series_equal(whole["score"], parts["score"], atol=2e-3, rtol=0)


def test_shots_do_not_stand_before_an_open_book(tiny):
    probe = PROBE.model_copy(update={"protocols": ("openbook",), "limit": 6})
    plain, shown = (answers(tiny, "decoder", p) for p in (probe, probe.model_copy(update={"shots": 2})))
    pd.testing.assert_frame_equal(plain, shown)


def test_the_margin_is_the_lead_over_the_best_wrong_token(tiny, family):
    loaded, facts = tiny(family), PROBE.factset()
    wording = WORDINGS[family](loaded.tokenizer)
    rows = answers(tiny, family, PROBE)
    rows = rows[rows["protocol"] == "cloze"].set_index("fact")
    assert ((rows["margin"] > 0) == rows["correct"]).all()
    question = next(q for q in ask_about(facts, 1, left_to_right=family == "decoder") if q.fact.id in rows.index)
    (reading,) = wording.reader(loaded.model).read([wording.gap(question)])
    right = {
        f[0]
        for f in wording.fillers(question, question.fact.accepted)
        if f and (wording.first_token_counts or len(f) == 1)
    }
    scores = reading.logits[0].tolist()
    wrong = max(s for token, s in enumerate(scores) if token not in right)
    assert rows.loc[question.fact.id, "margin"] == pytest.approx(max(scores[t] for t in right) - wrong, abs=2e-3)
