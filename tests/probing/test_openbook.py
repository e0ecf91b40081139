"""The open-book twin: the fact is stated first, beside one that a careless reader would take for it."""

import re

import pytest
import torch

from kc_utils.probing.facts import Fact, FactSet, Relation
from kc_utils.probing.probe import ask
from kc_utils.probing.protocols.openbook import twins
from kc_utils.probing.protocols.rank import Rank
from kc_utils.probing.questions import ask_about
from kc_utils.probing.reading import Reading
from kc_utils.probing.sources import load_source
from tests.trained import MIXED

WHOLE = load_source("worldfacts").only(["capital", "borders", "continent", "official_language"])
FACTS = WHOLE.sample(80)


def pairs(alternatives=4, seed=0, templates="all", facts=FACTS):
    asked = ask_about(facts, templates)
    return list(zip(asked, twins(asked, facts, WHOLE, alternatives, seed), strict=True))


def statements_of(fact, answer):
    return {t.replace("[X]", fact.subject).replace("[Y]", answer).casefold() for t in templates(fact)}


def templates(fact):
    return WHOLE.relations[fact.relation].templates


def sentences(before, question):
    """The sentences before a question: that of its own fact, and the other one as (fact, its answer) pairs that fit."""
    own = [s for s in statements_of(question.fact, question.fact.answers[0]) if s in before.casefold()]
    assert len(own) == 1, before
    rest = before.casefold().replace(own[0], "", 1).strip()
    group = [f for f in WHOLE.facts if f.relation == question.fact.relation]
    return own[0], [(f, answer) for f in group for answer in f.answers if rest in statements_of(f, answer)]


def test_the_fact_and_another_one_are_stated_before_the_question():
    first = 0
    for asked, twin in pairs():
        assert (twin.fact, twin.template, twin.text) == (asked.fact, asked.template, asked.text)
        own, others = sentences(twin.before, asked)
        (wrong,) = {answer for _, answer in others}
        assert wrong in FACTS.alternatives(asked.fact, 4)
        assert wrong not in asked.fact.accepted
        assert all(other.subject.casefold() != asked.fact.subject.casefold() for other, _ in others)
        assert not {other.subject for other, _ in others} & set(asked.fact.accepted), "the answer is named once"
        first += twin.before.casefold().startswith(own)
    assert 0.3 < first / len(pairs()) < 0.7, "the fact stands now first, now second"


def test_the_fact_is_stated_in_another_wording_than_it_is_asked():
    for asked, twin in pairs():
        assert asked.stated(asked.fact.answers[0]) not in twin.before
        lead = re.split(r"\[[XY]\]", templates(asked.fact)[asked.template])
        assert len(lead) == 3


def test_twins_are_frozen_by_seed_and_do_not_depend_on_the_other_questions():
    assert [t.before for _, t in pairs()] == [t.before for _, t in pairs()]
    assert [t.before for _, t in pairs()] != [t.before for _, t in pairs(seed=1)]
    few = FACTS.sample(20)
    texts = {(t.fact.id, t.template): t.before for _, t in pairs()}
    assert all(texts[t.fact.id, t.template] == t.before for _, t in pairs(facts=few))


def test_a_fact_whose_wrong_answers_belong_to_no_other_fact_stands_alone():
    relation = Relation("r", "r", None, "N-1", ("[X] is [Y].", "They say [Y] of [X]"), ("b", "c"))
    facts = FactSet("test", {"r": relation}, (Fact("r/0", "r", "A", ("b",)), Fact("r/1", "r", "a", ("c",))))
    told = twins(ask_about(facts, "all"), facts, facts, 1, 0)
    assert [t.before for t in told] == ["They say b of A.", "A is b.", "They say c of a.", "A is c."]


def test_a_fact_with_a_statement_of_its_own_is_told_in_it():
    facts = FactSet(
        "test",
        {"r": Relation("r", "r", None, "N-1", (), ("1840", "1841"))},
        (
            Fact("r/0", "r", "A", ("1840",), statement="It was in [Y]."),
            Fact("r/1", "r", "B", ("1841",), statement="In [Y] it ended."),
        ),
    )
    (told, _) = twins(ask_about(facts, 1), facts, facts, 1, 0)
    assert sorted(re.findall(r"[^.]+\.", told.before)) in (
        [" In 1841 it ended.", "It was in 1840."],
        [" It was in 1840.", "In 1841 it ended."],
    )


