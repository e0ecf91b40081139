"""The parts of the page `lab_bits`: knowledge in bits, a parameter and a stored byte, beside published points."""

from __future__ import annotations

from functools import cache

import pandas as pd
from IPython.display import HTML, display

from kc_lab import bits_figures, seed_figures, world
from kc_lab import cards as lab_models
from kc_lab.bits import Table, load_curve, tables_of
from kc_lab.pages.notebook import LabRun
from kc_utils.report.showing import show, show_sentences
from kc_utils.stats import bits_by_model as told
from kc_utils.stats.lab_findings import seeds_text


@cache
def tables(load: int = 1) -> dict[str, Table]:
    """What people's facts are drawn from. Headquarters are left out: no two companies share one, so that they are not drawn
    independently."""
    return tables_of(world.people(load))


def exposures() -> float:
    """How often a fact about a person was told, on average."""
    plan = world.plan(1)
    counts = [plan[fact.id].exposures for fact in world.people(1).facts]
    return sum(counts) / len(counts)


class Counted:
    """A run's knowledge in bits: single models, and means over seeds."""

    def __init__(self, run: LabRun):
        self.singles = told.bits_by_model(run.results, run.parameters.probe, tables())
        self.means = told.bits_over_seeds(self.singles)
        self.note = (
            f"Bars: 95 % t intervals of the mean over {seeds_text(self.means)}; faint points: single seeds. n = "
            f"{self.means['n'].iloc[0]} facts about people, their bits scaled to all {len(world.people(1)):,}."
        )


def draw_parameters(run: LabRun) -> None:
    """Bits of knowledge a parameter, against the bits that a parameter takes."""
    _draw(
        Counted(run), "per_parameter", "parameters", "knowledge, at least (bits a parameter)", "Knowledge a parameter"
    )


def draw_bytes(run: LabRun) -> None:
    """Bits of knowledge a stored byte, against the bits that a parameter takes."""
    _draw(Counted(run), "per_byte", "bytes", "knowledge, at least (bits a stored byte)", "Knowledge a stored byte")


def _draw(counted: Counted, y: str, name: str, ylabel: str, what: str) -> None:
    show(
        bits_figures.bits_against_storage(
            counted.means, counted.singles, told.PUBLISHED, y, ylabel, "bits stored for a parameter, on average"
        ),
        name=name,
        caption=f"{what}, against the bits that the model as stored takes for a parameter; every point is a recipe. Stars: "
        f"{told.SOURCE}. {counted.note}",
        alt=seed_figures.in_words(counted.means.assign(panel=what), "recipe", "line", "panel", y, what, scale=1)
        + " Published, quoted: "
        + ", ".join(f"{getattr(p, y):g} at {p.stored} bits ({p.name})" for p in told.PUBLISHED)
        + ".",
    )


def tell_baselines(run: LabRun) -> None:
    show_sentences(told.baseline_sentences(Counted(run).means))


def tell_verdicts(run: LabRun) -> None:
    """Which of the published points hold here."""
    show_sentences(told.verdicts(Counted(run).means, exposures()))


def tell_best(run: LabRun) -> None:
    show_sentences(told.best_sentences(Counted(run).means))


def draw_load(run: LabRun) -> None:
    """Recall and bits a parameter against how much was taught, of every checkpoint with a card; nothing where none has."""
    found = lab_models.read_cards()
    if not found:
        return
    curve = load_curve(found, {load: tables(load) for load in {card["load"] for card in found}})
    levels = [(p.per_parameter, f"{p.per_parameter:g} at {p.name}, published") for p in (told.HUNDRED, told.THOUSAND)]
    words = "; ".join(
        f"{line['name']}: {100 * line['recall']:.0f} per cent, {line['bits_per_parameter']:.2f} bits a parameter"
        for _, line in curve.iterrows()
    )
    show(
        bits_figures.load_curves(curve, levels),
        name="load",
        caption="Recall of trained facts, and knowledge in bits a parameter, against the number of people taught; from the "
        f"cards of {len(curve)} checkpoints. Bars: 95 % intervals over facts; dotted: what a model would hold if it knew all; "
        f"horizontal lines: {told.SOURCE}. All loads were taught in equally many rows. Bits here come from recall alone, so that "
        "they lie below those of the other figures.",
        alt=f"Recall and knowledge by checkpoint: {words}.",
    )


def table(run: LabRun) -> None:
    """Every line and recipe."""
    means = Counted(run).means
    shown = pd.DataFrame({"models": means["line"], "recipe": means["recipe"], "seeds": means["seeds"], "n": means["n"]})
    shown["bits, at least"] = [f"{b:,.0f}" for b in means["bits"]]
    for name, value, digits in (
        ("kept", "kept", 2),
        ("a parameter", "per_parameter", 3),
        ("a stored byte", "per_byte", 3),
    ):
        shown[name] = [told.between(line, value, digits) for _, line in means.iterrows()]
    shown["stored bits a parameter"] = [f"{s:.2f}" for s in means["stored"]]
    display(HTML(f'<div class="kc-scroll">{shown.to_html(index=False, border=0, classes="dataframe kc-table")}</div>'))
