"""What a notebook shows: figures with caption and words, tables, lists of sentences.

Figures are shown as PNG with their caption, label and alternative text as output metadata, which the book turns into
numbered figures; in a plain notebook they are just pictures.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, Markdown, display

from kc_utils.report import figures
from kc_utils.stats import findings

PAGE_INCHES = 9.8  # width of a figure that fills the page


def show(fig: plt.Figure, name: str, caption: str, alt: str) -> None:
    """Show a figure with its caption, label and alternative text, and close it."""
    width = min(100, round(100 * fig.get_figwidth() / PAGE_INCHES))
    picture = base64.b64encode(figures.png(fig)).decode()
    display(
        {"image/png": picture, "text/plain": alt},
        raw=True,
        metadata={"kc": {"name": name, "caption": caption, "alt": alt, "width": f"{width}%"}},
    )


def show_sentences(texts: Iterable[str]) -> None:
    """Show sentences as a list; nothing where there are none."""
    if found := [text for text in texts if text]:
        display(Markdown("\n".join(f"- {text}" for text in found)))


def show_table(summary: pd.DataFrame) -> None:
    """Show a summary, one line per recipe and protocol."""
    display(table_of(summary))


def table_of(summary: pd.DataFrame) -> HTML:
    """The summary as a table for the page: shares in per cent."""
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
    shown["compression ratio"] = ["" if pd.isna(r) else f"{r:.2f}" for r in summary["compression_ratio"]]
    return HTML(f'<div class="kc-scroll">{shown.to_html(index=False, border=0, classes="dataframe kc-table")}</div>')
