"""The page of the ledger: verdicts that follow the rows, and no error where rows are gone."""

import re

import pandas as pd
import pytest

from kc_utils.report import claims, tables
from kc_utils.stats.claims import NO_DATA
from kc_utils.study.cells import Cell
from tests.stats.claimed import both_ways, results
from tests.study.recorded import computed, evaluated, file, recorded, registered, study

__all__ = ["computed", "evaluated", "recorded", "registered", "study"]  # fixtures
pytestmark = pytest.mark.usefixtures("in_project")
RIGHT = {
    "none": 160, "magnitude@all=0.2": 140, "magnitude@all=0.6": 40, "magnitude@attention=0.2": 150,
    "magnitude@feed_forward=0.2": 158, "magnitude@all=0.2+int8@all": 140, "int8@all": 160, "rtn@all=4": 159,
}  # fmt: skip


def verdicts(text: str) -> dict[str, str]:
    """Verdict of each claim by its label, as the table and as its section have it."""
    table = dict(re.findall(r"\[[^]]+\]\(claim-([\w-]+)\) \|[^|]+\| \*\*([a-z ]+)\*\*", text))
    sections = dict(re.findall(r"^\(claim-([\w-]+)\)=\n## .*: ([a-z ]+)$", text, re.M))
    assert table == sections
    return table


def test_each_claim_has_a_verdict_a_section_and_its_rule():
    lab = [results({"none": 160, "magnitude@all=0.6": 150}, f"lab:decoder-small-s{s}", "lab") for s in (1, 2)]
    text, pictures = claims.ledger_page(pd.concat([results(RIGHT), *lab]))
    found = verdicts(text)
    assert len(found) >= 10
    for claim in ("collapse", "attention-pruned", "all-together", "pruned-then-int8", "int8-lossless"):
        assert found[claim] == "consistent", "one model does not let a claim hold"
    assert (found["feed-forward-pruned"], found["final-layer"]) == ("speaks against it", NO_DATA)
    assert text.count("- **Rule**:") == len(found)
    assert text.count("{cite:t}`namburi2023`") >= 7
    assert "[another claim](claim-feed-forward-pruned)" in text
    assert "**Speaks against it**, in `lab:decoder-small-s1` and `lab:decoder-small-s2`. The claim needs" in text
    shown = set(re.findall(r"/results/([\w.-]+\.png)", text))
    assert shown == set(pictures)
    assert len(shown) == 1 + sum(v != NO_DATA for v in found.values())
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    alts, labels = (re.findall(rf"^:{name}: (.+)$", text, re.M) for name in ("alt", "name"))
    assert len(alts) == len(set(labels)) == len(shown)
    assert all(re.search(r"\d", alt) for alt in alts)
    effect = r"[\d.\u2212]+\u00a0points \([\d.\u2212]+ to [\d.\u2212]+\)"
    needs = r"\*\*Consistent\*\*, in `smollm2-135m`\. The claim needs the effect below 50\.0\u00a0points\. It is by ranking "
    assert re.search(needs + effect + r", for the claim \(200 queries in 1 stratum\)\.", text)
    assert "The claim needs the effect above 0.0\u00a0points by 2 at least." in text
    assert re.search(rf"by ranking {effect}, for the claim, beside `magnitude@attention=\{{amount\}}`", text)
    assert re.search(rf"\*\*consistent\*\* \| for the claim, {effect} \|", text)
    assert "| `smollm2-135m` | `worldfacts` | ranking |" in text
    assert "- **Study `here`**: 12 evaluations, computed on this machine." in text


def test_protocols_that_differ_are_both_shown():
    low = {r: n if r == "none" else 200 - n for r, n in RIGHT.items()}
    text, _ = claims.ledger_page(both_ways(RIGHT, low))
    assert verdicts(text)["collapse"] == "depends on the query"
    row = next(line for line in text.splitlines() if "(claim-collapse)" in line and "|" in line)
    assert "| for the claim, " in row and "| against it, " in row


def test_without_rows_there_is_a_page_all_the_same():
    text, pictures = claims.ledger_page(pd.DataFrame())
    assert set(verdicts(text).values()) == {NO_DATA}
    assert pictures == {} and "has rows of these recipes on 100 facts" in text


def test_rows_of_another_device_than_their_baseline_are_named():
    hardware, ran = {"processor": "A", "accelerator": "B"}, {"none": "cuda", "rtn@all=4": "cuda", "int8@all": "cpu"}
    made = {Cell("m", recipe, None): {"device": device, "hardware": hardware} for recipe, device in ran.items()}
    text = tables.devices(made)
    assert text.startswith("They ran on B (2) and A (1). Of `m`, 1 (int8 dynamic) ran on another device than the")
    assert tables.devices({cell: m | {"device": "cpu"} for cell, m in made.items()}) == "They ran on A (3)."


def test_rows_of_record_say_with_what_they_were_made(recorded, tmp_path):
    rows = results(RIGHT, origin="record of small")
    text, _ = claims.ledger_page(rows)
    assert re.search(r"study `small`\*\*: 8 evaluations, computed on \d{4}-\d\d-\d\d with torch [\d.]+", text)
    assert "by the code and with the versions of this book" in text
    assert "It was recorded under the rules of this page. `kc verify --study small`" in text
    listing = tmp_path / "reference" / "small" / "record.json"
    listing.write_text(re.sub(r'"rules": "[0-9a-f]{64}"', '"rules": "0"', listing.read_text()))
    assert "It was recorded under other rules than those of this page." in claims.ledger_page(rows)[0]
    listing.write_text(listing.read_text().replace('"rules": "0",', ""))
    assert "It was recorded under rules that its list does not name." in claims.ledger_page(rows)[0]
    file(tmp_path).unlink()
    text, _ = claims.ledger_page(pd.DataFrame())
    assert "**Missing**: recorded rows small/tiny-decoder/worldfacts.parquet are absent" in text
    assert str(tmp_path) not in text
