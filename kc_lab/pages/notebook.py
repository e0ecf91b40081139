"""What a notebook over several models calls: open a run, evaluate it, show its parts (one module per notebook)."""

from __future__ import annotations

from functools import cached_property

import pandas as pd
from IPython.display import HTML, Markdown, display

from kc_utils.models.registry import resolve
from kc_utils.report.given import given_in
from kc_utils.report.layout import with_axes
from kc_utils.stats import findings, lab_findings
from kc_utils.stats.names import model_name, short_protocol
from kc_utils.stats.seeds import by_model, lines_of, over_seeds
from kc_utils.study import grids
from kc_utils.study.evaluate import evaluate

SHARES = ("retention", "accuracy", "lost")


class LabRun:
    """One run of a notebook over several models: its parameters, and after `evaluate()` its results.

    lines: (line, seed) of each model, see `analysis.seeds`.
    """

    def __init__(self, template: str, values: dict):
        self.parameters = grids.parameters(template, **values)
        self.technique = grids.split_template(template)[1]
        self.lines = lines_of(self.parameters.asked_models)
        self.results: dict = {}

    def about(self) -> None:
        """Show what is asked of which models."""
        told = []
        for line in dict.fromkeys(line for line, _ in self.lines.values()):
            mine = [model for model, (name, _) in self.lines.items() if name == line]
            told.append(f"- **{line}**: {', '.join(f'`{model_name(m)}`' for m in mine)} ({resolve(mine[0]).licence})")
        for name, probe in self.parameters.probes.items():
            facts = probe.factset()
            how = ", ".join(map(short_protocol, probe.protocols))
            more = ", in every wording" * (probe.templates == "all")
            more += f", with {probe.shots} true statement{'s' * (probe.shots > 1)} before" if probe.shots else ""
            more += f", then {probe.relearn_steps} steps of training" if probe.relearn_steps else ""
            told.append(
                f"- **Asked, {name}**: {len(facts):,} of `{facts.name}` (list `{facts.sha256[:12]}`) by {how}{more}"
            )
        recipes = {cell.recipe for cell in self.parameters.cells()} - {"none"}
        told.append(
            f"- **Recipes**: {len(recipes)}, each compared with the same uncompressed model on the same questions"
        )
        display(Markdown("\n".join(told)))

    def evaluate(self) -> None:
        """Compute the cells that are not stored yet."""
        self.results = evaluate(self.parameters.cells())

    @cached_property
    def compared(self) -> dict:
        """The probes that the uncompressed models are asked, too."""
        wanted = self.parameters.probes
        return {name: probe for name, probe in wanted.items() if "none" in self.parameters.recipes_of(name)}

    @cached_property
    def singles(self) -> pd.DataFrame:
        """One line per model, recipe and probe, with the columns that figures need."""
        return self.laid_out(by_model(self.results, self.compared))

    @cached_property
    def means(self) -> pd.DataFrame:
        """One line per line, recipe and probe: means over seeds with their intervals."""
        return self.laid_out(over_seeds(self.singles, SHARES))

    def laid_out(self, frame: pd.DataFrame) -> pd.DataFrame:
        return with_axes(frame)

    def note(self, means: pd.DataFrame) -> str:
        """What every caption says of bars and points."""
        counts = sorted(set(means["n"]))
        n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
        return (
            f"Bars: 95 % t intervals of the mean over {lab_findings.seeds_text(means)} ({n} questions each); faint points: "
            "single seeds."
        )

    def table(self) -> None:
        """Show every line and recipe: means over seeds."""
        display(table_of(self.means))


def table_of(means: pd.DataFrame) -> HTML:
    """Means over seeds as a table for the page, shares in per cent."""
    shown = pd.DataFrame({"models": means["line"], "recipe": means["recipe"], "asked": means["asked"]})
    shown["seeds"], shown["n"] = means["seeds"], means["n"]
    for name, column in {"right": "accuracy", "kept": "retention"}.items():
        values = zip(*(means[c] for c in (column, f"{column}_low", f"{column}_high")), strict=True)
        shown[f"{name}, %"] = [
            ""
            if pd.isna(m)
            else findings.whole(m) + ("" if pd.isna(a) else f" ({findings.whole(a)} to {findings.whole(b)})")
            for m, a, b in values
        ]
    shown["touched, %"] = [f"{100 * s:.1f}" for s in means["touched_fraction"]]
    shown["zeros, %"] = [f"{100 * s:.1f}" for s in means["sparsity"]]
    shown["compression ratio"] = ["" if pd.isna(r) else f"{r:.2f}" for r in means["compression_ratio"]]
    return HTML(f'<div class="kc-scroll">{shown.to_html(index=False, border=0, classes="dataframe kc-table")}</div>')


def open_run(template: str, variables: dict) -> LabRun:
    """Open a run with the notebook's own variables (`globals()`), which must be parameters and nothing else.

    Raises BadRequest for a variable that is not a parameter.
    """
    return LabRun(template, given_in(template, variables))
