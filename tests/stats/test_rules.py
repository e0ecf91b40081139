"""Each kind of rule: its effect by hand, and the verdicts on rows with known truth."""

import numpy as np
import pandas as pd
import pytest

import kc_utils as kc
from kc_utils.probing.sources import load_source
from kc_utils.stats.claims import CONSISTENT, CONTRARY, FOR, NO_DATA, UNDECIDED
from kc_utils.stats.evidence import LAB, Evidence, kept
from tests.stats.claimed import (
    ALL,
    ATTENTION,
    CHANCE,
    FEED,
    N,
    claim,
    decided,
    less,
    part,
    results,
    rows,
    spread,
    windows,
)  # fmt: skip


@pytest.mark.parametrize(
    ("right", "verdict"),
    [
        ({ALL: 60, ATTENTION: 120, FEED: 110}, CONSISTENT),
        ({ALL: 120, ATTENTION: 140, FEED: 60}, CONTRARY),  # less than the better one, more than the other
        ({ALL: 100, ATTENTION: 104, FEED: 102}, UNDECIDED),
        ({ALL: 60, ATTENTION: 120}, NO_DATA),
    ],
)
def test_keeps_less_than_each(right, verdict):
    found = decided(less(), results({"none": 160, **right}))
    assert found.verdict == verdict
    if verdict == NO_DATA:
        assert found.parts == ()
    else:
        found = part(found)
        expected = (min(right[ATTENTION], right[FEED]) - right[ALL]) / (160 - CHANCE * N)
        assert found.effect == pytest.approx(expected)
        assert found.low < found.effect < found.high
        assert (found.models, found.n, found.rival) == (["smollm2-135m"], N, FEED)


def test_each_of_several_is_compared_over_all_models():
    """Which of two is the better differs from model to model: the least of each would be another 5 facts lower."""
    pairs = ((100, 110), (110, 100), (100, 110))
    frames = [results({"none": 160, ALL: 90, ATTENTION: a, FEED: b}, model=m) for m, (a, b) in zip("abc", pairs, strict=True)]
    found = part(decided(less(), *frames))
    assert (found.effect, found.rival) == (pytest.approx((310 / 3 - 90) / 120), ATTENTION)


def test_sources_are_compared_at_the_same_amounts():
    """A source that was pruned mildly alone, where nothing is lost, must not pull the mean of the others towards no loss."""
    made = claim(kind="kept at most", recipe="magnitude@all={amount}", amounts=[0.1, 0.5], bound=0.5)
    mild, counts = "magnitude@all=0.1", {"none": 160, "magnitude@all=0.1": 150, ALL: 70}
    whole = [results(counts, facts=facts) for facts in ("bear", "worldfacts")]
    alone = results({"none": 160, mild: 160}, facts="lama:trex")
    shown = lambda *frames: [(s.facts, s.amounts, s.effect) for s in part(decided(made, *frames)).strata]  # noqa: E731
    assert shown(*whole, alone) == shown(*whole) != []
    assert shown(whole[0], alone, alone.assign(facts="pararel")) == [
        (f, (0.1,), e) for f, e in zip(("bear", "lama:trex", "pararel"), (11 / 12, 1, 1), strict=True)
    ]


def test_intervals_are_those_of_a_paired_comparison():
    frame = results({"none": 160, ALL: 90})
    whole = kept(Evidence(frame).strata[0], (ALL,), "rank")
    line = kc.compare(frame).set_index("recipe").loc[ALL]
    assert whole.at[ALL] == pytest.approx(line["retention"])
    assert np.quantile(whole.draws[ALL], [0.025, 0.975]) == pytest.approx(
        [line["retention_low"], line["retention_high"]], abs=0.01
    )
    assert whole.n == N


def test_kept_at_most_and_at_least():
    for right, most, least in ((60, CONSISTENT, CONTRARY), (156, CONTRARY, CONSISTENT), (100, UNDECIDED, UNDECIDED)):
        found = results({"none": 160, ALL: right})
        rule = {"recipe": "magnitude@all={amount}", "amounts": [0.5, 0.6], "bound": 0.5}
        assert decided(claim(kind="kept at most", **rule), found).verdict == most
        assert decided(claim(kind="kept at least", **rule), found).verdict == least
        (stratum,) = part(decided(claim(kind="kept at most", **rule), found)).strata
        assert stratum.amounts == (0.5,), "amounts without rows are left out, and the page says so"


