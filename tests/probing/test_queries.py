"""From facts to statements with a gap, with solved examples or the fact itself before them."""

import re

import pandas as pd
import pytest
import torch

from kc_utils.probing import evaluate as evaluate_module
from kc_utils.probing.evaluate import evaluate
from kc_utils.probing.facts import Fact, FactSet, Relation
from kc_utils.probing.logits import Logits
from kc_utils.probing.probe import Probe
from kc_utils.probing.protocols import Rank
from kc_utils.probing.queries import Query, open_book, queries_of, with_shots
from kc_utils.probing.sources import load_source
from tests.probing.conftest import plain_logits
from tests.trained import MIXED

TEMPLATES = ("[Y] lies on [X].", "[X] has [Y] on it .", "On [X] lies [Y].", "[X]: [Y] .", "Is [X] where [Y] is?")
FACTS = FactSet(
    "test",
    {"r": Relation("r", "r", None, "1-1", TEMPLATES, ("the Rhine", "x")), "own": Relation("own", "own", None, "other", (), ())},
    (
        Fact("r/0", "r", "the island", ("the Rhine",)),
        Fact("own/0", "own", "s", ("1840",), statement="In [Y] it was."),
        Fact("own/1", "own", "s", ("1841",), statement="It was in [Y]."),
        Fact("own/2", "own", "s", ("1842",)),
    ),
)  # fmt: skip
WORLD = load_source("worldfacts").only(["capital", "borders", "continent", "official_language"])
SAMPLE = WORLD.sample(80)


def test_a_statement_is_filled():
    for before, space in (("", ""), ("It is so.", " "), ("It is so.\n", "")):
        first, last = (Query(FACTS.facts[0], 0, text, before) for text in ("[Y] lies here.", "Here lies [Y]."))
        assert first.stated("the Rhine") == f"{before}{space}The Rhine lies here."
        assert last.stated("the Rhine") == f"{before}{space}Here lies the Rhine."
        assert (first.lead, last.lead) == (before + space, f"{before}{space}Here lies ")
        assert first.filled("<m>") == f"{before}{space}<m> lies here."


def test_templates_are_numbered_by_their_index_in_the_relation():
    mine = lambda queries: [(q.fact.id, q.template) for q in queries]  # noqa: E731
    texts = [query.text for query in queries_of(FACTS, "all")]
    assert texts[1:3] == ["The island has [Y] on it .", "On the island lies [Y]."], "a capital at the start alone"
    assert mine(queries_of(FACTS, "all")) == [*(("r/0", n) for n in range(5)), ("own/0", 0), ("own/1", 0)]
    assert mine(queries_of(FACTS, "all", left_to_right=True)) == [("r/0", 2), ("r/0", 3), ("own/1", 0)]
    assert mine(queries_of(FACTS, 2)) == [("r/0", 0), ("r/0", 1), ("own/0", 0), ("own/1", 0)]
    assert mine(queries_of(FACTS, 1, left_to_right=True)) == [("r/0", 2), ("own/1", 0)]


@pytest.mark.parametrize("relation", ["capital", "borders", "official_language", "iso2"])
def test_shots_are_true_statements_that_leave_the_answer_open(relation):
    whole = load_source("worldfacts").only([relation])
    facts = whole.sample(60)
    queries = queries_of(facts, "all")
    shown = with_shots(queries, facts, 3, seed=0)
    full = 0
    for query, shot in zip(queries, shown, strict=True):
        assert (shot.fact, shot.template, shot.text) == (query.fact, query.template, query.text)
        lines = shot.before.split("\n")
        assert lines.pop() == ""
        template = whole.relations[relation].templates[query.template]
        by_text = {template.replace("[X]", f.subject).replace("[Y]", f.answers[0]).casefold(): f for f in facts.facts}
        examples = [by_text[line.casefold()] for line in lines]
        assert len(set(examples)) == len(lines) <= 3
        for fact in examples:
            assert fact.subject != query.fact.subject
            for answer in query.fact.accepted:
                assert answer.casefold() not in {fact.subject.casefold(), *(a.casefold() for a in fact.accepted)}
        full += len(lines) == 3
    assert full / len(queries) > 0.9
    assert [q.before for q in shown] == [q.before for q in with_shots(queries, facts, 3, seed=0)]
    assert [q.before for q in shown] != [q.before for q in with_shots(queries, facts, 3, seed=1)]
    assert with_shots(queries, facts, 0, seed=0) == queries


def test_a_shot_does_not_name_the_answer_in_passing():
    relation = Relation("r", "r", None, "N-M", ("[X] borders [Y].",), ("b", "c"))
    pairs = {"Spain": "France", "France": "Italy", "Southern France": "Italy", "spain": "Portugal", "Francesca": "Peru"}
    facts = FactSet("test", {"r": relation}, tuple(Fact(f"r/{s}", "r", s, (a,)) for s, a in pairs.items()))
    assert with_shots(queries_of(facts, 1), facts, 5, 0)[0].before == "Francesca borders Peru.\n"


def test_shots_come_from_all_facts_and_not_before_an_open_book(tiny, monkeypatch):
    loaded = tiny("decoder")
    probe = Probe(relations=("capital",), limit=12, protocols=("cloze", "openbook", "rank"), alternatives=2)
    rows = lambda **changes: evaluate(loaded.model, loaded.tokenizer, "decoder", probe.model_copy(update=changes)).rows  # noqa: E731
    plain, shown = rows(), rows(shots=2)
    keys = ["protocol", "fact", "template", "chance"]
    pd.testing.assert_frame_equal(plain[keys], shown[keys])
    moved = (plain["score"] - shown["score"]).abs().groupby(plain["protocol"]).max()
    assert moved["openbook"] < 1e-4 < min(moved["cloze"], moved["rank"])
    monkeypatch.setattr(evaluate_module, "FACTS_AT_A_TIME", 5)
    pd.testing.assert_series_equal(shown["score"], rows(shots=2)["score"], atol=2e-3, rtol=0)


