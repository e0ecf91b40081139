"""The ledger: verdicts by protocol and by models, vetoes, which rows decide, and what `claims.yaml` cannot hold."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from kc_utils.errors import BadRequest
from kc_utils.stats.claims import (
    AGAINST,
    CONSISTENT,
    CONTRARY,
    DEPENDS,
    FAILS,
    FOR,
    HOLDS,
    NO_DATA,
    UNDECIDED,
    decide_all,
    read_ledger,
)  # fmt: skip
from kc_utils.stats.evidence import LAB, LANGUAGE, Effect, Evidence, together
from tests.conftest import ROOT
from tests.stats.claimed import ALL, ATTENTION, BAD, FEED, GOOD, N, both_ways, claim, decided, less, part, results, rows

LEDGER = ROOT / "book" / "claims.yaml"


def test_verdicts_by_protocol_and_number_of_models():
    half = {"none": 160, ALL: 90, ATTENTION: 92, FEED: 92}

    def verdict(rank, cloze, models="a"):
        return decided(less(), *(both_ways(rank, cloze, model=m) for m in models)).verdict

    assert verdict(GOOD, BAD) == verdict(BAD, GOOD, "abc") == DEPENDS
    assert [verdict(GOOD, GOOD, models) for models in ("a", "ab", "abc")] == [CONSISTENT, CONSISTENT, HOLDS]
    assert [verdict(BAD, BAD, models) for models in ("a", "ab", "abc")] == [CONTRARY, CONTRARY, FAILS]
    assert (verdict(half, GOOD), verdict(BAD, half, "abc"), verdict(half, half)) == (CONSISTENT, FAILS, UNDECIDED)
    one = decided(less(), both_ways(GOOD, GOOD, model="a"), *(results(GOOD, model=m) for m in "bc"))
    assert (one.verdict, [len(p.models) for p in one.parts]) == (CONSISTENT, [3, 1]), "by cloze one model alone decides"


def test_an_effect_has_to_matter():
    """Of 4,000 facts 2,400 are known: 48 are the least that matters."""

    def found(worse, better):
        right = {r: np.arange(4000) < n for r, n in (("none", 3200), (ALL, 2000), (ATTENTION, 2000 + better))}
        right[ALL][2000 - worse : 2000] = False
        many = {
            r: [rows(x[i::20]).assign(fact=[f"f{n}" for n in range(i, 4000, 20)]) for i in range(20)] for r, x in right.items()
        }
        return part(decided(less(better=(ATTENTION,)), results({r: pd.concat(x) for r, x in many.items()})))

    clear, enough, nearly, small = (found(n, n) for n in (60, 25, 23, 10))
    assert [p.side for p in (clear, enough, nearly, small)] == [FOR, FOR, UNDECIDED, AGAINST]
    assert clear.effect == pytest.approx(120 / 2400)
    assert nearly.low > 0, "clearly there, and perhaps too small to matter"
    assert 0 < small.low < small.high < 0.02, "clearly there, and clearly too small to matter"


def test_sources_with_pooled_answers_are_not_ranked():
    found = decided(less(), both_ways(BAD, GOOD, facts="lama:squad"), results(GOOD))
    assert [(p.protocol, [s.facts for s in p.strata]) for p in found.parts] == [
        ("rank", ["worldfacts"]),
        ("cloze", ["lama:squad"]),
    ]


@pytest.mark.parametrize(("mean", "other", "side"), [(GOOD, BAD, FOR), (BAD, GOOD, AGAINST)])
def test_strata_that_disagree_veto_both_ways(mean, other, side):
    """Seven sources of a model are clearly on one side, and so is their mean; one source is clearly on the other."""
    many = [both_ways(mean, mean, facts=f"source {n}") for n in range(7)]
    alone = decided(less(), *many)
    assert alone.verdict == (CONSISTENT if side == FOR else CONTRARY)
    assert [(p.side, p.disagree) for p in alone.parts] == [(side, 0)] * 2
    found = decided(less(), *many, both_ways(other, mean, facts="worldfacts"))
    assert (found.parts[1].side, found.parts[1].disagree) == (side, 0), "the other protocol is decided, and not alone"
    mixed = part(found)
    assert mixed.effect == pytest.approx(np.mean([s.effect for s in mixed.strata]))
    assert mixed.low > 0.02 if side == FOR else mixed.high < 0, "together they are clearly on one side"
    assert (found.verdict, mixed.side, mixed.disagree, mixed.n) == (UNDECIDED, UNDECIDED, 1, 8 * N)
    apart = decided(less(), both_ways(mean, mean), both_ways(other, mean, facts="bear"))
    assert (apart.verdict, part(apart).disagree) == (UNDECIDED, 1), "sources contradict each other"


def test_few_facts_neither_decide_nor_hide_what_others_decide():
    made = claim(kind="kept at least", recipe="int8@all", amounts=[8], bound=0.95)
    right, strict = {"none": 160, "int8@all": 160}, {"none": 160, "int8@all": 100}
    noisy = {r: rows(np.arange(N) % 5 < n) for r, n in (("none", 3), ("int8@all", 2))}
    of = lambda n: results(noisy, facts="bear").query(f"fact < 'f{n:03}'")  # noqa: E731
    assert part(decided(made, both_ways(right, strict), of(100))).side == UNDECIDED, "enough to widen the mean"
    found = decided(made, both_ways(right, strict), of(36))
    assert (found.verdict, part(found).side, decided(made, of(99)).verdict) == (DEPENDS, FOR, NO_DATA)


def test_several_models_say_more_than_one_and_no_more_than_they_can():
    """Three models that lose alike; three that do not, by hand; two, which speak of other facts alone."""
    loses = lambda *right: part(decided(less(), *(results({**GOOD, ALL: n}, model=f"m{n}") for n in right)))  # noqa: E731
    one, two, alike, apart = loses(80), loses(80, 40), loses(78, 80, 82), loses(40, 80, 120)
    assert alike.high - alike.low >= 0.99 * (one.high - one.low), "the same facts are lost: more models add nothing"
    assert two.high - two.low < 1.2 * (one.high - one.low)
    values = np.array([s.effect for s in apart.strata])
    reach = 4.303 * values.std(ddof=1) / np.sqrt(3)  # Student's t with two degrees of freedom
    assert (apart.low, apart.high) == pytest.approx((values.mean() - reach, values.mean() + reach), rel=0.25)
    assert (two.side, alike.side, apart.side) == (FOR, FOR, UNDECIDED)


def test_undefined_resamples_of_one_stratum_do_not_undo_the_mean():
    draws, strata = np.random.default_rng(0).normal(0.2, 0.02, 2000), []
    for i in range(4):
        some = draws.copy()
        some[15 * i : 15 * (i + 1)] = np.nan  # 0.75 % in each, 3 % in all
        strata.append(Effect(f"m{i}", "f", "o", 100, (0.5,), 0.2, 0.16, 0.24, some, 100.0))
    assert together(strata) == pytest.approx((0.2, 0.16, 0.24), abs=0.005), "the same facts: no less than one of them"


def test_models_share_a_source_whatever_else_they_answer():
    """Two models answer f and g, a third g alone: by hand the mean varies as (f + 2 g) / 3, of variance 5/9 against 1/2."""
    draws = np.random.default_rng(0).normal(0.2, 0.02, 2000)
    strata = [Effect(m, f, "o", 100, (0.5,), 0.2, 0.16, 0.24, draws, 100.0) for m in "abc" for f in ("f", "g")]
    (_, low, high), (_, fewer_low, fewer_high) = together(strata), together(strata[:4] + strata[5:])
    assert (fewer_high - fewer_low) / (high - low) == pytest.approx(np.sqrt((5 / 9) / (1 / 2)), rel=0.05)


def test_many_lab_models_do_not_outvote_one_language_model():
    lab = [results(BAD, model=f"lab:decoder-small-s{seed}", facts="lab") for seed in (1, 2, 3)]
    found = decided(less(), results(GOOD), *lab)
    language, own = found.parts
    assert (found.verdict, found.main, language.models) == (CONSISTENT, LANGUAGE, ["smollm2-135m"])
    assert (own.kind, found.verdict_in(LAB), len(own.models), own.n) == (LAB, FAILS, 3, 3 * N)
    alone = decided(less(), *lab)
    assert (alone.verdict, alone.main) == (FAILS, LAB), "where no language model has the rows, lab models decide"


def test_who_knows_nothing_decides_nothing():
    assert decided(less(), results({"none": 44, ALL: 40, ATTENTION: 44, FEED: 44})).verdict == NO_DATA
    assert decided(less(), results(GOOD, facts="lab:strangers")).verdict == NO_DATA, "a control is no knowledge"
    shown = results(GOOD).assign(shots=2)
    assert decided(less(), shown).verdict == NO_DATA, "examples in the query are not from memory"


def test_one_origin_for_each_model_and_source_that_with_most_of_what_is_needed():
    own, record = results({"none": 160, ALL: 20}), results({**GOOD, ALL: 120}, origin="record")
    assert [s.origin for s in part(decided(less(), own, record)).strata] == ["record"]
    assert [s.origin for s in part(decided(less(), results(GOOD), record)).strata] == ["here"], "the first of several"
    two = claim(kind="kept at most", recipe="magnitude@all={amount}", amounts=[0.2, 0.5], bound=0.5)
    own = results({"none": 160, "magnitude@all=0.2": 150})
    record = results({"none": 160, "magnitude@all=0.2": 60, ALL: 20}, origin="record")
    assert [s.origin for s in part(decided(two, own, record)).strata] == ["record"], "one amount of two is not as much"
    small = results(GOOD, probe="small")
    assert part(decided(less(), small[small["fact"] < "f050"], results(GOOD))).n == N, "of two samples the larger"


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
