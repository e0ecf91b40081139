"""The fact explorer: every fact's fate, from the rows; text of our own sources alone; scripts that are well formed."""

import json
import re
import subprocess
from importlib import resources
from shutil import which
from types import SimpleNamespace

import pandas as pd
import pytest

from kc_utils.stats.fates import fates
from kc_utils.probing.probe import Probe
from kc_utils.report.interactive.explore import NOTHING, explore_page
from kc_utils.study.cells import Cell

PROBE = Probe(facts="worldfacts", relations=("capital", "currency"), limit=12, protocols=("cloze",))
FACTS = PROBE.factset().facts


def result(right: set[str], probe: Probe = PROBE, templates: int = 1):
    rows = [
        {"fact": f.id, "protocol": "cloze", "template": t, "correct": f.id in right and t == 0}
        for f in probe.factset().facts
        for t in reversed(range(templates))
    ]
    return SimpleNamespace(rows=pd.DataFrame(rows))


IDS = [f.id for f in FACTS]
RESULTS = {
    Cell("tiny", "none", PROBE): result(set(IDS[:8])),
    Cell("tiny", "int8@all", PROBE): result(set(IDS[:8])),
    Cell("tiny", "rtn@all=2", PROBE): result({*IDS[:3], IDS[11]}),
}


def test_every_fact_has_its_fate_by_the_first_wording_asked():
    (one,) = fates({cell: result(_right(r), templates=2) for cell, r in RESULTS.items()})
    assert one.facts == tuple((PROBE.factset().relations[f.relation].label, f.subject, f.answers[0]) for f in FACTS)
    assert one.right["none"] == one.right["int8@all"] == "1" * 8 + "0" * 4
    assert one.right["rtn@all=2"] == "1" * 3 + "0" * 8 + "1"


def _right(told) -> set[str]:
    return set(told.rows.loc[told.rows["correct"], "fact"])


def test_facts_of_others_are_never_shown():
    theirs = {
        Cell("tiny", cell.recipe, Probe.model_construct(**{**dict(PROBE), "facts": "lama:trex"})): r
        for cell, r in RESULTS.items()
    }
    assert fates(theirs) == []
    html, table = explore_page(theirs)
    assert table == NOTHING and NOTHING.strip() in html


def test_the_page_holds_all_answers_and_counts_them():
    html, table = explore_page(RESULTS)
    (one,) = json.loads(re.search(r'id="kc-explore-data">(.*?)</script>', html, re.S)[1].replace("<\\/", "</"))
    assert one["question"] == "worldfacts, cloze, 12 facts" and len(one["facts"]) == 12
    assert "| `rtn@all=2` | 3 | 5 | 1 |" in table and "| `int8@all` | 8 | 0 | 0 |" in table


@pytest.mark.skipif(which("node") is None, reason="no Node.js to read the scripts with")
@pytest.mark.parametrize("name", ["shared", "choose", "explore"])
def test_scripts_are_well_formed(name):
    source = resources.files("kc_utils.report.interactive").joinpath(f"{name}.js").read_text(encoding="utf-8")
    done = subprocess.run(["node", "--check", "-"], input=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
