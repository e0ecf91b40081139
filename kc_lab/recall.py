"""What a lab model knows and can do, in five numbers, each a share of right answers with its 95 % interval.

trained    facts about people, top-1 over the whole vocabulary, in wordings that training showed for them
held_out   the same facts in wordings that training kept back for them
world      facts of worldfacts and of companies, ranking among all answers of the relation, first wording
open_book  people never seen: the fact is stated first beside one about somebody else, then asked in another wording,
           top-1 over the whole vocabulary
rule       agreement of subject and verb about pairs of nouns never seen together
"""

from __future__ import annotations

import pandas as pd

from kc_utils.stats.intervals import wilson
from kc_utils.probing.probe import Probe, ask
from kc_lab import world

PEOPLE_ASKED, STRANGERS_ASKED, SEED = 900, 600, 7
NAMES = ("trained", "held_out", "world", "open_book", "rule")


def recall(model, tokenizer, family: str, load: int = 1) -> dict[str, dict[str, float]]:
    """{name: {value, low, high, n}} of one model. load: of the world that it was taught."""
    people = _share_by_wording(model, tokenizer, family, load)
    asked = {
        "world": Probe(facts="lab", relations=(*world.REAL, "headquarters"), protocols=("rank",), alternatives=9),
        "open_book": Probe(facts="lab:strangers", limit=STRANGERS_ASKED, protocols=("openbook-cloze",)),
        "rule": Probe(facts="lab:rule", protocols=("rank",), alternatives=1),
    }
    return people | {name: _share(ask(model, tokenizer, family, p).rows) for name, p in asked.items()}


def _share_by_wording(model, tokenizer, family: str, load: int) -> dict[str, dict[str, float]]:
    source = "lab:people" + (f"-x{load}" if load > 1 else "")
    probe = Probe(facts=source, limit=PEOPLE_ASKED, seed=SEED, protocols=("cloze",), templates="all")
    rows = ask(model, tokenizer, family, probe).rows
    hidden = world.held_out(load)
    unseen = pd.Series([t in hidden[f] for f, t in zip(rows["fact"], rows["template"], strict=True)], index=rows.index)
    return {"trained": _share(rows[~unseen]), "held_out": _share(rows[unseen])}


def _share(rows: pd.DataFrame) -> dict[str, float]:
    right, n = int(rows["correct"].sum()), len(rows)
    low, high = wilson(right, n)
    return {"value": right / n, "low": low, "high": high, "n": n}
