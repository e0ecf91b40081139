"""The ledger: verdicts on rows with known truth, vetoes, which rows decide, and what `claims.yaml` cannot hold."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import kc_utils as kc
from kc_utils.errors import BadRequest
from kc_utils.probing.sources import load_source
from kc_utils.stats.claims import FAILS, HOLDS, NO_DATA, UNDECIDED, Claim, decide, decide_all, read_ledger
from kc_utils.stats.evidence import LAB, LANGUAGE, Effect, Evidence, kept, together
from tests.conftest import ROOT
from tests.stats.claimed import CHANCE, N, results, rows, windows

LEDGER = ROOT / "book" / "claims.yaml"
ALL, ATTENTION, FEED = "magnitude@all=0.5", "magnitude@attention=0.5", "magnitude@feed_forward=0.5"
GOOD, BAD = {"none": 160, ALL: 20, ATTENTION: 150, FEED: 150}, {"none": 160, ALL: 120, ATTENTION: 70, FEED: 70}


def claim(**rule) -> Claim:
    return Claim(
        id="c", title="C", statement="It is so.", source="namburi2023", known_from="secondary", decided_by=rule
    )


def less(worse=ALL, better=(ATTENTION, FEED)):
    return claim(kind="keeps less", worse=worse, better=list(better), amounts=[0.5])


def decided(made: Claim, *frames: pd.DataFrame):
    return decide(made, Evidence(pd.concat(frames, ignore_index=True)))


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
    frame = results({"none": 160, ALL: 90})
    whole = kept(Evidence(frame).strata[0], (ALL,), "rank")
    line = kc.compare(frame).set_index("recipe").loc[ALL]
    assert whole.at[ALL] == pytest.approx(line["retention"])
    assert np.quantile(whole.draws[ALL], [0.025, 0.975]) == pytest.approx(
        [line["retention_low"], line["retention_high"]], abs=0.01
    )
    assert whole.n == N


def test_kept_at_most_and_at_least():
    for right, most, least in ((60, HOLDS, FAILS), (156, FAILS, HOLDS), (100, UNDECIDED, UNDECIDED)):
        found = results({"none": 160, ALL: right})
        rule = {"recipe": "magnitude@all={amount}", "amounts": [0.5, 0.6], "bound": 0.5}
        assert decided(claim(kind="kept at most", **rule), found).verdict == most
        assert decided(claim(kind="kept at least", **rule), found).verdict == least
        (stratum,) = decided(claim(kind="kept at most", **rule), found).strata
        assert stratum.amounts == (0.5,), "amounts without rows are left out, and the page says so"


def test_little_extra_cost():
    def verdict(both):
        found = results({"none": 160, "magnitude@all=0.2": 150, "magnitude@all=0.2+int8@all": both})
        rule = {"first": "magnitude@all={amount}", "second": "int8@all", "amounts": [0.2], "margin": 0.05}
        return decided(claim(kind="little extra cost", **rule), found).verdict

    assert (verdict(150), verdict(147), verdict(100)) == (HOLDS, UNDECIDED, FAILS)


def test_cost_for_each_weight():
    head = "magnitude@head=0.5"
    rule = {"recipe": "magnitude@head={amount}", "against": "magnitude@all={amount}", "amounts": [0.5]}
    made = claim(kind="costs more per weight", **rule)

    def found(removed):
        return decided(
            made, results({"none": 160, ALL: 60, head: 120}, weights_removed={head: removed, ALL: 10_000_000.0})
        )

    assert found(1_000_000.0).verdict == HOLDS
    assert found(1_000_000.0).main.effect == pytest.approx((40 / 120) / 1 - (100 / 120) / 10)
    assert found(40_000_000.0).verdict == FAILS
    assert found(0.0).verdict == NO_DATA, "no weight was removed: there is nothing to divide by"


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
    assert decided(claim(**rule), results({"none": 160, ALL: 60})).verdict == NO_DATA


def test_lost_while_perplexity_is_flat():
    rule = {"recipe": "magnitude@all={amount}", "amounts": [0.1, 0.5], "flat": 1.05, "least": 0.05}
    made = claim(kind="lost while perplexity is flat", **rule)
    facts = lambda right: results({"none": 160, "magnitude@all=0.1": 160, ALL: right})  # noqa: E731

    def found(right, nats):
        read = {"none": windows(3.0), "magnitude@all=0.1": windows(3.0), ALL: windows(nats)}
        return decided(made, facts(right), results(read, facts="wikitext2", probe="text"))

    assert found(100, 3.01).verdict == HOLDS
    assert found(100, 3.01).strata[0].amounts == (0.5,), "the largest amount at which it is flat"
    assert found(100, 4.0).verdict == FAILS, "at 0.5 perplexity has risen, at 0.1 nothing is lost"
    assert decided(made, facts(100)).verdict == NO_DATA


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
    assert found(0.01, 1000).verdict == FAILS
    assert found(0.01, 1000).main.effect > 0.7
    assert found(8.0, 1000).verdict == HOLDS


def test_strata_that_disagree_veto_both_ways():
    half = {"none": 160, ALL: 70, ATTENTION: 110, FEED: 110}
    for mean, other, raw in ((GOOD, BAD, 1), (BAD, half, -1)):
        clear = decided(less(), *(results(mean, model=m) for m in "ab"))
        assert clear.verdict == (HOLDS if raw > 0 else FAILS)
        found = decided(less(), *(results(mean, model=m) for m in "ab"), results(other, model="c")).main
        assert found.effect == pytest.approx(np.mean([s.effect for s in found.strata]))
        assert found.low > 0 if raw > 0 else found.high < 0, "together they are clearly on one side"
        assert (found.verdict, found.clear_against, found.models, found.n) == (UNDECIDED, 1, ["a", "b", "c"], 3 * N)
    alike = decided(less(), results(GOOD, model="a"), results({**GOOD, ALL: 30}, model="b")).main
    assert alike.verdict == HOLDS
    assert alike.high - alike.low < alike.strata[0].high - alike.strata[0].low, "two strata say more than one"


def test_undefined_resamples_of_one_stratum_do_not_undo_the_mean():
    draws = np.random.default_rng(0).normal(0.2, 0.02, 2000)
    some = draws.copy()
    strata = []
    for i in range(4):
        some = draws.copy()
        some[15 * i : 15 * (i + 1)] = np.nan  # 0.75 % in each, 3 % in all
        strata.append(Effect(f"m{i}", "f", "o", 100, (0.5,), 0.2, 0.16, 0.24, some, 100.0))
    effect, low, high = together(strata)
    assert (effect, low, high) == pytest.approx((0.2, 0.18, 0.22), abs=0.005)


def test_many_lab_models_do_not_outvote_one_language_model():
    lab = [results(BAD, model=f"lab:decoder-small-s{seed}", facts="lab") for seed in (1, 2, 3)]
    found = decided(less(), results(GOOD), *lab)
    language, own = found.parts
    assert (found.verdict, language.kind, language.models) == (HOLDS, LANGUAGE, ["smollm2-135m"])
    assert (own.kind, own.verdict, len(own.models), own.n) == (LAB, FAILS, 3, 3 * N)
    assert len(found.strata) == 4
    alone = decided(less(), *lab)
    assert (alone.verdict, alone.main.kind) == (FAILS, LAB), "where no language model has the rows, lab models decide"


def test_who_knows_nothing_decides_nothing():
    assert decided(less(), results({"none": 44, ALL: 40, ATTENTION: 44, FEED: 44})).verdict == NO_DATA
    assert decided(less(), results(GOOD, facts="lab:strangers")).verdict == NO_DATA, "a control is no knowledge"
    shown = results(GOOD).assign(shots=2)
    assert decided(less(), shown).verdict == NO_DATA, "examples in the query are not from memory"


def test_one_origin_for_each_model_and_source_that_with_most_of_what_is_needed():
    own, record = results({"none": 160, ALL: 20}), results({**GOOD, ALL: 120}, origin="record")
    assert [s.origin for s in decided(less(), own, record).strata] == ["record"]
    assert [s.origin for s in decided(less(), results(GOOD), record).strata] == ["here"], "the first of several"
    two = claim(kind="kept at most", recipe="magnitude@all={amount}", amounts=[0.2, 0.5], bound=0.5)
    own = results({"none": 160, "magnitude@all=0.2": 150})
    record = results({"none": 160, "magnitude@all=0.2": 60, ALL: 20}, origin="record")
    assert [s.origin for s in decided(two, own, record).strata] == ["record"], "one amount of two is not as much"
    small = results(GOOD, probe="small")
    assert decided(less(), small[small["fact"] < "f050"], results(GOOD)).main.n == N, "of two samples the larger"


def test_rows_that_do_not_belong_together_are_reported_and_decide_nothing():
    found = decided(less(), results({"none": 160, ALL: rows(60).iloc[1:], ATTENTION: 120, FEED: 110}))
    assert found.verdict == NO_DATA
    assert "do not query the same facts" in found.trouble
    assert "\n" not in found.trouble


# the ledger itself


def test_the_ledger_holds_ten_claims_of_known_sources():
    ledger = read_ledger(LEDGER)
    assert len(ledger.claims) >= 10
    bibliography = (ROOT / "book" / "references.bib").read_text()
    assert all(f"{{{c.source}," in bibliography for c in ledger.claims)
    assert {"namburi2023", "jin2024", "allenzhu2024", "jaiswal2024", "wu2026"} <= {c.source for c in ledger.claims}
    assert all(d.verdict == NO_DATA for d in decide_all(ledger, Evidence(pd.DataFrame())))
    for c in ledger.claims:
        assert "the claim needs it" in c.decided_by.says and "{" not in c.decided_by.says.replace("{amount}", "")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"verdict": "holds"}, r"claim 'all-together', claims.0.verdict: Extra"),
        ({"decided_by": {"kind": "keeps less", "worse": "magnitude@all={amount}", "better": [], "amounts": [0.5]}}, "better"),
        ({"decided_by": {"kind": "by feeling"}}, "keeps less"),
        ({"decided_by": {"kind": "kept at most", "recipe": "prune@all={amount}", "amounts": [1], "bound": 0.5}}, "prune"),
        ({"decided_by": {"kind": "kept at most", "recipe": "rtn@all=4", "amounts": [4], "bound": 0.5, "limit": 3}}, "limit"),
        ({"source": None}, "source"),
        ({"id": "All Together"}, "match pattern"),
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
