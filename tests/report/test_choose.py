"""Which compression for a budget: what is offered, which versions none beats, and the page that is written of it."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kc_utils.stats.frontier import offers, unbeaten, within
from kc_utils.errors import MissingData
from kc_utils.probing.probe import Probe
from kc_utils.report.interactive.choose import NOTHING, choose_page
from kc_utils.study import speeds
from kc_utils.study.cells import Cell

CLOZE = Probe(protocols=("cloze",), limit=40)


def result(right: int, megabytes: float, n: int = 40, protocol: str = "cloze"):
    rows = pd.DataFrame(
        {
            "protocol": protocol, "relation": ["capital", "currency"] * (n // 2), "fact": [f"f{i}" for i in range(n)],
            "template": 0, "correct": [i < right for i in range(n)], "chance": 0.0, "valid": True, "popularity": 1.0,
        }
    )  # fmt: skip
    return SimpleNamespace(rows=rows, report={"bytes_compressed": int(1e6 * megabytes)})


RESULTS = {
    Cell("tiny", "none", CLOZE): result(30, 200.0),
    Cell("tiny", "int8@all", CLOZE): result(30, 100.0),
    Cell("tiny", "rtn@all=4", CLOZE): result(24, 60.0),
    Cell("tiny", "magnitude@all=0.5", CLOZE): result(12, 110.0),
    Cell("tiny", "magnitude@all=0.2+int8@all", CLOZE): result(27, 90.0),
}


def test_every_version_is_offered_with_its_size_what_it_keeps_and_its_technique():
    frame = offers(RESULTS).set_index("recipe")
    assert set(frame["question"]) == {"worldfacts, cloze, 40 facts"}
    assert frame["megabytes"].to_dict() == {
        "none": 200.0, "int8@all": 100.0, "rtn@all=4": 60.0, "magnitude@all=0.5": 110.0, "magnitude@all=0.2+int8@all": 90.0,
    }  # fmt: skip
    assert frame.loc["rtn@all=4", "kept"] == pytest.approx(0.8)
    assert frame.loc["rtn@all=4", "low"] < 0.8 < frame.loc["rtn@all=4", "high"]
    assert frame["technique"].to_dict() == {
        "none": "uncompressed", "int8@all": "quantization", "rtn@all=4": "quantization",
        "magnitude@all=0.5": "pruning", "magnitude@all=0.2+int8@all": "pruning then quantization",
    }  # fmt: skip
    assert set(frame.index[frame["frontier"]]) == {"int8@all", "magnitude@all=0.2+int8@all", "rtn@all=4"}


def test_versions_of_another_origin_stand_beside_their_own_uncompressed_model():
    other = {cell: result(20 if cell.recipe == "none" else 10, 80.0) for cell in RESULTS if cell.recipe != "rtn@all=4"}
    frame = offers({c: r for c, r in RESULTS.items() if c.recipe in ("none", "int8@all", "rtn@all=4")}, other)
    kept = frame.set_index("recipe")["kept"].to_dict()
    assert kept["int8@all"] == 1.0  # of the preferred origin
    assert kept["magnitude@all=0.5"] == pytest.approx(0.5)  # 10 of 20, not 10 of 30
    assert frame["recipe"].is_unique


def test_what_none_beats_is_what_comparing_all_pairs_finds():
    draw = np.random.default_rng(0)
    part = pd.DataFrame({"megabytes": draw.integers(1, 12, 60), "kept": draw.integers(0, 9, 60) / 8})
    found = unbeaten(part)
    for i, mine in part.iterrows():
        beaten = any(
            (o.megabytes <= mine.megabytes and o.kept > mine.kept)
            or (o.megabytes < mine.megabytes and o.kept >= mine.kept)
            for o in part.itertuples()
        )
        assert found[i] == (not beaten)


def test_a_budget_is_kept_and_the_best_comes_first():
    frame = offers(RESULTS)
    assert within(frame, 95.0)["recipe"].tolist() == ["magnitude@all=0.2+int8@all", "rtn@all=4"]
    assert within(frame, 300.0)["recipe"].iloc[0] == "int8@all"
    assert within(frame, 1.0).empty


def test_of_two_samples_of_one_source_the_larger_counts_and_open_books_do_not():
    few = Probe(protocols=("cloze",), limit=20)
    more = {
        Cell("tiny", recipe, few): result(20, size, 20)
        for recipe, size in (("none", 200), ("int8@all", 100), ("x@", 1))
    }
    more = {c: r for c, r in more.items() if c.recipe != "x@"} | {Cell("tiny", "rtn@all=3", few): result(20, 50, 20)}
    told = {Cell("tiny", c.recipe, Probe(protocols=("openbook",))): result(9, 9, protocol="openbook") for c in RESULTS}
    assert offers(RESULTS | more | told).equals(offers(RESULTS))


def test_the_page_holds_its_data_and_needs_no_server():
    html, table = choose_page(RESULTS)
    data = json.loads(re.search(r'id="kc-choose-data">(.*?)</script>', html, re.S)[1].replace("<\\/", "</"))
    assert [row["recipe"] for row in data] == [cell.recipe for cell in RESULTS]
    assert not re.search(r'<(script|link)[^>]+(src|href)="?http', html)
    assert "`rtn@all=4` | 60 | 80\u00a0%" in table and "magnitude@all=0.5" not in table


def test_the_tables_of_a_model_stand_together():
    other = {Cell("other", c.recipe, c.probe): r for c, r in RESULTS.items()}
    more = Probe(protocols=("cloze",), facts="lab:people", limit=40)
    record = {Cell("tiny", c.recipe, more): result(len(c.recipe), 100 + len(c.recipe), 30) for c in RESULTS}
    _, table = choose_page(RESULTS | other, record)
    assert re.findall(r"^### .+$", table, re.M) == ["### tiny", "### other"]
    assert len(re.findall(r"^\*\*.+facts\*\*$", table.partition("other")[0], re.M)) == 2
    assert "time to read" not in table  # nothing was timed


def test_without_versions_the_page_says_so():
    html, table = choose_page({})
    assert table == NOTHING and NOTHING.strip() in html


def timed(monkeypatch, tmp_path, content: str) -> None:
    monkeypatch.setenv("KC_REFERENCE", str(tmp_path))
    (tmp_path / speeds.FILE).write_text(content)


def test_times_stand_beside_versions_whose_kernel_was_measured(monkeypatch, tmp_path):
    monkeypatch.setenv("KC_REFERENCE", str(tmp_path))
    ratios = {
        "magnitude@all=0.5": {"reading": 1.01, "writing": 0.99},
        "int8@all": {"reading": 0.8, "writing": 0.5},
    }
    speeds.record("tiny", ratios, "8 x 128 tokens")
    html, text = choose_page(RESULTS)
    rows = {r["recipe"]: r for r in json.loads(re.search(r'id="kc-choose-data">(.*?)</script>', html)[1])}
    assert rows["int8@all"]["reading"] == rows["magnitude@all=0.2+int8@all"]["reading"] == 0.8
    assert rows["magnitude@all=0.5"]["writing"] == 0.99 and rows["none"]["reading"] == 1.0
    assert rows["rtn@all=4"]["reading"] is None
    assert "| 0.80, 0.50 |" in text and "reading 8 x 128 tokens" in text
    assert speeds.recorded("another") is None


def test_without_times_there_is_no_word_of_them(monkeypatch, tmp_path):
    monkeypatch.setenv("KC_REFERENCE", str(tmp_path))
    assert "multiples of the uncompressed" not in choose_page(RESULTS)[1]


@pytest.mark.parametrize("content", ["{", "[1]", '{"tiny": {"ratios": {}}}'])
def test_damaged_times_are_named(monkeypatch, tmp_path, content):
    timed(monkeypatch, tmp_path, content)
    with pytest.raises(MissingData, match=r"speed\.json of the record is damaged"):
        choose_page(RESULTS)