def test_little_extra_cost():
    def verdict(both):
        found = results({"none": 160, "magnitude@all=0.2": 150, "magnitude@all=0.2+int8@all": both})
        rule = {"first": "magnitude@all={amount}", "second": "int8@all", "amounts": [0.2], "margin": 0.05}
        return decided(claim(kind="little extra cost", **rule), found).verdict

    assert (verdict(150), verdict(147), verdict(100)) == (CONSISTENT, UNDECIDED, CONTRARY)


def test_cost_at_equal_weights():
    """The rival keeps 110 of 120 at 2 million weights and 60 at 6 million: by hand 85 at 4, 115 at 1, 60 at 6."""
    head, rule = "magnitude@head=0.5", {"recipe": "magnitude@head={amount}", "against": "magnitude@all={amount}"}
    made = claim(kind="costs more at equal weights", **rule, amounts=[0.5], against_amounts=[0.2, 0.5, 0.9])
    weights = {"magnitude@all=0.2": 2e6, ALL: 6e6}

    def found(removed, right, amounts=made):
        counts = {"none": 160, "magnitude@all=0.2": 150, ALL: 100, head: right}
        return decided(amounts, results(counts, weights_removed={**weights, head: removed}))

    for removed, theirs in ((1e6, 115), (4e6, 85), (6e6, 60)):
        effect = part(found(removed, 80))
        assert effect.effect == pytest.approx((theirs - 40) / 120)
        assert effect.side == FOR
        assert effect.low < effect.effect < effect.high
    assert found(4e6, 150).verdict == CONTRARY
    assert found(6.1e6, 80).verdict == found(0.0, 80).verdict == NO_DATA, "the rival has no rows at as many weights"


def test_tail_and_head():
    rule = {"kind": "tail kept better", "recipe": "magnitude@all={amount}", "amounts": [0.5]}
    known, tail = np.arange(N) < 160, np.arange(N) % 2 == 0

    def verdict(right, **more):
        return decided(claim(**rule), results({"none": rows(known, **more), ALL: rows(right, **more)})).verdict

    assert verdict(known & tail) == CONSISTENT
    assert verdict(known & ~tail) == CONTRARY
    assert verdict(known & (np.arange(N) % 4 < 2)) == UNDECIDED
    assert verdict(known & tail, popularity=False) == NO_DATA


def test_reading_and_memory():
    mild, rule = "magnitude@all=0.3", {"kind": "reading survives better", "recipe": "magnitude@all={amount}"}

    def found(memory, stated, spared=160):
        both = lambda a, b: pd.concat([rows(spread(a)), rows(spread(b), "openbook")], ignore_index=True)  # noqa: E731
        made = {"none": both(160, 190), mild: both(spared, 100), ALL: both(memory, stated)}
        return decided(claim(**rule, amounts=[0.3, 0.5]), results(made))

    assert (found(60, 180).verdict, found(100, 100).verdict, found(100, 143).verdict) == (CONSISTENT, CONTRARY, UNDECIDED)
    (effect,) = part(found(60, 180)).strata
    assert (effect.amounts, effect.n) == ((0.5,), N), "at 0.3 memory lost nothing, so that nothing can outlive it"
    stated, memory = (180 - 100) / (190 - 100), (60 - 40) / (160 - 40)  # chance is half when stated
    assert effect.effect == pytest.approx(stated - memory, abs=0.01), "the mean of the two halves of the facts"
    assert part(found(60, 180, spared=90)).strata[0].amounts == (0.3, 0.5)
    assert found(158, 190).verdict == NO_DATA, "memory loses nowhere"
    assert decided(claim(**rule, amounts=[0.5]), results({"none": 160, ALL: 60})).verdict == NO_DATA


