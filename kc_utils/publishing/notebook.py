"""What a result notebook calls: open a run, evaluate it, show its tables, figures and sentences.

Figures are shown as PNG with their caption, label and alternative text as output metadata, which the book turns into
numbered figures; in a plain notebook they are just pictures.
"""

from __future__ import annotations

import base64

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, Markdown, display

from kc_utils.analysis import figures, findings
from kc_utils.analysis.summary import (
    METHOD_NAMES,
    PROTOCOL_NAMES,
    SCOPE_NAMES,
    by_popularity,
    by_relation,
    in_order_of_precision,
    summarise,
)
from kc_utils.errors import BadRequest, listed
from kc_utils.models.registry import resolve
from kc_utils.study import grids
from kc_utils.study.evaluate import evaluate

PAGE_INCHES = 9.8  # width of a figure that fills the page
PLAIN = (str, int, float, bool, list, tuple, type(None))


class OpenRun:
    """One run of a notebook: its parameters, and after `evaluate()` its results."""

    def __init__(self, template: str, values: dict):
        self.parameters = grids.parameters(template, **values)
        self.results: dict = {}
        self.summary = pd.DataFrame()

    def about(self) -> None:
        """Show what is asked of which model."""
        entry, facts = resolve(self.parameters.model), self.parameters.probe.factset()
        lines = [
            f"- **Model**: `{entry.id}` ({entry.family}; licence {entry.licence}; {entry.source})",
            *(f"- **Note**: {note}" for note in entry.notes),
            f"- **Facts**: {len(facts):,} of `{facts.name}` in {len(facts.by_relation())} relations "
            f"(list `{facts.sha256[:12]}`), asked by {', '.join(self.parameters.protocols)}",
            f"- **Recipes**: {len(self.parameters.cells()) - 1}, each compared with the uncompressed model on the same facts",
        ]
        display(Markdown("\n".join(lines)))

    def evaluate(self) -> None:
        """Compute the cells that are not stored yet, and summarise them all."""
        self.results = evaluate(self.parameters.cells())
        self.summary = summarise(self.results)

    def left_out(self) -> None:
        """Show how many facts a protocol could not ask, where there are any."""
        rows = next(iter(self.results.values())).rows
        facts = len(self.parameters.probe.factset())
        asked = rows.groupby("protocol")["fact"].nunique()
        self.sentences(
            f"{facts - n} of {facts} facts are not asked in `{protocol}`: the first token of an answer is white space alone."
            for protocol, n in asked.items()
            if n < facts
        )

    @property
    def protocols(self) -> list[str]:
        return [p for p in PROTOCOL_NAMES if p in set(self.summary["protocol"])]

    def curves(self, hue: str, names: dict) -> pd.DataFrame:
        """The summary in drawing order, with the uncompressed model as the first point of every line.

        Adds `line` (the hue's name), `percent` (pruned, in per cent) and `millions` (weights removed)."""
        base = self.summary[self.summary["recipe"] == "none"]
        rest = self.summary[self.summary["recipe"] != "none"]
        starts = [base.assign(**{hue: value}) for value in dict.fromkeys(rest[hue])]
        return with_axes(pd.concat([*starts, rest], ignore_index=True), hue, names)

    def only(self, **equal) -> pd.DataFrame:
        """The lines of the summary where these columns have these values."""
        chosen = pd.Series(True, index=self.summary.index)
        for column, value in equal.items():
            chosen &= self.summary[column] == value
        return self.summary[chosen | (self.summary["recipe"] == "none")]

    def recipes_of(self, **equal) -> list[str]:
        return [r for r in dict.fromkeys(self.only(**equal)["recipe"]) if r != "none"]

    def mildest_clear_loss(self) -> str:
        """The recipe whose loss is clear and smallest in the last protocol; the one that loses most where none is."""
        lines = self.summary[(self.summary["protocol"] == self.protocols[-1]) & (self.summary["recipe"] != "none")]
        clear = lines[[findings.clearly_worse(line) for _, line in lines.iterrows()]]
        if clear.empty:
            return str(lines.sort_values("accuracy")["recipe"].iloc[0])
        return str(clear.sort_values("accuracy", ascending=False)["recipe"].iloc[0])

    def combinations(self) -> pd.DataFrame:
        """Pairs and parts by scope: `percent` pruned first, `precision_name` after; the uncompressed model in each."""
        base = self.summary[self.summary["recipe"] == "none"]
        rest = self.summary[self.summary["recipe"] != "none"]
        starts = [base.assign(scope=scope) for scope in dict.fromkeys(rest["scope"])]
        frame = with_axes(pd.concat([*starts, rest], ignore_index=True), "scope", SCOPE_NAMES)
        frame = frame.assign(scope_name=frame["line"], precision_name=frame["precision"].astype(str))
        return frame.sort_values(["precision", "pruned"], kind="stable")

    @staticmethod
    def in_order(frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with `precision` as an axis of falling precision."""
        return with_axes(frame.assign(weights_removed=0.0), "scope", SCOPE_NAMES)

    def sentences(self, texts) -> None:
        """Show sentences as a list; nothing where there are none."""
        if found := [text for text in texts if text]:
            display(Markdown("\n".join(f"- {text}" for text in found)))

    def table(self) -> None:
        """Show the comparison of every recipe with the uncompressed model, one line per recipe and protocol."""
        display(table_of(self.summary))

    def popularity(self, recipes: list[str]) -> pd.DataFrame:
        return by_popularity(self.results, recipes)

    def relations(self, recipes: list[str]) -> pd.DataFrame:
        return by_relation(self.results, recipes)


def open_run(template: str, variables: dict) -> OpenRun:
    """Open a run with the notebook's own variables (`globals()`), which must be parameters and nothing else.

    Raises BadRequest for a variable that is not a parameter, as papermill would only warn about it.
    """
    given = {
        name: value
        for name, value in variables.items()
        if not name.startswith("_") and isinstance(value, PLAIN) and name not in ("In", "Out")
    }
    known = grids.TECHNIQUES[grids.split_template(template)[1]].model_fields
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise BadRequest(f"{template} has no parameter {listed(unknown)}; it takes {listed(known, 30)}")
    return OpenRun(template, given)


def with_axes(frame: pd.DataFrame, hue: str, names: dict) -> pd.DataFrame:
    """A frame ready to draw: `line`, `percent`, `millions`, and `precision` in the order of falling precision."""
    frame = frame.assign(
        line=frame[hue].map(lambda v: names.get(v, v)),
        percent=100 * frame["pruned"].astype(float),
        millions=frame["weights_removed"].astype(float) / 1e6,
    )
    frame["precision"] = in_order_of_precision(frame["precision"])
    protocols = pd.Categorical(frame["protocol"], list(PROTOCOL_NAMES), ordered=True)
    return frame.assign(_order=protocols).sort_values("_order", kind="stable").drop(columns="_order")


def table_of(summary: pd.DataFrame) -> HTML:
    """The summary as a table for the page: one line per recipe and protocol, shares in per cent."""
    shares = {"right": ("accuracy", "low", "high"), "kept": ("retention", "retention_low", "retention_high")}
    shown = pd.DataFrame({"recipe": summary["recipe"], "asked by": summary["protocol"], "n": summary["n"]})
    for name, (middle, low, high) in shares.items():
        values = zip(summary[middle], summary[low], summary[high], strict=True)
        shown[f"{name}, %"] = [
            ""
            if pd.isna(m)
            else findings.whole(m) + ("" if pd.isna(a) else f" ({findings.whole(a)} to {findings.whole(b)})")
            for m, a, b in values
        ]
    shown["lost, %"] = summary["lost"].map(findings.whole)
    shown["gained, %"] = summary["gained"].map(findings.whole)
    shown["p (Holm)"] = ["" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}" for p in summary["p_holm"]]
    shown["touched, %"] = [f"{100 * s:.1f}" for s in summary["touched_fraction"]]
    shown["zeros, %"] = [f"{100 * s:.1f}" for s in summary["sparsity"]]
    shown["bits a weight"] = ["" if pd.isna(b) else f"{b:.2f}" for b in summary["bits_per_weight"]]
    return HTML(f'<div class="kc-scroll">{shown.to_html(index=False, border=0, classes="dataframe kc-table")}</div>')


def show(fig: plt.Figure, name: str, caption: str, alt: str) -> None:
    """Show a figure with its caption, label and alternative text, and close it."""
    width = min(100, round(100 * fig.get_figwidth() / PAGE_INCHES))
    picture = base64.b64encode(figures.png(fig)).decode()
    display(
        {"image/png": picture, "text/plain": alt},
        raw=True,
        metadata={"kc": {"name": name, "caption": caption, "alt": alt, "width": f"{width}%"}},
    )


__all__ = [
    "METHOD_NAMES",
    "PROTOCOL_NAMES",
    "SCOPE_NAMES",
    "OpenRun",
    "figures",
    "findings",
    "open_run",
    "show",
    "table_of",
]
