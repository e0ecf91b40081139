"""Erased or only hidden: does another way to query a lost fact get it, or a little training?

A fact is *lost* where the uncompressed model answers its first template and the compressed one does not. A *way* to query
it again is another template that training showed for the fact, one that training held out for it, or true statements of the
relation before the query. Every further try is also a further chance to guess. The same number of tries on facts of
strangers, which the same compressed model cannot know, gives the luck, and it is taken out:

    recovered = (share of lost facts answered - luck) / (1 - luck)

Luck is weighted by relation as the lost facts are, among strangers' facts that the first template misses as well. The
*ceiling* is the share of its known facts that the uncompressed model answers in the same way.

Relearning shows that something of the facts was left only where lost facts come back faster than strangers' facts *and* than
false answers to the same queries are learned: a familiar name alone would help the false answers as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from scipy import stats

from kc_lab import world
from kc_lab.loads import Load
from kc_utils.errors import BadRequest
from kc_utils.stats.decision import LEAST, LEVEL
from kc_utils.stats.intervals import holm
from kc_utils.stats.seeds import over_seeds, with_lines

FEWEST = 10
"""Lost facts below which no share is given."""
OTHERS = ["new", "false"]
"""Sets of facts that lost ones are compared with while a copy relearns: see `kc_lab.relearning`."""
TRAINED, HELD_OUT = "other trained templates", "held-out templates"
Templates = Mapping[str, tuple[int, ...]]  # by fact id


def templates_of(load: int | Load = 1) -> dict[str, Templates]:
    """By way (TRAINED, HELD_OUT), the templates of each fact beside its first one."""
    trained = {fact: tuple(t for t in plan.shown if t) for fact, plan in world.plan(load).items()}
    return {TRAINED: trained, HELD_OUT: world.held_out(load)}


def shots_way(shots: int) -> str:
    """The name of the way with so many true statements before the query."""
    return f"{shots} true statement{'s' * (shots > 1)} before"


def by_luck(strangers: pd.DataFrame, tries: int) -> pd.Series:
    """By relation, the share of strangers' facts missed in the first template that `tries` of their other templates get.

    strangers: rows of the cloze with template 0 and others. Of a fact with w wrong ones among m other templates, tries
    drawn without repetition get 1 - C(w, tries) / C(m, tries).
    """
    others = strangers[(strangers["template"] > 0) & strangers["fact"].isin(_missed(strangers))]
    counts = others.assign(wrong=~others["correct"].astype(bool)).groupby(["relation", "fact"], sort=False)["wrong"]
    counts = counts.agg(["sum", "size"])
    luck = [1 - math.comb(int(w), tries) / math.comb(int(m), tries) if m >= tries else math.nan
            for w, m in counts.itertuples(index=False)]  # fmt: skip
    return pd.Series(luck, counts.index, dtype=float).groupby("relation").mean()


def recoveries(
    rows: Mapping[str, pd.DataFrame], shots: Sequence[int] = (), templates: Mapping[str, Templates] | None = None
) -> pd.DataFrame:
    """What each way recovers of the facts that each recipe loses, from rows of `kc.evaluate`.

    rows: `taught` and `strangers` in all templates, and for each n of `shots` both as `taught, n shots`; all of the cloze
    and with the uncompressed model. One line per model, recipe and way: lost (how many facts); shares answered, luck,
    recovered and ceiling, missing with fewer than FEWEST lost facts. Raises BadRequest where rows are lacking.
    """
    templates = templates or templates_of()
    parts = {name: _by_model_and_recipe(frame) for name, frame in rows.items()}

    def part(name: str, model: str, recipe: str) -> pd.DataFrame:
        if (model, recipe) not in parts.get(name, {}):
            raise BadRequest(f"{model} under {recipe} was not evaluated on {name!r}")
        return parts[name][model, recipe]

    found = []
    for model, recipe in parts.get("taught", {}):
        if recipe == "none":
            continue
        after, before, strangers = (
            part("taught", model, recipe), part("taught", model, "none"), part("strangers", model, recipe)
        )  # fmt: skip
        first = before[before["template"] == 0]
        known = list(first["fact"][first["correct"].astype(bool)])
        right = _right(after[after["template"] == 0])
        lost = [fact for fact in known if fact not in right]
        for way, offered in templates.items():
            line = _by_template(after, before, strangers, known, lost, offered)
            found.append({"model": model, "recipe": recipe, "way": way, **line})
        for n in shots:
            queried = [part(f"{name}, {n} shots", model, recipe) for name in ("taught", "strangers")]
            line = _by_shots(*queried, part(f"taught, {n} shots", model, "none"), strangers, known, lost)
            found.append({"model": model, "recipe": recipe, "way": shots_way(n), **line})
    return pd.DataFrame(found, columns=["model", "recipe", "way", "lost", "answered", "luck", "recovered", "ceiling"])


def _by_model_and_recipe(rows: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    return dict(iter(rows[rows["protocol"] == "cloze"].groupby(["model", "recipe"], sort=False)))


def _right(rows: pd.DataFrame) -> set[str]:
    return set(rows["fact"][rows["correct"].astype(bool)])


def _missed(strangers: pd.DataFrame) -> set[str]:
    """Strangers' facts that the first template misses."""
    first = strangers[strangers["template"] == 0]
    return set(first["fact"]) - _right(first)


