"""Erased or only hidden: can a lost fact be had by asking otherwise, or by a little training?

A fact is *lost* where the uncompressed model answers it in its first wording and the compressed one does not. A *way* to ask
again is another wording that training showed for the fact, one that it never showed, or true statements of the relation
before the question. Every further try is also a further chance to guess: what the same number of tries gives on facts of
strangers, which the same compressed model cannot know, is taken out,

    recovered = (share of lost facts answered - luck) / (1 - luck)

with luck weighted by relation as the lost facts are, among strangers' facts that the first wording misses as well. What the
uncompressed model answers of its known facts in the same way, the `ceiling`, says what could come back at best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from kc_utils.errors import BadRequest
from kc_utils.probing.probe import Probe
from kc_utils.stats.findings import interval, percent
from kc_utils.stats.lab_findings import amount, points
from kc_utils.stats.seeds import Results, lines_of, over_seeds, t_interval
from kc_utils.stats.summary import recipe_fields
from kc_utils.study.cells import Cell

FEWEST = 10
"""Lost facts below which nothing is said of a seed."""
TRAINED, HELD_OUT = "other trained wordings", "held-out wordings"
SETS = {"lost": "lost facts", "new": "new facts"}


@dataclass(frozen=True)
class Wordings:
    """Wordings of each fact beside its first one, by fact id: those that training showed, and those it held out."""

    trained: Mapping[str, tuple[int, ...]]
    held_out: Mapping[str, tuple[int, ...]]

    def of(self, way: str) -> Mapping[str, tuple[int, ...]]:
        return self.trained if way == TRAINED else self.held_out


def shots_way(shots: int) -> str:
    return f"{shots} true statement{'s' * (shots > 1)} before"


def by_luck(strangers: pd.DataFrame, tries: int) -> pd.Series:
    """By relation, the share of strangers' facts missed in the first wording that `tries` others of their wordings get, drawn
    without repetition: a number for each relation.

    strangers: rows of the cloze with template 0 and others. For a fact of whose m other wordings w are wrong, that is
    1 - C(w, tries) / C(m, tries).
    """
    first = strangers[strangers["template"] == 0].set_index("fact")["correct"].astype(bool)
    others = strangers[(strangers["template"] > 0) & strangers["fact"].isin(first.index[~first])]
    counts = others.assign(wrong=~others["correct"].astype(bool)).groupby(["relation", "fact"], sort=False)["wrong"]
    counts = counts.agg(["sum", "size"])
    luck = [1 - math.comb(int(w), tries) / math.comb(int(m), tries) if m >= tries else math.nan
            for w, m in counts.itertuples(index=False)]  # fmt: skip
    return pd.Series(luck, counts.index, dtype=float).groupby("relation").mean()


def recoveries(
    results: Results, probes: Mapping[str, Probe], wordings: Wordings, shots: tuple[int, ...]
) -> pd.DataFrame:
    """One line per model, recipe and way: line, seed, `recipe_fields`, way, lost (how many), answered (share of them), luck,
    recovered, ceiling. Shares are missing with fewer than FEWEST lost facts.

    probes: `taught` and `strangers` in every wording, and both with `N shots`. Raises BadRequest for a cell that was asked
    none of a probe.
    """
    lines, found = lines_of(dict.fromkeys(cell.model for cell in results)), []
    for cell in results:
        if cell.probe != probes["taught"] or cell.recipe == "none":
            continue
        rows, base = (_rows(results, c, probes["taught"]) for c in (cell, cell.baseline))
        strangers = _rows(results, cell, probes["strangers"])
        before = base[base["template"] == 0].set_index("fact")["correct"].astype(bool)
        after = rows[rows["template"] == 0].set_index("fact")["correct"].astype(bool)
        lost = [fact for fact in before.index[before] if not after.get(fact, False)]
        same = {"line": lines[cell.model][0], "seed": lines[cell.model][1], **recipe_fields(cell.recipe)}
        for way in (TRAINED, HELD_OUT):
            line = _by_wording(rows, base, strangers, before, lost, wordings.of(way))
            found.append({**same, "way": way, **line})
        for n in shots:
            asked = {name: _rows(results, cell, probes[f"{name}, {n} shots"]) for name in ("taught", "strangers")}
            shown = _rows(results, cell.baseline, probes[f"taught, {n} shots"])
            found.append({**same, "way": shots_way(n), **_by_shots(asked, shown, strangers, before, lost)})
    return pd.DataFrame(found)


def _rows(results: Results, cell: Cell, probe: Probe) -> pd.DataFrame:
    """Rows of the cloze of a model and recipe, asked another probe."""
    rows = results[Cell(cell.model, cell.recipe, probe)].rows
    return rows[rows["protocol"] == "cloze"]


def _by_wording(rows, base, strangers, before, lost, offered) -> dict:
    """Lost facts that any of their wordings of one kind gets."""
    relation = rows.drop_duplicates("fact").set_index("fact")["relation"]
    usable = [fact for fact in lost if offered.get(fact)]
    right = _any_right(rows, offered)
    luck = {tries: by_luck(strangers, tries) for tries in {len(offered[fact]) for fact in usable}}
    guessed = [float(luck[len(offered[fact])].get(relation[fact], math.nan)) for fact in usable]
    known = [fact for fact in before.index[before] if offered.get(fact)]
    return _shares(usable, right, guessed, _any_right(base, offered), known)


def _any_right(rows: pd.DataFrame, offered: Mapping[str, tuple[int, ...]]) -> set[str]:
    mine = [t in offered.get(f, ()) for f, t in zip(rows["fact"], rows["template"], strict=True)]
    chosen = rows[mine]
    return set(chosen[chosen["correct"].astype(bool)]["fact"])


def _by_shots(asked, shown, strangers, before, lost) -> dict:
    """Lost facts that the first wording gets with true statements before it."""
    taught, others = asked["taught"], asked["strangers"]
    relation = taught.drop_duplicates("fact").set_index("fact")["relation"]
    usable = [fact for fact in lost if fact in relation.index]
    first = strangers[strangers["template"] == 0].set_index("fact")["correct"].astype(bool)
    missed = others[others["fact"].isin(first.index[~first])]
    luck = missed.groupby("relation")["correct"].mean().astype(float)
    guessed = [float(luck.get(relation[fact], math.nan)) for fact in usable]
    right, best = (set(frame[frame["correct"].astype(bool)]["fact"]) for frame in (taught, shown))
    return _shares(usable, right, guessed, best, list(before.index[before]))


def _shares(lost: list[str], right: set[str], guessed: list[float], best: set[str], known: list[str]) -> dict:
    nothing = {"lost": len(lost), "answered": math.nan, "luck": math.nan, "recovered": math.nan, "ceiling": math.nan}
    if len(lost) < FEWEST or not known:
        return nothing
    answered = sum(fact in right for fact in lost) / len(lost)
    luck = float(pd.Series(guessed, dtype=float).mean())  # relations without strangers say nothing of luck
    recovered = (answered - luck) / (1 - luck) if luck < 1 else math.nan
    ceiling = sum(fact in best for fact in known) / len(known)
    return {"lost": len(lost), "answered": answered, "luck": luck, "recovered": recovered, "ceiling": ceiling}


def relearning(results: Results, probe: Probe) -> pd.DataFrame:
    """Recall while learning: one line per model, recipe, set and step: line, seed, `recipe_fields`, set, step, n, recall.

    Models and recipes under which too little was lost have no lines.
    """
    lines, found = lines_of(dict.fromkeys(cell.model for cell in results)), []
    for cell, result in results.items():
        if cell.probe != probe:
            continue
        rows = result.rows[result.rows["protocol"] == "relearning"]
        for (kind, step), part in rows.groupby(["set", "step"], sort=False) if len(rows) else ():
            found.append(
                {
                    "line": lines[cell.model][0], "seed": lines[cell.model][1], **recipe_fields(cell.recipe), "set": SETS[kind],
                    "step": int(step), "n": len(part), "recall": float(part["correct"].astype(bool).mean()),
                }
            )  # fmt: skip
    return pd.DataFrame(found)


def recovery_sentences(means: pd.DataFrame) -> list[str]:
    """For each line and recipe: what each way recovers, and what that says."""
    found = []
    for (line, recipe), ways in means.groupby(["line", "recipe"], sort=False):
        known = ways.dropna(subset="recovered")
        if known.empty:
            found.append(f"**{line}** under `{recipe}`: fewer than {FEWEST} facts are lost by any seed.")
            continue
        told = [
            f"{row['way']} {percent(row['recovered'])} ({interval(row['recovered_low'], row['recovered_high'])}; luck "
            f"{percent(row['luck'])}, ceiling {percent(row['ceiling'])})"
            for _, row in known.iterrows()
        ]
        clear = known[known["recovered_low"] > 0]
        if known["recovered_low"].isna().all():
            verdict = "one seed has no interval, so that nothing can be said"
        elif clear.empty:
            verdict = "no way recovers clearly more than luck"
        else:
            best = clear.loc[clear["recovered"].idxmax()]
            verdict = f"part of what is lost is only hidden, and {best['way']} get most of it"
        found.append(
            f"**{line}** under `{recipe}` ({amount(ways.iloc[0])}): of the lost facts, luck taken out, {'; '.join(told)}: "
            f"{verdict}."
        )
    return found


def relearning_sentences(frame: pd.DataFrame) -> list[str]:
    """For each line and recipe: whether lost facts come back faster than new ones are learned, by the mean difference of recall
    over all steps that were asked after, within each seed."""
    if frame.empty:
        return ["Under no recipe here are enough facts lost for them to be learned again."]
    found = []
    for (line, recipe), mine in frame.groupby(["line", "recipe"], sort=False):
        wide = mine[mine["step"] > 0].pivot(index=["seed", "step"], columns="set", values="recall")
        apart = (wide[SETS["lost"]] - wide[SETS["new"]]).groupby("seed").mean()
        low, high = t_interval(apart)
        verdict = (
            "lost facts come back faster than new ones are learned"
            if low > 0
            else "lost facts come back more slowly than new ones are learned"
            if high < 0
            else "undecided"
        )
        last = mine[mine["step"] == mine["step"].max()]
        ends = last.groupby("set")["recall"].mean()
        found.append(
            f"**{line}** under `{recipe}`: after {last['step'].iloc[0]} steps {percent(ends[SETS['lost']])} of the lost and "
            f"{percent(ends[SETS['new']])} of the new facts are answered; over all steps lost facts are "
            f"{points(apart.mean(), low, high)} ahead: {verdict}."
        )
    return found


def recoveries_over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds by line, recipe and way."""
    if frame.empty:
        raise BadRequest("no compressed model was asked: name recipes")
    return over_seeds(frame, ("recovered", "answered", "luck", "ceiling"), ("line", "recipe", "way"))
