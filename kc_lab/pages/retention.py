"""The parts of the page `lab_retention`: what each family keeps, technique by technique, and what of its skills."""

from __future__ import annotations

import pandas as pd

from kc_lab.pages.notebook import LabRun
from kc_utils.report import seed_figures
from kc_utils.report.showing import show, show_sentences
from kc_utils.stats import lab_findings
from kc_utils.stats.names import UNQUANTIZED

AXES = {
    "pruning": ("percent", "weights of all matrices set to zero (%)"),
    "quantization": ("precision", "how the weights of all matrices are stored"),
    "pruning_then_quantization": ("percent", "weights set to zero first (%)"),
    "final_layer": ("percent", "weights of the final layer set to zero (%)"),
}
WHAT = {
    "pruning": "after pruning",
    "quantization": "after quantization",
    "pruning_then_quantization": "after pruning, then quantizing",
    "final_layer": "after pruning the final layer alone",
}
LEVELS = ((1.0, "nothing lost"), (0.0, "guessing"))


def draw_kept(run: LabRun, technique: str) -> None:
    """Retention of taught facts, one line per family."""
    means, singles = (_of(run, frame, technique, "taught") for frame in (run.means, run.singles))
    if means.empty:
        return
    x, xlabel = AXES[technique]
    what = (
        f"Knowledge that three families keep {WHAT[technique]}"
        if means["line"].nunique() == 3
        else (f"Knowledge kept {WHAT[technique]}")
    )
    show(
        seed_figures.panels_of_seeds(
            means, singles, x, "line", "panel", "retention", xlabel, "knowledge kept (%)", LEVELS,
            joined=technique != "quantization",
        ),
        name=f"kept-{technique.replace('_', '-')}",
        caption=f"{what}: taught facts, as a share of what the uncompressed model knew above chance. {run.note(means)}",
        alt=seed_figures.in_words(means, x, "line", "panel", "retention", f"{what}, in per cent"),
    )  # fmt: skip


def draw_skills(run: LabRun, technique: str) -> None:
    """Retention of facts beside that of the two skills, one panel per family."""
    means, singles = (_of(run, frame, technique) for frame in (run.means, run.singles))
    if means.empty:
        return
    panel = means["panel"].iloc[0]
    means, singles = (
        f[f["panel"] == panel].assign(name=lambda g: g["asked"].map(lab_findings.ASKED_NAMES)) for f in (means, singles)
    )
    x, xlabel = AXES[technique]
    what = f"Lost facts or damaged skill {WHAT[technique]}"
    what += f" ({panel})" * (technique == "pruning_then_quantization")
    show(
        seed_figures.panels_of_seeds(
            means, singles, x, "name", "line", "retention", xlabel, "kept above chance (%)", LEVELS,
            joined=technique != "quantization",
        ),
        name=f"skills-{technique.replace('_', '-')}",
        caption=f"{what}: facts asked from memory, facts of strangers that are stated first, and agreement of subject and "
        f"verb; each as a share of what the uncompressed model had above chance. {run.note(means)}",
        alt=seed_figures.in_words(means, x, "name", "line", "retention", f"{what}, kept in per cent"),
    )  # fmt: skip


def tell_kept(run: LabRun, technique: str) -> None:
    """Which family loses first, and by how much."""
    sentences = []
    for panel, part in _of(run, run.means, technique, "taught").groupby("panel", sort=False):
        recipes = _from_mild(part)
        found = lab_findings.first_losses(run.means, run.singles, recipes)
        prefix = f"*{panel}.* " if technique == "pruning_then_quantization" else ""
        sentences += [prefix + text for text in found]
    show_sentences(sentences)


def tell_skills(run: LabRun, technique: str) -> None:
    """Whether facts or skills suffer, at the mildest clear loss of each family."""
    frame = _of(run, run.means, technique, "taught")
    if len(frame):
        panel = frame["panel"].iloc[0]
        recipes = _from_mild(frame[frame["panel"] == panel])
        show_sentences(lab_findings.skill_sentences(run.means, run.singles, recipes))


def tell_baselines(run: LabRun) -> None:
    show_sentences([lab_findings.baselines(run.means)])


def _of(run: LabRun, frame: pd.DataFrame, technique: str, asked: str | None = None) -> pd.DataFrame:
    """The lines of a technique, with the uncompressed models at the beginning of each panel."""
    recipes = run.parameters.techniques()[technique]
    if asked is not None:
        frame = frame[frame["asked"] == asked]
    base, rest = frame[frame["recipe"] == "none"], frame[frame["recipe"].isin(recipes)]
    if technique == "pruning_then_quantization":
        panels = list(dict.fromkeys(rest["precision_name"]))
        told = [
            part for p in panels for part in (base.assign(panel=p), rest[rest["precision_name"] == p].assign(panel=p))
        ]
    else:
        told = [base.assign(panel="taught facts"), rest.assign(panel="taught facts")] if len(rest) else []
    if not told:
        return frame.iloc[:0].assign(panel="")
    found = pd.concat(told, ignore_index=True)
    order = [UNQUANTIZED] + [p for p in dict.fromkeys(found["precision_name"]) if p != UNQUANTIZED]
    return found.assign(precision=pd.Categorical(found["precision_name"], order, ordered=True))


def _from_mild(part: pd.DataFrame) -> list[str]:
    """Recipes from mild to harsh: as drawn, without the uncompressed model."""
    return [recipe for recipe in dict.fromkeys(part["recipe"]) if recipe != "none"]
