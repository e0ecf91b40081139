"""`kc verify`: recorded evaluations come out again; what was tampered with, or cannot be compared, is reported apart."""

import hashlib
import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kc_utils.compression import calibration
from kc_utils.errors import BadRequest
from kc_utils.study import measure, packing, record, verify
from kc_utils.study.cells import Cell
from tests.study.recorded import computed, evaluated, file, recorded, registered, study
from tests.trained import PROBE

__all__ = ["computed", "evaluated", "recorded", "registered", "study"]  # fixtures


def tamper(tmp_path, change):
    """Change the recorded rows and list the file as if it had always been so: only computing again can tell."""
    path = file(tmp_path)
    content = path.read_bytes()
    rows = change(packing.unpacked(content, "x"))
    path.write_bytes(packing.packed(rows, packing.about(content, "x")))
    listing = tmp_path / "reference" / "small" / "record.json"
    found = json.loads(listing.read_text())
    found["files"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    listing.write_text(json.dumps(found))


def test_recorded_cells_reproduce(recorded, kc, tmp_path):
    code, out, err = kc("verify", "--study", "small", "--sample", "9", "--json")
    checks = json.loads(out)
    assert code == 0, err
    assert {c["recipe"] for c in checks} == {c.recipe for c in recorded.cells}
    for check in checks:
        assert check["agreement"] == verify.BY_ANSWER
        assert check["reproduces"] and check["same_code"] and not check["why"]
        assert check["turned"] == 0 and check["largest"] <= packing.STEP
        assert check["accuracy"] == check["accuracy_recorded"]
        assert (check["n"], check["facts"]) == (60, "worldfacts")
    assert not (tmp_path / "elsewhere").exists(), "nothing is stored"


def turned(rows):
    rows.loc[rows.index[rows["recipe"] == "rtn@all=3"][:2], "correct"] ^= True
    return rows


def scored(rows):
    rows.loc[rows.index[rows["recipe"] == "rtn@all=3"][5], "score"] -= 0.2
    return rows


def gone(rows):
    return rows.drop(rows.index[rows["recipe"] == "rtn@all=3"][:3])


@pytest.mark.parametrize(
    ("change", "why"),
    [(turned, "2 answers turned, 1 may"), (scored, r".*0\.2"), (gone, "57 recorded and 60 fresh questions share 57")],
)
def test_what_was_tampered_with_is_caught(recorded, kc, tmp_path, change, why):
    tamper(tmp_path, change)
    code, out, err = kc("verify", "--study", "small")
    assert code == 5
    assert err.strip().splitlines()[-1].startswith("kc: 1 of 3 recorded evaluations do not reproduce")
    assert re.search(f"rtn@all=3, worldfacts: {why}", err) and len(re.findall(f" no +{why}", out)) == 1
    assert out.count("answer by answer") == 2


def test_other_facts_or_weights_are_not_compared(recorded, monkeypatch):
    monkeypatch.setattr("kc_utils.study.cells._facts_hash", lambda _: "others")
    monkeypatch.setattr(measure, "make", lambda *_: pytest.fail("nothing to compute"))
    checks = verify.verify("small", 3)
    assert {c.why for c in checks} == {"the facts here are not those of the record"}
    assert not any(c.reproduces or c.same_code for c in checks)


def test_without_a_record_or_its_files_there_is_one_clear_line(recorded, kc, tmp_path):
    code, _, err = kc("verify", "--study", "smoke")
    assert code == 3
    assert err.strip() == "kc: study smoke has no results of record; there are those of small"
    with pytest.raises(BadRequest, match="at least one"):
        verify.verify("small", 0)
    file(tmp_path).unlink()
    code, out, err = kc("verify", "--study", "small")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "small/tiny-decoder/worldfacts.parquet are absent" in err


def test_a_sample_is_drawn_by_its_seed_and_grows_by_adding(recorded):
    found = record.load("small")
    assert verify.sample(found, 9, 0) == verify.sample(found, 9, 0)
    assert verify.sample(found, 2, 0) == verify.sample(found, 3, 0)[:2]
    assert verify.sample(found, 9, 0, ["tiny-*"]) == verify.sample(found, 9, 0)
    with pytest.raises(BadRequest, match=r"no model of the record of small is 'lab:\*'"):
        verify.sample(found, 9, 0, ["lab:*"])
    assert any(verify.sample(found, 3, 0) != verify.sample(found, 3, seed) for seed in range(1, 9))


def rows(score, correct=None):
    n = len(score)
    return pd.DataFrame(
        {"protocol": "rank", "fact": [f"f{i}" for i in range(n)], "template": 0, "score": score,
         "correct": [True] * n if correct is None else correct}
    )  # fmt: skip


CELL, INT8, GPTQ = (Cell("tiny", r, PROBE) for r in ("magnitude@all=0.5", "int8@all", "gptq@all=4,group=32,samples=4"))


def test_tolerances_grow_with_the_score():
    then = rows([-1.0, -2.0, -400.0])
    assert verify.compare(CELL, rows([-1.0, -2.01, -400.3]), then).agreement == verify.BY_ANSWER
    assert verify.compare(CELL, rows([-1.0, -2.3, -400.0]), then).agreement == verify.NO
    assert verify.compare(INT8, rows([-1.0, -2.01, -400.3]), then).agreement == verify.BY_ANSWER

    # every score a little off is no accident of sums, though none is beyond what the worst may be
    off = verify.compare(CELL, rows([-1.016] * 40), rows([-1.0] * 40))
    assert not off.reproduces and "in the middle" in off.why


def test_numbers_in_one_alone_do_not_reproduce():
    then = rows([-1.0, np.nan])
    assert verify.compare(CELL, rows([-1.0, np.nan]), then).reproduces
    for cell in (CELL, INT8):
        found = verify.compare(cell, rows([-1.0, -1.0]), then)
        assert not found.reproduces and "1 answers or scores are there in one of the two alone" in found.why


def test_noise_moves_answers_and_scores_both_ways_and_never_one_way():
    n, draw = 200, np.random.default_rng(0)
    half = [at % 2 == 0 for at in range(n)]
    both_ways = [not right if at < 24 else right for at, right in enumerate(half)]
    then, noise = rows([-1.0] * n, half), draw.normal(0, 0.4, n)
    found = verify.compare(INT8, rows(-1.0 + noise, both_ways), then)
    assert (found.turned, found.agreement) == (24, verify.IN_DISTRIBUTION)
    assert "24 answers turned" in found.why
    assert verify.compare(CELL, rows(-1.0 + noise, both_ways), then).agreement == verify.NO, "pruning draws no noise"

    # what moves one way is not noise
    one_way = [False if at < 48 else right for at, right in enumerate(half)]
    lost = verify.compare(INT8, rows(-1.0 + noise, one_way), then)
    assert not lost.reproduces and lost.z_answers == pytest.approx(24**0.5)
    assert "answers moved one way, by 4.9 standard errors" in lost.why
    shifted = verify.compare(INT8, rows(-1.15 + noise, half), then)
    assert not shifted.reproduces and "scores moved one way" in shifted.why


def test_paraphrases_of_a_fact_are_one_draw():
    """Paraphrases of a fact move together: nine facts in four paraphrases are nine draws, not thirty-six."""

    def queried(score, correct):
        found = rows(score, correct)
        return found.assign(fact=[f"f{i // 4}" for i in range(len(found))], template=[i % 4 for i in range(len(found))])

    then, now = queried([-1.0] * 36, [True] * 36), queried([-1.0] * 36, [False] * 32 + [True] * 4)
    assert verify.compare(INT8, now, then).z_answers == pytest.approx(8**0.5)


@pytest.mark.parametrize(("fewer", "agrees"), [(13, True), (14, False)])
def test_gptq_is_decided_by_draws_that_move_all_facts_together(fewer, agrees):
    right = [96, 104, 96, 104, 100, 100]  # of 200, in six draws; the record has fewer than their mean
    then, *drawn = (rows([-1 - n / 100] * 200, [i < n for i in range(200)]) for n in (100 - fewer, *right))
    found = verify.compare(GPTQ, drawn[1], then, drawn[:1] + drawn[2:])
    reach = 1 + stats.t.ppf(1 - 0.05 / 4, 5) * np.std(right, ddof=1) * (1 + 1 / 6) ** 0.5  # two intervals; one may turn
    assert (found.reproduces, fewer < reach) == (agrees, agrees)
    assert agrees or f"correct by rank is 0.430 in the record and 0.500 +- {reach / 200:.3f} in 6 draws" in found.why


def test_draws_read_the_same_paragraphs_in_other_orders(registered, monkeypatch):
    cell, read, real = Cell.of(registered, GPTQ.recipe, PROBE), [], calibration.batch
    monkeypatch.setattr(calibration, "batch", lambda *args: read.append(calibration.texts(*args[2:])) or real(*args))
    assert len(list(verify.draws(cell, measure.make(cell.model, cell.recipe)))) == verify.DRAWS
    orders = {texts for texts in read if len(texts) == 4}  # the others are of `check`
    assert len(orders) > 2 and len(set(map(frozenset, orders))) == 1


def test_another_calibration_text_is_not_compared(registered):
    cell, report = Cell.of(registered, GPTQ.recipe, PROBE), {"steps": [{"method": "gptq", "calibration": "another"}]}
    before = record.CellResult(cell.key, rows([-1.0]), report, {"depends_on": cell.depends_on, "made": {"seconds": {}}})
    found = verify.check(cell, type("File", (), {"result": lambda *_: before})(), None)
    assert found.why == "the calibration text here is not that of the record" and not found.reproduces