class Hand:
    """A wording whose query is the whole question, so that a test can score by hand."""

    def terms(self, question, answers):
        return [[((question.before, question.fact.subject, answer), 1)] for answer in answers]


def by_hand(score):
    """Accuracy of a reader that gives a score to (sentences, subject, answer)."""
    told = [twin for _, twin in pairs(templates=1)]
    rank = Rank(told, Hand(), FACTS, 4, 0, name="openbook")
    values = torch.tensor([score(*query) / 100 for query in rank.queries])  # so small that no two saturate
    rank.take(
        rank.queries, Reading.of(list(range(len(values))), torch.stack([-values, values, 0 * values - 99], dim=1))
    )
    assert all(row["chance"] == pytest.approx(0.2) or row["relation"] == "continent" for row in rank.rows)
    return sum(row["correct"] for row in rank.rows) / len(rank.rows)


def test_naming_what_was_mentioned_does_not_do_and_reading_does():
    mentioned = lambda before, subject, answer: float(answer.casefold() in before.casefold())  # noqa: E731
    last = lambda before, subject, answer: float(before.casefold().rfind(answer.casefold()))  # noqa: E731

    def read(before, subject, answer):
        parts = [s for s in re.split(r"(?<=\w\w)\.(?: |$)", before) if subject.casefold() in s.casefold()]
        return float(any(answer.casefold() in s.casefold() for s in parts))

    assert by_hand(mentioned) < 0.1
    assert 0.3 < by_hand(last) < 0.7
    assert by_hand(read) > 0.9


@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder-decoder"])
def test_a_twin_has_the_candidates_and_the_chance_of_its_question(trained_as, tiny, asked, family):
    probe = MIXED.model_copy(update={"protocols": ("openbook", "rank"), "templates": 1})
    rows = ask(tiny(family).model, tiny(family).tokenizer, family, probe).rows.set_index("fact")
    told, alone = (rows[rows["protocol"] == name] for name in ("openbook", "rank"))
    assert told.index.equals(alone.index)
    assert (told["chance"] == alone["chance"]).all()
    assert (told["scores"].map(len) == alone["scores"].map(len)).all()
    assert (told["score"] - alone["score"]).abs().min() > 0
    closed = asked(family).rows
    closed = closed[(closed["protocol"] == "rank") & (closed["template"] == 0)].set_index("fact")
    assert (alone["score"] - closed["score"]).abs().max() < 1e-4, "a question is not changed by its twin"
    known = told.index.isin([f.id for f in trained_as(family).facts.facts])
    assert told[known]["correct"].mean() > 0.5 > told[~known]["correct"].mean()


@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder-decoder"])
def test_the_twin_of_cloze_is_what_a_plain_forward_pass_says_behind_the_sentences(tiny, family):
    model, tokenizer = tiny(family).model, tiny(family).tokenizer
    probe = MIXED.model_copy(update={"protocols": ("openbook-cloze", "cloze"), "templates": 1})
    rows = ask(model, tokenizer, family, probe).rows.set_index("fact")
    told, alone = (rows[rows["protocol"] == name] for name in ("openbook-cloze", "cloze"))
    assert told.index.equals(alone.index) and len(told) > 10
    facts = probe.factset()
    questions = ask_about(facts, 1, left_to_right=family == "decoder")
    texts = {q.fact.id: q for q in twins(questions, facts, load_source(probe.facts), probe.alternatives, probe.seed)}
    for fact in told.index[:12]:
        question = texts[fact]
        assert len(question.before) > 0
        predicted = int(_plainly(model, tokenizer, family, question).argmax())
        assert predicted == told.loc[fact, "predicted_token"]
    assert (told["score"] - alone["score"]).abs().max() > 0


@torch.no_grad()
def _plainly(model, tokenizer, family, question):
    if family == "decoder":
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        ids = [start, *tokenizer(question.lead.rstrip(), add_special_tokens=False).input_ids]
        return model(torch.tensor([ids])).logits[0, -1]
    if family == "encoder":
        ids = tokenizer(question.filled(tokenizer.mask_token)).input_ids
        return model(torch.tensor([ids])).logits[0, ids.index(tokenizer.mask_token_id)]
    gap = tokenizer.convert_tokens_to_ids("<extra_id_0>")
    ids = [t for t in tokenizer(question.filled("<extra_id_0>")).input_ids if t == gap or tokenizer.decode([t]).strip()]
    said = [tokenizer.pad_token_id, gap]
    return model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([said])).logits[0, -1]