def _right_in(rows: pd.DataFrame, offered: Templates) -> set[str]:
    """Facts that any of their offered templates gets."""
    return _right(rows[[t in offered.get(f, ()) for f, t in zip(rows["fact"], rows["template"], strict=True)]])


def _by_template(after, before, strangers, known, lost, offered: Templates) -> dict:
    relation = after.drop_duplicates("fact").set_index("fact")["relation"]
    usable = [fact for fact in lost if offered.get(fact)]
    luck = {tries: by_luck(strangers, tries) for tries in {len(offered[fact]) for fact in usable}}
    guessed = [luck[len(offered[fact])].get(relation[fact], math.nan) for fact in usable]
    known = [fact for fact in known if offered.get(fact)]
    return _shares(usable, _right_in(after, offered), guessed, _right_in(before, offered), known)


def _by_shots(taught, others, uncompressed, strangers, known, lost) -> dict:
    relation = taught.drop_duplicates("fact").set_index("fact")["relation"]
    usable = [fact for fact in lost if fact in relation.index]
    luck = others[others["fact"].isin(_missed(strangers))].groupby("relation")["correct"].mean().astype(float)
    guessed = [luck.get(relation[fact], math.nan) for fact in usable]
    return _shares(usable, _right(taught), guessed, _right(uncompressed), known)


def _shares(lost: list[str], right: set[str], guessed: list[float], best: set[str], known: list[str]) -> dict:
    if len(lost) < FEWEST or not known:
        return {"lost": len(lost), "answered": math.nan, "luck": math.nan, "recovered": math.nan, "ceiling": math.nan}
    answered = sum(fact in right for fact in lost) / len(lost)
    luck = float(pd.Series(guessed, dtype=float).mean())  # relations without strangers are left out
    recovered = (answered - luck) / (1 - luck) if luck < 1 else math.nan
    ceiling = sum(fact in best for fact in known) / len(known)
    return {"lost": len(lost), "answered": answered, "luck": luck, "recovered": recovered, "ceiling": ceiling}


def learned(rows: pd.DataFrame) -> pd.DataFrame:
    """Recall while relearning, from rows with `relearn_steps`: one line per model, recipe, set (`lost`, `false`, `new`) and
    step, with n and recall. Models and recipes that lose too little have no lines."""
    rows = rows[rows["protocol"] == "relearning"]
    if rows.empty:
        return pd.DataFrame(columns=["model", "recipe", "set", "step", "n", "recall"])
    grouped = rows.assign(right=rows["correct"].astype(float)).groupby(["model", "recipe", "set", "step"], sort=False)
    table = grouped["right"].agg(n="size", recall="mean").reset_index()
    return table.astype({"step": int})


def ahead(table: pd.DataFrame) -> pd.DataFrame:
    """By model and recipe, how far recall of lost facts lies above that of the others (columns `new`, `false`), the mean over
    all steps after the first.

    table: of `learned`. Lost and false facts are the same but for the answer, so that `false` is a mean of paired differences.
    """
    later = table[table["step"] > 0].pivot(index=["model", "recipe", "step"], columns="set", values="recall")
    lead = pd.DataFrame({other: later["lost"] - later[other] for other in OTHERS})
    return lead.groupby(["model", "recipe"], sort=False).mean().reset_index()


def ahead_over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Average `ahead` over the models of each line, with t intervals; p is of the t test of seeds for the lead that is less
    sure, corrected for the table's lines (Holm), missing for one seed; `hidden`: both leads are positive and p < LEVEL."""
    singles = with_lines(ahead(table))
    found = over_seeds(singles, OTHERS, ["line", "recipe"])
    groups = singles.groupby(["line", "recipe"], sort=False)[OTHERS]
    n, spread = groups.size().to_numpy()[:, None], groups.std().clip(lower=LEAST / 2)  # equal counts do vary
    p = holm(2 * stats.t.sf(groups.mean().abs() / spread * n**0.5, n - 1).max(axis=1))
    return found.assign(p=p, hidden=(found[OTHERS] > 0).all(axis=1) & (p < LEVEL))
