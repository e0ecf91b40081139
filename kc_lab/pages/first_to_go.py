"""The parts of the page `lab_first_to_go`: which of the known facts are lost first."""

from __future__ import annotations

from functools import lru_cache

import pandas as pd

from kc_lab import world
from kc_lab.pages.notebook import LabRun
from kc_utils.report import seed_figures
from kc_utils.report.showing import show, show_sentences
from kc_utils.stats import first_losses
from kc_utils.stats.lab_findings import seeds_text
from kc_utils.stats.seeds import rows_by_model

XLABELS = {
    "exposures": "training rows that told the fact, a quarter of the facts each",
    "enters": "when the fact was first told (% of training)",
    "margin": "the uncompressed model's lead of the right answer",
}
ALONG = {
    "exposures": "how often they were told",
    "enters": "when they were first told",
    "margin": "how clearly they were known",
    "relation": "relation",
    "type": "type of relation",
}
YLABEL = "of the known facts, lost (%)"


class Losses:
    """What a run lost: the recipe of each line, single seeds, means, regressions."""

    def __init__(self, run: LabRun):
        rows = rows_by_model(run.results, run.compared, "taught")
        enters = {fact: plan.enters for fact, plan in world.plan(1).items()}
        types = {name: relation.type for name, relation in run.parameters.probe.factset().relations.items()}
        self.chosen = first_losses.mildest(run.means, run.parameters.least_lost)
        self.singles = first_losses.losses(rows, self.chosen, enters, types, run.parameters.bins)
        self.means = first_losses.losses_over_seeds(self.singles)
        self.models = first_losses.models(rows, self.chosen, enters)


@lru_cache(maxsize=1)
def losses_of(run: LabRun) -> Losses:
    return Losses(run)


def tell_choice(run: LabRun) -> None:
    """The recipes whose losses are looked at."""
    show_sentences(first_losses.choice_sentences(run.means, losses_of(run).chosen, run.parameters.least_lost))


def draw(run: LabRun, by: str) -> None:
    """Loss of known facts along exposures, time of entry or margin."""
    means, singles = (_of(frame, by) for frame in (losses_of(run).means, losses_of(run).singles))
    if means.empty:
        return
    xlabel = XLABELS[by].replace("a quarter", f"1 in {run.parameters.bins}")
    show(
        seed_figures.panels_of_seeds(means, singles, "group", "line", "panel", "lost_of_known", xlabel, YLABEL),
        name=by,
        caption=_caption(run, by, means),
        alt=_words(means, by),
    )


def draw_groups(run: LabRun, by: str) -> None:
    """Loss of known facts by relation, or by type of relation."""
    means, singles = (_of(frame, by) for frame in (losses_of(run).means, losses_of(run).singles))
    if means.empty:
        return
    show(
        seed_figures.bars_of_groups(means, singles, "group", "line", "lost_of_known", YLABEL, ""),
        name=by,
        caption=_caption(run, by, means),
        alt=_words(means, by),
    )


def tell(run: LabRun, by: str) -> None:
    """Regressions along a quantity; the extremes of groups."""
    found = losses_of(run)
    if by in first_losses.REGRESSORS:
        show_sentences(first_losses.model_sentences({k: m for k, m in found.models.items() if k[1] == by}))
    elif len(found.means):
        show_sentences(first_losses.extremes(found.means, by))


def _words(means: pd.DataFrame, by: str) -> str:
    what = f"Known facts lost by {ALONG[by]}, in per cent"
    return seed_figures.in_words(means, "group", "line", "panel", "lost_of_known", what)


def _caption(run: LabRun, by: str, means: pd.DataFrame) -> str:
    recipes = "; ".join(f"{line} under {row['recipe']}" for line, row in losses_of(run).chosen.items())
    known = f"{int(means['known'].min())} to {int(means['known'].max())} known facts a group and seed"
    return (
        f"Share of known facts that are lost, by {ALONG[by]} ({recipes}). Bars: 95 % t intervals of the mean over "
        f"{seeds_text(means)} ({known}); faint points: single seeds."
    )


def _of(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """The groups of one way, in their order."""
    mine = frame[frame["by"] == by] if len(frame) else frame
    if mine.empty:
        return mine
    order = list(dict.fromkeys(mine.sort_values("place", kind="stable")["group"]))
    mine = mine.assign(group=pd.Categorical(mine["group"], order, ordered=True), panel="known facts that are lost")
    return mine.sort_values("group", kind="stable")
