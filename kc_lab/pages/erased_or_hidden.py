"""The parts of the page `lab_erased_or_hidden`: lost facts asked otherwise, and learned again."""

from __future__ import annotations

from functools import lru_cache

import pandas as pd

from kc_lab import hidden, seed_figures, world
from kc_lab.pages.notebook import LabRun
from kc_utils.report.showing import show, show_sentences
from kc_utils.stats.lab_findings import amount, seeds_text
from kc_utils.stats.seeds import over_seeds
from kc_utils.study.lab_grids import RELEARNED


def wordings() -> hidden.Wordings:
    """Wordings of the lab's facts beside the first one, by how training dealt with them."""
    trained = {fact: tuple(t for t in plan.shown if t) for fact, plan in world.plan(1).items()}
    return hidden.Wordings(trained, world.held_out(1))


@lru_cache(maxsize=1)
def recoveries(run: LabRun) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Single models, and means over seeds."""
    singles = hidden.recoveries(run.results, run.parameters.probes, wordings(), run.parameters.shots)
    singles = _named(singles)
    return singles, _named(hidden.recoveries_over_seeds(singles))


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    names = [amount(row) for _, row in frame.iterrows()]
    return frame.assign(amount=pd.Categorical(names, list(dict.fromkeys(names)), ordered=True))


def draw_recovered(run: LabRun) -> None:
    """Share of lost facts that each way gets, luck taken out."""
    singles, means = recoveries(run)
    shown = means.dropna(subset="recovered")
    if shown.empty:
        return
    what = "Lost facts that another way of asking gets, luck taken out"
    lost = singles.dropna(subset="recovered")["lost"]
    show(
        seed_figures.panels_of_seeds(
            means, singles, "amount", "line", "way", "recovered", "", "of the lost facts, recovered (%)", ((0.0, "luck"),),
            joined=False,
        ),
        name="recovered",
        caption=f"{what}: 0 is what as many tries get of facts that no model can know. Bars: 95 % t intervals of the mean over "
        f"{seeds_text(means)} ({lost.min()} to {lost.max()} lost facts each); faint points: single seeds.",
        alt=seed_figures.in_words(means, "amount", "line", "way", "recovered", f"{what}, in per cent"),
    )  # fmt: skip


def tell_recovered(run: LabRun) -> None:
    show_sentences(hidden.recovery_sentences(recoveries(run)[1]))


@lru_cache(maxsize=1)
def learned(run: LabRun) -> pd.DataFrame:
    """Recall while learning, of single models; empty where nothing was trained."""
    probe = run.parameters.probes.get(RELEARNED)
    return hidden.relearning(run.results, probe) if probe is not None else pd.DataFrame()


def draw_relearning(run: LabRun) -> None:
    """Recall of lost and of new facts against steps of training."""
    singles = learned(run)
    if singles.empty:
        return
    singles = singles.assign(panel=[f"{row['line']}, {amount(row)}" for _, row in singles.iterrows()])
    panels, sets = list(dict.fromkeys(singles["panel"])), list(hidden.SETS.values())
    places = {"panel": panels.index, "set": sets.index}
    singles = singles.sort_values(["panel", "set"], key=lambda c: c.map(places[c.name]), kind="stable")
    means = over_seeds(singles, ("recall",), ("line", "panel", "set", "step"))
    what = "Recall while a copy of the compressed model is trained on lost and on new facts at once"
    show(
        seed_figures.panels_of_seeds(
            means, singles, "step", "set", "panel", "recall", "steps of training", "answered rightly (%)"
        ),
        name="relearning",
        caption=f"{what}. Bars: 95 % t intervals of the mean over {seeds_text(means)} ({singles['n'].min()} to "
        f"{singles['n'].max()} facts of each set); faint points: single seeds.",
        alt=seed_figures.in_words(means, "step", "set", "panel", "recall", f"{what}, in per cent"),
    )


def tell_relearning(run: LabRun) -> None:
    if run.parameters.relearn_steps is not None:
        show_sentences(hidden.relearning_sentences(learned(run)))
