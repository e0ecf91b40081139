"""Claims decided from rows: each rule on rows whose answer is known, and what has no data."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from kc_utils.stats import claim_rows
from kc_utils.stats.claim_rows import Evidence, kept
from kc_utils.stats.claims import FAILS, HOLDS, LAB, LANGUAGE, NO_DATA, UNDECIDED, decide, decide_all, side
from kc_utils.stats.ledger import Claim, read_ledger
from kc_utils.stats.statistics import compare
from kc_utils.errors import BadRequest
from kc_utils.probing.probe import Probe
from kc_utils.study.cells import Cell
from tests.stats.claimed import CHANCE, PROBE, N, results, rows, windows
from tests.conftest import ROOT

LEDGER = ROOT / "book" / "claims.yaml"
ALL, ATTENTION, FEED = "magnitude@all=0.5", "magnitude@attention=0.5", "magnitude@feed_forward=0.5"


def claim(**rule) -> Claim:
    return Claim(
        id="c", title="C", statement="It is so.", source="namburi2023", known_from="secondary", decided_by=rule
    )


def less(worse=ALL, better=(ATTENTION, FEED)):
    return claim(kind="keeps less", worse=worse, better=list(better), amounts=[0.5])


def decided(made: Claim, *origins):
    return decide(made, Evidence({f"origin {n}": found for n, found in enumerate(origins)}))


@pytest.mark.parametrize(
    ("right", "verdict"),
    [
        ({ALL: 60, ATTENTION: 120, FEED: 110}, HOLDS),
        ({ALL: 120, ATTENTION: 140, FEED: 60}, FAILS),  # less than the better one, more than the other
        ({ALL: 100, ATTENTION: 104, FEED: 102}, UNDECIDED),
        ({ALL: 60, ATTENTION: 120}, NO_DATA),
    ],
)
def test_keeps_less_than_each(right, verdict):
    found = decided(less(), results({"none": 160, **right}))
    assert found.verdict == verdict
    if verdict == NO_DATA:
        assert found.main is None and found.strata == []
    else:
        found = found.main
        expected = (min(right[ATTENTION], right[FEED]) - right[ALL]) / (160 - CHANCE * N)
        assert found.effect == pytest.approx(expected)
        assert found.low < found.effect < found.high
        assert (found.models, found.n) == (["smollm2-135m"], N)


def test_intervals_are_those_of_a_paired_comparison():
    """With one recipe, the joint bootstrap is that of `statistics.compare`, up to what drawing does."""
    found = results({"none": 160, ALL: 90})
    stratum = Evidence({"o": found}).strata[0]
    whole = kept(stratum, (ALL,), "rank")
    one = compare(rows(90), rows(160))
    assert whole.at[ALL] == pytest.approx(one.retention)
    low, high = np.quantile(whole.draws[ALL], [0.025, 0.975])
    assert (low, high) == pytest.approx(one.retention_ci95, abs=0.02)
    assert (whole.at["none"], whole.n) == (1.0, N)


def test_kept_at_most_and_at_least():
    for right, most, least in ((60, HOLDS, FAILS), (156, FAILS, HOLDS), (100, UNDECIDED, UNDECIDED)):
        found = results({"none": 160, ALL: right})
        rule = {"recipe": "magnitude@all={amount}", "amounts": [0.5, 0.6], "bound": 0.5}
        assert decided(claim(kind="kept at most", **rule), found).verdict == most
        assert decided(claim(kind="kept at least", **rule), found).verdict == least
        (stratum,) = decided(claim(kind="kept at most", **rule), found).strata
        assert stratum.amounts == (0.5,), "amounts without rows are left out and said to be"


def test_little_extra_cost():
    def verdict(both):
        found = results({"none": 160, "magnitude@all=0.2": 150, "magnitude@all=0.2+int8@all": both})
        rule = {"first": "magnitude@all={amount}", "second": "int8@all", "amounts": [0.2], "margin": 0.05}
        return decided(claim(kind="little extra cost", **rule), found).verdict

    assert (verdict(150), verdict(147), verdict(100)) == (HOLDS, UNDECIDED, FAILS)


def test_cost_for_each_weight():
    rule = {"recipe": "magnitude@head={amount}", "against": "magnitude@all={amount}", "amounts": [0.5]}
    made = claim(kind="costs more per weight", **rule)

    def found(head_weights):
        reports = {"magnitude@head=0.5": {"weights_touched": head_weights}, ALL: {"weights_touched": 20_000_000}}
        return decided(made, results({"none": 160, ALL: 60, "magnitude@head=0.5": 120}, reports=reports))

    assert found(2_000_000).verdict == HOLDS
    assert found(2_000_000).main.effect == pytest.approx((40 / 120) / 1 - (100 / 120) / 10)
    assert found(80_000_000).verdict == FAILS
    lost_nothing = results({"none": 160, ALL: 60, "magnitude@head=0.5": 160}, reports={ALL: {"sparsity": 0.0}})
    assert decided(made, lost_nothing).verdict == NO_DATA, "no weight was removed: there is nothing to divide by"


def test_tail_and_head():
    rule = {"kind": "tail kept better", "recipe": "magnitude@all={amount}", "amounts": [0.5]}
    known, tail = np.arange(N) < 160, np.arange(N) % 2 == 0

    def verdict(right, **more):
        return decided(claim(**rule), results({"none": rows(known, **more), ALL: rows(right, **more)})).verdict

    assert verdict(known & tail) == HOLDS
    assert verdict(known & ~tail) == FAILS
    assert verdict(known & (np.arange(N) % 4 < 2)) == UNDECIDED
    assert verdict(known & tail, popularity=False) == NO_DATA


def test_reading_and_memory():
    rule = {"kind": "reading survives better", "recipe": "magnitude@all={amount}", "amounts": [0.5]}

    def verdict(memory, told):
        both = lambda a, b: pd.concat([rows(a), rows(b, "openbook")], ignore_index=True)  # noqa: E731
        return decided(claim(**rule), results({"none": both(160, 190), ALL: both(memory, told)})).verdict

    assert (verdict(60, 180), verdict(150, 80), verdict(100, 118)) == (HOLDS, FAILS, UNDECIDED)
    only_memory = results({"none": 160, ALL: 60}, probe=PROBE.model_copy(update={"protocols": ("rank",)}))
    assert decided(claim(**rule), only_memory).verdict == NO_DATA


def test_lost_while_perplexity_is_flat():
    rule = {"recipe": "magnitude@all={amount}", "amounts": [0.1, 0.5], "flat": 1.05, "least": 0.05}
    made = claim(kind="lost while perplexity is flat", **rule)
    text = Probe(facts=None, text="wikitext2")

    def found(right, nats):
        read = results({"none": windows(3.0), "magnitude@all=0.1": windows(3.0), ALL: windows(nats)}, probe=text)
        return decided(made, results({"none": 160, "magnitude@all=0.1": 160, ALL: right}) | read)

    assert found(100, 3.01).verdict == HOLDS
    assert found(100, 3.01).strata[0].amounts == (0.5,), "the largest amount at which it is flat"
    assert found(100, 4.0).verdict == FAILS, "at 0.5 perplexity has risen, at 0.1 nothing is lost"
    assert decided(made, results({"none": 160, ALL: 100})).verdict == NO_DATA


def test_answers_turn():
    rule = {"recipe": "rtn@all={amount}", "amounts": [4, 3], "within": 0.02, "least": 0.05}
    made = claim(kind="answers turn while accuracy stays", **rule)
    known = np.arange(N) < 100
    turned = known.copy()
    turned[:20], turned[100:120] = False, True
    found = decided(made, results({"none": rows(known), "rtn@all=4": rows(turned), "rtn@all=3": rows(50)}))
    assert (found.verdict, found.strata[0].amounts) == (HOLDS, (4,))
    assert found.main.effect == pytest.approx(0.2)
    assert decided(made, results({"none": rows(known), "rtn@all=4": rows(known)})).verdict == FAILS
    assert decided(made, results({"none": rows(known), "rtn@all=3": rows(50)})).verdict == NO_DATA


def test_bits_need_a_model_that_holds_more_than_the_bound():
    facts = Probe(facts="lab:people", limit=N, protocols=("cloze",)).factset()
    probe = Probe(facts="lab:people", limit=N, protocols=("cloze",))

    def answers(nats):
        frame = pd.DataFrame(
            {"protocol": "cloze", "fact": [f.id for f in facts.facts], "relation": [f.relation for f in facts.facts],
             "template": 0, "correct": True, "chance": 0.001, "valid": True, "score": -nats}
        )  # fmt: skip
        return frame

    rule = {"recipe": "rtn@all={amount}", "amounts": [4], "bound": 0.7}

    def verdict(nats, parameters):
        reports = {"none": {"weights_model": parameters}}
        found = results({"none": answers(0.01), "rtn@all=4": answers(nats)}, "lab:x", probe, reports)
        return decided(claim(kind="bits at most", **rule), found)

    assert verdict(0.01, 10**9).verdict == NO_DATA, "it holds next to nothing uncompressed"
    assert verdict(0.01, 1000).verdict == FAILS
    held = verdict(0.01, 1000)
    assert held.main.effect > 0.7
    assert verdict(8.0, 1000).verdict == HOLDS


def test_models_that_disagree_leave_it_undecided():
    good = results({"none": 160, ALL: 20, ATTENTION: 150, FEED: 150}, model="a")
    bad = results({"none": 160, ALL: 120, ATTENTION: 70, FEED: 70}, model="b")
    found = decided(less(), good | bad)
    found = found.main
    assert found.low > 0, "together they are clearly on the side of the claim"
    assert (found.verdict, found.clear_against, found.models, found.n) == (UNDECIDED, 1, ["a", "b"], 2 * N)
    assert found.effect == pytest.approx(np.mean([s.effect for s in found.strata]))
    alike = decided(less(), good | results({"none": 160, ALL: 30, ATTENTION: 150, FEED: 150}, model="c"))
    alike = alike.main
    assert alike.verdict == HOLDS
    assert alike.high - alike.low < alike.strata[0].high - alike.strata[0].low, "two strata say more than one"


def test_many_models_of_the_lab_do_not_outvote_one_of_language():
    holds, fails = {"none": 160, ALL: 20, ATTENTION: 150, FEED: 150}, {"none": 160, ALL: 120, ATTENTION: 70, FEED: 70}
    lab = {}
    for seed in (1, 2, 3):
        lab |= results(fails, model=f"lab:decoder-small-s{seed}")
    found = decided(less(), results(holds) | lab)
    language, own = found.parts
    assert (found.verdict, language.kind, language.models) == (HOLDS, LANGUAGE, ["smollm2-135m"])
    assert (own.kind, own.verdict, len(own.models), own.n) == (LAB, FAILS, 3, 3 * N)
    assert len(found.strata) == 4
    alone = decided(less(), lab)
    assert (alone.verdict, alone.main.kind) == (FAILS, LAB), "where no model of language has the rows, the lab decides"


def test_who_knows_nothing_is_not_asked():
    assert decided(less(), results({"none": 44, ALL: 40, ATTENTION: 44, FEED: 44})).verdict == NO_DATA
    guesses = Probe(facts="lab:strangers", limit=N, protocols=("rank",))
    found = results({"none": 160, ALL: 20, ATTENTION: 150, FEED: 150}, probe=guesses)
    assert decided(less(), found).verdict == NO_DATA, "a control is no knowledge"


def test_one_origin_for_each_model_and_source_the_first_that_has_the_rows():
    own = results({"none": 160, ALL: 20})
    record = results({"none": 160, ALL: 120, ATTENTION: 150, FEED: 150})
    found = decided(less(), own, record)
    assert found.origins == ["origin 1"]
    both = decided(less(), results({"none": 160, ALL: 20, ATTENTION: 150, FEED: 150}), record)
    assert (both.origins, len(both.strata)) == (["origin 0"], 1)


def test_the_origin_with_more_of_what_is_asked():
    own = results({"none": 160, "magnitude@all=0.2": 150})
    record = results({"none": 160, "magnitude@all=0.2": 60, ALL: 20})
    asked = claim(kind="kept at most", recipe="magnitude@all={amount}", amounts=[0.2, 0.5], bound=0.5)
    assert decided(asked, own, record).origins == ["origin 1"], "one amount of two is not as much"
    assert decided(asked, own | results({ALL: 140}), record).origins == ["origin 0"]


def test_of_two_samples_the_larger():
    small = PROBE.model_copy(update={"limit": 50})
    part = {Cell("smollm2-135m", r, small): v for (c, v) in results({"none": 160, ALL: 1}).items() for r in [c.recipe]}
    for result in part.values():
        result.rows = result.rows.iloc[:50]
    full = results({"none": 160, ALL: 90})
    rule = {"recipe": "magnitude@all={amount}", "amounts": [0.5], "bound": 0.5}
    found = decided(claim(kind="kept at most", **rule), part | full)
    assert found.main.n == N


def test_sides():
    assert [side(1, 2, 0, "above"), side(-2, -1, 0, "above"), side(-1, 1, 0, "above")] == [HOLDS, FAILS, UNDECIDED]
    assert [side(1, 2, 0, "below"), side(-2, -1, 0, "below")] == [FAILS, HOLDS]
    assert side(math.nan, math.nan, 0, "above") == UNDECIDED


def test_a_verdict_changes_when_the_rows_do():
    found = results({"none": 160, ALL: 60, ATTENTION: 120, FEED: 110})
    assert decided(less(), found).verdict == HOLDS
    cell = next(c for c in found if c.recipe == ALL)
    found[cell].rows = rows(158)
    assert decided(less(), found).verdict == FAILS
    del found[cell]
    assert decided(less(), found).verdict == NO_DATA


def test_rows_that_do_not_belong_together_are_told_and_decide_nothing():
    found = results({"none": 160, ALL: rows(60).iloc[1:], ATTENTION: 120, FEED: 110})
    told = decided(less(), found)
    assert told.verdict == NO_DATA
    assert "do not ask the same facts" in told.trouble
    assert "\n" not in told.trouble


# the ledger itself


def test_the_ledger_holds_ten_claims_of_known_sources():
    ledger = read_ledger(LEDGER)
    assert len(ledger.claims) >= 10
    bibliography = (ROOT / "book" / "references.bib").read_text()
    assert all(f"{{{c.source}," in bibliography for c in ledger.claims)
    assert {"namburi2023", "jin2024", "allenzhu2024", "jaiswal2024", "wu2026"} <= {c.source for c in ledger.claims}
    assert all(d.verdict == NO_DATA for d in decide_all(ledger, Evidence({})))
    assert all(c.decided_by.says.endswith((" 0", "%", "points")) or "below" in c.decided_by.says for c in ledger.claims)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"verdict": "holds"}, r"claim 'all-together', claims.0.verdict: Extra"),
        ({"decided_by": {"kind": "keeps less", "worse": "magnitude@all={amount}", "better": [], "amounts": [0.5]}}, "better"),
        ({"decided_by": {"kind": "by feeling"}}, "keeps less"),
        ({"decided_by": {"kind": "kept at most", "recipe": "prune@all={amount}", "amounts": [1], "bound": 0.5}}, "prune"),
        ({"decided_by": {"kind": "kept at most", "recipe": "rtn@all=4", "amounts": [4], "bound": 0.5, "limit": 3}}, "limit"),
        ({"source": None}, "source"),
        ({"id": "All Together"}, "lower-case"),
        ({"against": "nobody"}, "nobody"),
    ],
)  # fmt: skip
def test_what_the_ledger_cannot_hold_is_refused_by_name(tmp_path, change, says):
    written = yaml.safe_load(LEDGER.read_text())
    written["claims"][0] |= change
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump(written))
    with pytest.raises(BadRequest, match=says) as error:
        read_ledger(file)
    assert "claims.yaml" in str(error.value)


def test_a_claim_twice_or_no_ledger_at_all(tmp_path):
    written = yaml.safe_load(LEDGER.read_text())
    written["claims"].append(written["claims"][0])
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(written))
    with pytest.raises(BadRequest, match="all-together is there twice"):
        read_ledger(tmp_path / "claims.yaml")
    with pytest.raises(BadRequest, match="cannot be read"):
        read_ledger(Path(tmp_path / "none.yaml"))


def test_knowing_something():
    assert claim_rows.knows_something(rows(100))
    assert not claim_rows.knows_something(rows(46))
