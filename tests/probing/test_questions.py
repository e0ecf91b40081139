"""From facts to statements with a gap."""

import pytest

from kc_utils.probing.facts import Fact, FactSet, Relation
from kc_utils.probing.questions import Question, ask_about, wordings

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
FACT = FACTS.facts[0]


def test_a_fact_has_the_wordings_of_its_relation_or_its_own():
    assert wordings(FACTS, FACT) == [
        "[Y] lies on the island.",
        "The island has [Y] on it .",
        "On the island lies [Y].",
        "The island: [Y] .",
        "Is the island where [Y] is?",
    ]
    assert wordings(FACTS, FACTS.facts[1]) == ["In [Y] it was."]


@pytest.mark.parametrize(
    ("text", "before", "stated", "lead"),
    [
        ("[Y] lies here.", "", "The Rhine lies here.", ""),
        ("Here lies [Y].", "", "Here lies the Rhine.", "Here lies "),
        ("[Y] lies here.", "It is so.", "It is so. The Rhine lies here.", "It is so. "),
        ("Here lies [Y].", "It is so.\n", "It is so.\nHere lies the Rhine.", "It is so.\nHere lies "),
    ],
)
def test_a_statement_is_filled(text, before, stated, lead):
    question = Question(FACT, 0, text, before)
    assert question.stated("the Rhine") == stated
    assert question.lead == lead
    assert question.filled("<m>") == lead + "<m>" + text.split("[Y]")[1]
    assert question.stated("the Rhine").startswith(lead + question.spelled("the Rhine"))


def test_templates_are_numbered_by_their_place_whoever_asks():
    mine = lambda questions: [(q.fact.id, q.template) for q in questions]  # noqa: E731
    assert mine(ask_about(FACTS, "all")) == [*(("r/0", n) for n in range(5)), ("own/0", 0), ("own/1", 0)]
    assert mine(ask_about(FACTS, "all", left_to_right=True)) == [("r/0", 2), ("r/0", 3), ("own/1", 0)]
    assert mine(ask_about(FACTS, 2)) == [("r/0", 0), ("r/0", 1), ("own/0", 0), ("own/1", 0)]
    assert mine(ask_about(FACTS, 1, left_to_right=True)) == [("r/0", 2), ("own/1", 0)]
