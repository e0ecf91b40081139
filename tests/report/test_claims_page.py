"""The page of the ledger: verdicts that follow the rows, and no error where rows are gone."""

import re
import shutil

import pytest
from kc_utils.report.fragments import of_record

from kc_utils.report import claims_page, evidence
from kc_utils.report.evidence import RECORD, AllResults, gather, record_note
from kc_utils.stats.claims import NO_DATA
from kc_utils.stats.ledger import read_ledger
from tests.conftest import ROOT
from tests.stats.claimed import results as made
from tests.study.recorded import computed, evaluated, file, recorded, registered, study

__all__ = ["computed", "evaluated", "recorded", "registered", "study"]  # fixtures
pytestmark = pytest.mark.usefixtures("in_project")
RIGHT = {
    "none": 160, "magnitude@all=0.2": 140, "magnitude@all=0.6": 40, "magnitude@attention=0.2": 150,
    "magnitude@feed_forward=0.2": 158, "magnitude@all=0.2+int8@all": 140, "int8@all": 160, "rtn@all=4": 159,
}  # fmt: skip


def page(**origins):
    return claims_page.ledger_page(AllResults(origins, {}, ()))


def verdicts(text: str) -> dict[str, str]:
    """Verdict of each claim by its label, as the table and as its section have it."""
    table = dict(re.findall(r"\[[^]]+\]\(claim-([\w-]+)\) \|[^|]+\| \*\*([a-z ]+)\*\*", text))
    sections = dict(re.findall(r"^\(claim-([\w-]+)\)=\n## .*: ([a-z ]+)$", text, re.M))
    assert table == sections
    return table


def test_each_claim_has_a_verdict_a_section_and_what_decides_it():
    text, pictures = page(laptop=made(RIGHT))
    found = verdicts(text)
    assert len(found) >= 10
    assert found["collapse"] == "holds"
    assert found["attention-pruned"] == found["all-together"] == "holds"
    assert found["feed-forward-pruned"] == "does not hold"
    assert found["pruned-then-int8"] == found["int8-lossless"] == "holds"
    assert found["final-layer"] == NO_DATA
    assert text.count("**What decides it**") == len(found)
    assert text.count("{cite:t}`namburi2023`") >= 7
    assert "[another claim](claim-feed-forward-pruned)" in text
    shown = set(re.findall(r"/results/([\w.-]+\.png)", text))
    assert shown == set(pictures)
    assert len(shown) == 1 + sum(v != NO_DATA for v in found.values())
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    alts = re.findall(r"^:alt: (.+)$", text, re.M)
    assert len(alts) == len(shown)
    assert all(re.search(r"\d", alt) for alt in alts)
    labels = re.findall(r"^:name: (.+)$", text, re.M)
    assert len(set(labels)) == len(labels)
    assert re.search(
        r"The effect is [\d.\u2212]+\u00a0points \([\d.\u2212]+ to [\d.\u2212]+\) where the claim needs it", text
    )
    assert "| `smollm2-135m` | `worldfacts` |" in text
    counted = re.search(
        r"Of (\d+) claims, (\d+) holds?, (\d+) do(?:es)? not hold, (\d+) (?:is|are) undecided and (\d+) ha", text
    )
    assert int(counted[1]) == sum(int(counted[n]) for n in (2, 3, 4, 5)) == len(found)


def test_without_rows_there_is_a_page_all_the_same():
    text, pictures = page()
    assert set(verdicts(text).values()) == {NO_DATA}
    assert pictures == {}
    assert "No rows at hand" in text


def test_a_deleted_file_of_the_record_turns_verdicts_into_no_data(recorded, tmp_path, monkeypatch):
    written = tmp_path / "claims.yaml"
    rule = "{kind: kept at most, recipe: 'magnitude@all={amount}', amounts: [0.5], bound: 0.99}"
    written.write_text(
        "claims:\n- {id: one, title: One, statement: It falls., source: namburi2023, known_from: memory, decided_by: "
        f"{rule}}}\n"
    )
    monkeypatch.setattr(claims_page, "read_ledger", lambda _: read_ledger(written))
    found = gather(None, {})
    text, _ = claims_page.ledger_page(found)
    assert verdicts(text)["one"] != NO_DATA
    assert f"| {RECORD}small |" in text
    assert "by the code and with the versions of this book" in text
    assert "kc verify --study small" in text
    file(tmp_path).unlink()
    text, pictures = claims_page.ledger_page(gather(None, {}))
    assert verdicts(text)["one"] == NO_DATA
    assert pictures == {}
    assert "**Missing**: recorded rows small/tiny-decoder/worldfacts.parquet are absent" in text
    assert str(tmp_path) not in text


def test_the_record_says_with_what_it_was_made(recorded, monkeypatch):
    monkeypatch.setattr("kc_utils.study.cells._code_of", lambda *_: "other code")
    note = record_note(gather(None, {}))
    assert "3 cells" in note
    assert re.search(r"computed on \d{4}-\d\d-\d\d with torch [\d.]+", note)
    assert "3 of them with other code than this book's" in note


def test_own_results_come_before_the_record(recorded, evaluated):
    found = gather(recorded, evaluated)
    assert list(found.origins) == ["small", RECORD + "small"]
    (stratum, other) = found.evidence.strata
    assert (stratum.origin, other.origin) == ("small", RECORD + "small")


def test_other_studies_that_were_finished_here_count(trained, results, tmp_path, monkeypatch):
    """A study whose notebooks are not all executed, or that cannot be loaded, does not."""
    assert evidence._finished(None) == {}
    runs = results / "runs" / "smoke"
    runs.mkdir(parents=True)
    (runs / "smoke-pruning-0.ipynb").write_text("{}")
    assert evidence._finished(None) == {}
    shutil.rmtree(runs)


def test_amounts_as_they_are_written():
    assert claims_page.amounts_text((0.2, 0.3), None) == "20 and 30\u00a0%"
    assert claims_page.amounts_text((4,), None) == "4\u00a0bits"


def test_the_page_is_in_the_contents():
    assert "results/claims" in (ROOT / "_toc.yml").read_text()


def test_a_page_says_which_of_its_cells_are_of_record():
    assert of_record([{}, {}]) == ""
    text = of_record([{"recorded": {"study": "benchmarks", "file": "x"}}, {}])
    assert "1 of these 2 cells are results of record (study `benchmarks`)" in text
