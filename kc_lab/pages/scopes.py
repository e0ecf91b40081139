"""The parts of the page `lab_scopes`: attention against feed-forward, at equal sparsity and at equal weights removed."""

from __future__ import annotations

import pandas as pd
from IPython.display import HTML, display

from kc_lab.pages.notebook import LabRun
from kc_utils.report import seed_figures
from kc_utils.report.showing import show, show_sentences
from kc_utils.stats import equal_budget, findings
from kc_utils.stats.names import SCOPE_NAMES
from kc_utils.stats.seeds import over_seeds

LEVELS = ((1.0, "nothing lost"), (0.0, "guessing"))
UNITS = {
    equal_budget.SPARSITY: ("percent", "weights of the scope set to zero (%)", 100),
    equal_budget.WEIGHTS: ("thousands", "weights set to zero (thousands)", 1e-3),
}


def draw_curves(run: LabRun, axis: str) -> None:
    """What is left when one scope is pruned, one panel per family."""
    singles = _placed(equal_budget.budgets(run.singles), axis)
    if singles.empty:
        return
    x, xlabel, _ = UNITS[axis]
    singles = singles.assign(scope_name=singles["scope"].map(SCOPE_NAMES))
    means = over_seeds(singles, ("retention",), ("line", "scope_name", "amount"))
    what = f"Knowledge kept when attention or feed-forward is pruned, at {axis}"
    show(
        seed_figures.panels_of_seeds(
            means, singles, x, "scope_name", "line", "retention", xlabel, "knowledge kept (%)", LEVELS
        ),
        name=f"curves-{axis.split()[1]}",
        caption=f"{what}. {run.note(means)}",
        alt=seed_figures.in_words(means, x, "scope_name", "line", "retention", f"{what}, in per cent"),
    )


def draw_differences(run: LabRun, axis: str) -> None:
    """Attention less feed-forward, within each seed."""
    pairs = _placed(equal_budget.paired(run.singles), axis)
    if pairs.empty:
        return
    x, xlabel, _ = UNITS[axis]
    pairs = pairs.assign(panel=f"attention less feed-forward, at {axis}")
    means = over_seeds(pairs, ("difference",), ("line", "panel", "amount"))
    what = f"Knowledge kept after pruning attention, less that after pruning feed-forward, at {axis}"
    show(
        seed_figures.panels_of_seeds(
            means,
            pairs,
            x,
            "line",
            "panel",
            "difference",
            xlabel,
            "difference (points of retention)",
            ((0.0, "no difference"),),
        ),
        name=f"differences-{axis.split()[1]}",
        caption=f"{what}: below zero, attention is the more delicate. Differences are taken within each seed. {run.note(means)}",
        alt=seed_figures.in_words(means, x, "line", "panel", "difference", f"{what}, in points"),
    )


def tell(run: LabRun) -> None:
    """The verdicts on both axes."""
    show_sentences(
        [*equal_budget.sentences(equal_budget.paired(run.singles)), *equal_budget.size_sentences(run.singles)]
    )


def table(run: LabRun) -> None:
    """Every difference with its interval."""
    means = equal_budget.differences(equal_budget.paired(run.singles))
    amounts = zip(means["axis"], means["amount"], strict=True)
    shown = pd.DataFrame(
        {
            "models": means["line"],
            "held equal": means["axis"],
            "amount": [
                f"{100 * a:g} %" if axis == equal_budget.SPARSITY else f"{a:,.0f} weights" for axis, a in amounts
            ],
            "seeds": means["seeds"],
            "n": means["n"],
        }
    )
    kept = over_seeds(equal_budget.paired(run.singles), equal_budget.SCOPES, equal_budget.BY)
    for scope in equal_budget.SCOPES:
        shown[f"{SCOPE_NAMES[scope]} kept, %"] = kept[scope].map(findings.whole)
    values = zip(*(means[f"difference{end}"] for end in ("", "_low", "_high")), strict=True)
    shown["difference, points"] = [
        findings.whole(m) + ("" if pd.isna(a) else f" ({findings.whole(a)} to {findings.whole(b)})")
        for m, a, b in values
    ]
    display(HTML(f'<div class="kc-scroll">{shown.to_html(index=False, border=0, classes="dataframe kc-table")}</div>'))


def _placed(frame: pd.DataFrame, axis: str) -> pd.DataFrame:
    """The lines of one axis, with their place on it."""
    if frame.empty:
        return frame
    frame = frame[frame["axis"] == axis]
    x, _, scale = UNITS[axis]
    return frame.assign(**{x: scale * frame["amount"]})