def pairs(alternatives=4, seed=0, templates="all", facts=SAMPLE):
    queries = queries_of(facts, templates)
    return list(zip(queries, open_book(queries, facts, WORLD, alternatives, seed), strict=True))


def statements_of(fact, answer):
    templates = WORLD.relations[fact.relation].templates
    return {t.replace("[X]", fact.subject).replace("[Y]", answer).casefold() for t in templates}


def test_the_fact_and_another_one_are_stated_before_the_query():
    first = 0
    for query, twin in pairs():
        assert (twin.fact, twin.template, twin.text) == (query.fact, query.template, query.text)
        assert query.stated(query.fact.answers[0]) not in twin.before, "stated in another template"
        (own,) = [s for s in statements_of(query.fact, query.fact.answers[0]) if s in twin.before.casefold()]
        rest = twin.before.casefold().replace(own, "", 1).strip()
        group = [f for f in WORLD.facts if f.relation == query.fact.relation]
        others = [(f, answer) for f in group for answer in f.answers if rest in statements_of(f, answer)]
        (wrong,) = {answer for _, answer in others}
        assert wrong in SAMPLE.alternatives(query.fact, 4)
        subjects = {other.subject.casefold() for other, _ in others}
        assert query.fact.subject.casefold() not in subjects
        assert not subjects & {answer.casefold() for answer in query.fact.accepted}, "the answer is named once"
        first += twin.before.casefold().startswith(own)
    assert 0.3 < first / len(pairs()) < 0.7, "the fact stands now first, now second"


def test_twins_are_frozen_by_seed_and_do_not_depend_on_the_other_queries():
    assert [t.before for _, t in pairs()] == [t.before for _, t in pairs()]
    assert [t.before for _, t in pairs()] != [t.before for _, t in pairs(seed=1)]
    texts = {(t.fact.id, t.template): t.before for _, t in pairs()}
    assert all(texts[t.fact.id, t.template] == t.before for _, t in pairs(facts=SAMPLE.sample(20)))


def test_a_fact_whose_wrong_answers_belong_to_no_other_fact_stands_alone():
    relation = Relation("r", "r", None, "N-1", ("[X] is [Y].", "They say [Y] of [X]"), ("b", "c"))
    facts = FactSet("test", {"r": relation}, (Fact("r/0", "r", "A", ("b",)), Fact("r/1", "r", "a", ("c",))))
    twins = open_book(queries_of(facts, "all"), facts, facts, 1, 0)
    assert [t.before for t in twins] == ["They say b of A.", "A is b.", "They say c of a.", "A is c."]


class ByHand:
    """A scorer whose input is the whole query, so that a test can score by hand."""

    def terms(self, query, answers):
        return [[((query.before, query.fact.subject, answer), 1)] for answer in answers]


def accuracy(score):
    """Accuracy of a reader that gives a score to (sentences, subject, answer)."""
    rank = Rank([twin for _, twin in pairs(templates=1)], ByHand(), SAMPLE, 4, 0, name="openbook")
    values = torch.tensor([score(*one) / 100 for one in rank.inputs])  # so small that no two saturate
    rank.take(rank.inputs, Logits.of(list(range(len(values))), torch.stack([-values, values, 0 * values - 99], dim=1)))
    assert {row["chance"] for row in rank.rows} == {0.5}  # two candidates stand before the query
    return sum(row["correct"] for row in rank.rows) / len(rank.rows)


def test_naming_what_was_mentioned_does_not_do_and_reading_does():
    def read(before, subject, answer):
        parts = [s for s in re.split(r"(?<=\w\w)\.(?: |$)", before) if subject.casefold() in s.casefold()]
        return float(any(answer.casefold() in s.casefold() for s in parts))

    assert accuracy(lambda before, subject, answer: float(answer.casefold() in before.casefold())) < 0.1
    assert 0.3 < accuracy(lambda before, subject, answer: float(before.casefold().rfind(answer.casefold()))) < 0.7
    assert accuracy(read) > 0.9


def test_twins_have_the_candidates_of_their_queries_and_the_scores_of_a_plain_forward_pass(tiny, family):
    model, tokenizer = tiny(family).model, tiny(family).tokenizer
    probe = MIXED.model_copy(update={"protocols": ("openbook", "openbook-cloze", "rank", "cloze"), "templates": 1})
    rows = evaluate(model, tokenizer, family, probe).rows.set_index("fact")
    by = {name: rows[rows["protocol"] == name] for name in probe.protocols}
    for twin, plain in (("openbook", "rank"), ("openbook-cloze", "cloze")):
        assert by[twin].index.equals(by[plain].index) and len(by[twin]) > 10
        least = 1 / 2 if twin == "openbook" else 0  # two candidates stand before it
        assert (by[twin]["chance"] == by[plain]["chance"].clip(lower=least)).all()
        assert (by[twin]["score"] - by[plain]["score"]).abs().min() > 0
    facts = probe.factset()
    queries = queries_of(facts, 1, left_to_right=family == "decoder")
    twins = open_book(queries, facts, load_source(probe.facts), probe.alternatives, probe.seed)
    for twin in [t for t in twins if t.fact.id in by["openbook-cloze"].index][:12]:
        assert twin.before
        predicted = int(plain_logits(model, tokenizer, family, twin).argmax())
        assert predicted == by["openbook-cloze"].loc[twin.fact.id, "predicted_token"]
