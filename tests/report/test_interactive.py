"""Pages that answer to their reader: what they hold is computed from rows, and none of them needs a server."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import kc_utils as kc
from kc_utils.errors import MissingData
from kc_utils.models.sizes import shapes
from kc_utils.report.interactive import choose, explore
from kc_utils.study import speeds
from tests.stats import made

RIGHT = {"none": 30, "int8@all": 30, "rtn@all=4": 24, "magnitude@all=0.5": 12, "magnitude@all=0.2+int8@all": 27}
SIZE = dict(zip(RIGHT, (200.0, 100.0, 60.0, 110.0, 90.0), strict=True))


def rows_of(right=RIGHT, model="tiny", facts="worldfacts", n=40, origin="here", protocol="cloze", names=None):
    rows = made.study(
        {r: made.frame(np.arange(n) < count, 0.0, protocol, "capital", fact=names) for r, count in right.items()}, model
    )
    sizes = 1e6 * rows["recipe"].map(SIZE).fillna(50.0)
    return rows.assign(facts=facts, probe=f"{facts}{n}", origin=origin, bytes_compressed=sizes)


def data_of(html: str, name: str):
    return json.loads(re.search(rf'id="{name}">(.*?)</script>', html, re.S)[1].replace("<\\/", "</"))


def test_every_recipe_is_offered_with_its_size_what_it_keeps_and_its_technique():
    frame = choose.offers(rows_of()).set_index("recipe")
    assert set(frame["question"]) == {"worldfacts, cloze, 40 facts"}
    assert frame["megabytes"].to_dict() == SIZE
    assert frame.loc["rtn@all=4", "kept"] == pytest.approx(0.8)
    assert frame.loc["rtn@all=4", "low"] < 0.8 < frame.loc["rtn@all=4", "high"]
    assert frame.loc["magnitude@all=0.2+int8@all", "technique"] == "pruning then quantization"
    assert set(frame.index[frame["frontier"]]) == {"int8@all", "magnitude@all=0.2+int8@all", "rtn@all=4"}


def test_each_origin_has_its_own_baseline_and_the_largest_sample_counts():
    other = rows_of({"none": 20, "int8@all": 10, "magnitude@all=0.5": 10}, origin="record")
    few = rows_of({"none": 20, "rtn@all=3": 20}, n=20)
    opened = rows_of(protocol="openbook", facts="worldfacts")
    seeds = rows_of(model="lab:decoder-small-s2")
    first = rows_of({r: RIGHT[r] for r in ("none", "int8@all", "rtn@all=4")})
    frame = choose.offers(pd.concat([first, other, few, opened, seeds], ignore_index=True))
    kept = frame.set_index("recipe")["kept"].to_dict()
    assert kept["int8@all"] == 1.0 and kept["magnitude@all=0.5"] == pytest.approx(0.5)  # 10 of 20, not 10 of 30
    assert frame["recipe"].is_unique and "rtn@all=3" not in kept and set(frame["model"]) == {"tiny"}


def test_a_published_file_of_few_bits_is_an_offer_that_beats_larger_ones(monkeypatch, tmp_path):
    monkeypatch.setenv("KC_REFERENCE", str(tmp_path))
    rows = rows_of(RIGHT | {"int8@all": 31}, model="smollm2-135m")  # an answer gained by chance is no knowledge kept
    frame = choose.offers(rows).set_index("recipe")
    file = frame.loc[choose.ORIGINAL]
    assert (1e6 * file["megabytes"], file["kept"]) == (shapes()["smollm2-135m"].file_bytes, 1.0)
    assert set(frame.index[frame["frontier"]]) == {choose.ORIGINAL, "magnitude@all=0.2+int8@all", "rtn@all=4"}
    assert set(frame.index[frame["again"]]) == {"int8@all", "rtn@all=4", "magnitude@all=0.2+int8@all"}
    html, table = choose.choose_page(pd.concat([rows.assign(protocol="rank"), rows]))
    assert "beats the uncompressed model and those 2 of 4 compressed models" in table and "| `rtn@all=4` † |" in table
    assert data_of(html, "kc-choose-data")[0]["question"] == "worldfacts, cloze, 40 facts"  # the page opens with it


def test_the_page_of_choices_holds_its_data_and_needs_no_server(monkeypatch, tmp_path):
    monkeypatch.setenv("KC_REFERENCE", str(tmp_path))
    rows = pd.concat([rows_of(), rows_of(model="other")], ignore_index=True)
    html, table = choose.choose_page(rows)
    assert [row["recipe"] for row in data_of(html, "kc-choose-data")] == [*RIGHT, *RIGHT]
    assert not re.search(r'<(script|link)[^>]+(src|href)="?http', html)
    assert "`rtn@all=4` | 60 | 80\u00a0%" in table and "magnitude@all=0.5" not in table
    assert re.findall(r"^### .+$", table, re.M) == ["### tiny", "### other"] and "time to read" not in table
    for few in (rows_of({"none": 3}), pd.DataFrame()):
        html, table = choose.choose_page(few)
        assert table == choose.NOTHING and choose.NOTHING.strip() in html


def test_times_stand_beside_recipes_whose_kernel_was_measured(monkeypatch, tmp_path):
    monkeypatch.setenv("KC_REFERENCE", str(tmp_path))
    ratios = {"magnitude@all=0.5": {"reading": 1.01, "writing": 0.99}, "int8@all": {"reading": 0.8, "writing": 0.5}}
    made = {"ratios": ratios, "what": "8 x 128 tokens", "processor": "a processor", "threads": 1, "day": "2026-01-01"}
    (tmp_path / speeds.FILE).write_text(json.dumps({"tiny": made}))
    html, text = choose.choose_page(rows_of())
    rows = {row["recipe"]: row for row in data_of(html, "kc-choose-data")}
    assert rows["int8@all"]["reading"] == rows["magnitude@all=0.2+int8@all"]["reading"] == 0.8
    assert rows["rtn@all=4"]["reading"] is None and "| 0.80, 0.50 |" in text and "reading 8 x 128 tokens" in text
    (tmp_path / speeds.FILE).write_text('{"tiny": {"ratios": {}}}')
    with pytest.raises(MissingData, match=r"speed\.json of the record is damaged"):
        choose.choose_page(rows_of())


def test_the_explorer_says_what_became_of_every_fact():
    known = kc.facts("worldfacts", relations=["capital"])["id"].tolist()[:40]
    rows = pd.concat([rows_of(names=known), rows_of(facts="bear", n=40)], ignore_index=True)
    html, table = explore.explore_page(rows)
    (one,) = data_of(html, "kc-explore-data")
    assert (one["model"], one["question"]) == ("tiny", "worldfacts, cloze, 40 facts")
    assert {recipe: answers.count("1") for recipe, answers in one["right"].items()} == RIGHT
    assert len(one["facts"]) == 40 and all(len(fact) == 3 and all(fact) for fact in one["facts"])
    assert "| `rtn@all=4` | 24 | 6 | 0 |" in table
    for hidden in (rows_of(facts="bear"), pd.DataFrame()):  # texts of others are not shown
        assert explore.explore_page(hidden)[1] == explore.NOTHING