def test_amounts_at_which_memory_loses_are_chosen_by_other_facts_than_are_measured():
    """Memory loses every second fact alone, as noise might have it. The half that chooses by those measures the others."""
    odd, all_right = np.arange(N) % 2 == 1, np.arange(N) < 160
    both = lambda right: pd.concat([rows(right), rows(190, "openbook")], ignore_index=True)  # noqa: E731
    rule = {"kind": "reading survives better", "recipe": "magnitude@all={amount}", "amounts": [0.5]}
    found = part(decided(claim(**rule), results({"none": both(all_right), ALL: both(all_right & odd)})))
    assert (found.effect, found.side, found.n) == (0, UNDECIDED, N // 2)


def test_lost_while_perplexity_is_flat():
    rule = {"recipe": "magnitude@all={amount}", "amounts": [0.1, 0.5], "flat": 1.05, "lost": 0.05}
    made = claim(kind="lost while perplexity is flat", **rule)
    facts = lambda right: results({"none": 160, "magnitude@all=0.1": 160, ALL: right})  # noqa: E731

    def found(right, nats):
        read = {"none": windows(3.0), "magnitude@all=0.1": windows(3.0), ALL: windows(nats)}
        return decided(made, facts(right), results(read, facts="wikitext2", probe="text"))

    assert found(100, 3.01).verdict == CONSISTENT
    assert part(found(100, 3.01)).strata[0].amounts == (0.5,), "the largest amount at which it is flat"
    assert found(100, 4.0).verdict == CONTRARY, "at 0.5 perplexity has risen, at 0.1 nothing is lost"
    assert decided(made, facts(100)).verdict == NO_DATA


def test_answers_turn():
    rule = {"recipe": "rtn@all={amount}", "amounts": [4, 3], "within": 0.02, "least_turned": 0.05}
    made = claim(kind="answers turn while accuracy stays", **rule)
    known = np.arange(N) < 100
    turned = known.copy()
    turned[:40], turned[100:140] = False, True
    found = decided(made, results({"none": rows(known), "rtn@all=4": rows(turned), "rtn@all=3": rows(50)}))
    assert (found.verdict, part(found).strata[0].amounts) == (CONSISTENT, (4,))
    # half of the answers are wrong, which is 5/8 guessed at a chance of 1/5; of those 2 * 1/5 * 4/5 turn when guessed anew
    assert part(found).effect == pytest.approx(80 / N - 5 / 8 * 2 * 0.2 * 0.8)
    assert decided(made, results({"none": rows(known), "rtn@all=4": rows(known)})).verdict == CONTRARY
    assert decided(made, results({"none": rows(known), "rtn@all=3": rows(50)})).verdict == NO_DATA


def test_answers_that_are_only_guessed_anew_do_not_turn_beyond_guessing():
    rng, rule = (np.random.default_rng(0), {"recipe": "rtn@all={amount}", "amounts": [4], "within": 0.1, "least_turned": 0.05})
    made, found = claim(kind="answers turn while accuracy stays", **rule), []
    for _ in range(60):
        known = rng.random(N) < 0.4
        anew = [rows(known | (rng.random(N) < CHANCE)) for _ in range(2)]
        found.append(part(decided(made, results({"none": anew[0], "rtn@all=4": anew[1]}))))
    assert np.mean([p.effect for p in found]) == pytest.approx(0, abs=0.01)
    assert np.mean([p.low <= 0 <= p.high for p in found]) > 0.88
    assert not any(p.side == FOR for p in found)


def test_bits_need_a_model_that_holds_more_than_the_bound():
    facts = load_source("lab:people").facts[:N]

    def answers(nats):
        return pd.DataFrame(
            {"protocol": "cloze", "fact": [f.id for f in facts], "relation": [f.relation for f in facts], "template": 0,
             "correct": True, "chance": 0.001, "valid": True, "score": -nats}
        )  # fmt: skip

    rule = {"recipe": "rtn@all={amount}", "amounts": [4], "bound": 0.7}

    def found(nats, parameters):
        made = {"none": answers(0.01), "rtn@all=4": answers(nats)}
        at_16_bits = results(made, "lab:decoder-small-s1", "lab:people", bytes_compressed=2.0 * parameters)
        return decided(claim(kind="bits at most", **rule), at_16_bits)

    assert found(0.01, 10**9).verdict == NO_DATA, "it holds next to nothing uncompressed"
    assert found(0.01, 1000).verdict == CONTRARY
    assert part(found(0.01, 1000), "cloze", LAB).effect > 0.7
    assert found(8.0, 1000).verdict == CONSISTENT
