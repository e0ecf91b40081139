"""What further tries recover, with luck taken out: rows made so that the answer is known."""

import pandas as pd
import pytest
from scipy import stats

from kc_lab import hidden
from kc_lab.hidden import HELD_OUT, TRAINED, by_luck, learned, recoveries, shots_way, templates_of
from kc_utils.errors import BadRequest

RECIPE, ALL = "rtn@all=2", set(range(40))
TEMPLATES = {TRAINED: {f"f{i}": (1, 2) for i in ALL}, HELD_OUT: {f"f{i}": (3, 4) for i in ALL}}
NO_LUCK = dict.fromkeys(range(5), frozenset())


def frame(right: dict[int, set[int]], n: int, recipe: str = RECIPE) -> pd.DataFrame:
    """Rows of n facts in some templates: which facts are right in each."""
    lines = [{"fact": f"f{i}", "template": t, "correct": i in facts} for t, facts in right.items() for i in range(n)]
    return pd.DataFrame(lines).assign(model="m", recipe=recipe, protocol="cloze", relation="r")


def found(after: dict, strangers: dict, shot=frozenset(), shot_strangers=frozenset(), shots=(1,)) -> pd.DataFrame:
    """The uncompressed model answers everything from memory, and 30 of 40 facts with a true statement before."""
    base = frame(dict.fromkeys(range(5), ALL), 40, "none")
    rows = {
        "taught": pd.concat([base, frame(after, 40)]),
        "strangers": frame(strangers, 60),
        "taught, 1 shots": pd.concat([frame({0: set(range(30))}, 40, "none"), frame({0: shot}, 40)]),
        "strangers, 1 shots": frame({0: shot_strangers}, 60),
    }
    return recoveries(rows, shots, TEMPLATES).set_index("way")


def test_lost_facts_that_another_template_gets():
    after = {0: set(range(20)), 1: set(range(25)), 2: {30, 31}, 3: {39}, 4: set()}  # 20 are lost, 20 to 39
    lines = found(after, NO_LUCK)
    assert lines.loc[TRAINED, ["lost", "answered", "luck", "recovered", "ceiling"]].tolist() == pytest.approx(
        [20, 7 / 20, 0, 7 / 20, 1]
    )
    assert lines.loc[HELD_OUT, "recovered"] == pytest.approx(1 / 20)
    assert lines.loc[shots_way(1), ["answered", "ceiling"]].tolist() == pytest.approx([0, 30 / 40])


def test_luck_is_what_as_many_tries_get_of_strangers():
    rows = frame({0: set(range(10)), 1: set(range(10, 22)), 2: set(range(10, 22)), 3: set(), 4: set()}, 60)
    one, two = (by_luck(rows, tries)["r"] for tries in (1, 2))  # of 50 missed at first, 12 have 2 of 4 others right
    assert one == pytest.approx(12 / 50 * 2 / 4)
    assert two == pytest.approx(12 / 50 * (1 - 1 / 6)), "1 - C(2, 2) / C(4, 2)"


def test_luck_is_taken_out():
    half = {0: frozenset()} | dict.fromkeys(range(1, 5), frozenset(range(30)))  # half are right in all others
    lines = found(half | {0: set(range(20))}, half, shot=set(range(30)), shot_strangers=set(range(15)))
    for way in (TRAINED, HELD_OUT):
        assert lines.loc[way, ["answered", "luck", "recovered"]].tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert lines.loc[shots_way(1), ["answered", "luck", "recovered"]].tolist() == pytest.approx([0.5, 0.25, 1 / 3])


def test_few_lost_facts_give_no_share_and_lacking_rows_are_refused():
    lines = found({t: set(range(35)) for t in range(5)}, NO_LUCK)
    assert lines["lost"].tolist() == [5, 5, 5]
    assert lines["recovered"].isna().all()
    with pytest.raises(BadRequest, match="m under rtn@all=2 was not evaluated on 'taught, 3 shots'"):
        found({t: set() for t in range(5)}, NO_LUCK, shots=(3,))


def test_templates_of_the_lab_are_every_other_one():
    ways = templates_of()
    for fact in ("p0000/field", "p0299/language"):
        assert (len(ways[TRAINED][fact]), len(ways[HELD_OUT][fact])) == (3, 1)
    assert not set(ways[TRAINED]["p0000/field"]) & {0, *ways[HELD_OUT]["p0000/field"]}


def relearned(model, new, false):
    """Rows of 20 facts a set after two steps, of which the lost ones are right by half, and all."""
    recall = {"lost": (0, 0.5, 1), "new": (0, *new), "false": (0, *false)}
    return pd.concat(
        frame({0: set(range(round(20 * share)))}, 20).assign(model=model, set=name, step=step, protocol="relearning")
        for name, shares in recall.items() for step, share in enumerate(shares)
    )  # fmt: skip


def test_relearning_is_compared_within_models():
    table = learned(relearned("m", (0.1, 0.3), (0.4, 0.6)))
    recall = table.pivot(index="set", columns="step", values="recall")
    assert recall.T.to_dict("list") == {"lost": [0, 0.5, 1], "new": [0, 0.1, 0.3], "false": [0, 0.4, 0.6]}
    assert set(table["n"]) == {20}
    assert hidden.ahead(table)[["new", "false"]].loc[0].tolist() == pytest.approx([0.55, 0.25])
    assert learned(frame({0: ALL}, 40)).empty


@pytest.mark.parametrize(("false", "is_hidden"), [((0.1, 0.15, 0.05), True), ((0.4, 0.5, 0.45), False)])
def test_facts_are_hidden_where_false_answers_are_learned_more_slowly(false, is_hidden):
    """A familiar name alone helps false answers as well."""
    rows = [relearned(f"lab:decoder-small-s{n}", (0.1, 0.3), (share, 2 * share)) for n, share in enumerate(false, 1)]
    found, alone = (hidden.ahead_over_seeds(learned(pd.concat(some))).iloc[0] for some in (rows, rows[:1]))
    p = stats.ttest_1samp([0.75 - 1.5 * share for share in false], 0).pvalue
    assert (found["hidden"], found["p"]) == (is_hidden, pytest.approx(p))
    assert not alone["hidden"] and pd.isna(alone["p"])
