"""The figure of the start page: what a study's first pruning and first quantization keep, and the sentences beside it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from kc_utils.report import drawing, phrases
from kc_utils.report.tables import figure, technique_of
from kc_utils.stats.compare import compare
from kc_utils.stats.names import in_order_of_precision, protocols_in_order
from kc_utils.study.rows import table_of


def landing_figure(study, results: dict) -> dict[str, str | bytes]:
    """The figure of the start page: retention against sparsity and by storage, with the sentences that belong to it.

    It shows the study's first run of magnitude pruning and its first run of quantization, of one model.
    """
    chosen: dict[str, object] = {}
    for run in study.runs:
        technique = technique_of(run.template)
        fits = technique == "quantization" or (technique == "pruning" and run.plan.values.get("method") == "magnitude")
        if fits and all(run.plan.models == other.plan.models for other in chosen.values()):
            chosen.setdefault(technique, run)
    compared = {t: compare(table_of({cell: results[cell] for cell in run.cells})) for t, run in chosen.items()}
    shared = set.intersection(*(set(table["protocol"]) for table in compared.values())) if compared else set()
    if not shared:
        return {
            "landing.md": f"The study `{study.name}` draws no figure here; its runs are listed under the results.\n"
        }
    protocol = "rank" if "rank" in shared else protocols_in_order(shared)[0]
    compared = {t: table[table["protocol"] == protocol] for t, table in compared.items()}
    drawn = {t: _laid(table[table["recipe"] != "none"], t) for t, table in compared.items()}
    drawing.theme()
    fig, axes = plt.subplots(1, len(drawn), figsize=(5.2 * len(drawn), 4.2), sharey=True, squeeze=False)
    for ax, (technique, part) in zip(axes[0], drawn.items(), strict=True):
        drawing.lines(ax, part, "at", "scope", "retention", joined=technique == "pruning")
        drawing.level(ax, 100, "nothing lost", "--", drawing.INK)
        drawing.level(ax, 0, "guessing", ":")
        ax.set_title("Pruning (magnitude)" if technique == "pruning" else "Quantization")
        ax.set_xlabel(
            "weights of the scope set to zero (%)" if technique == "pruning" else "storage of the scope's weights"
        )
    axes[0, 0].set_ylabel("retention: knowledge kept (%)")
    drawing.legend_below(fig)
    first = next(iter(compared.values()))
    sentences = [phrases.baseline(first, protocol)]
    for table in compared.values():
        scope = next(s for s in table["scope"] if s != "none")
        stated = table[
            (table["recipe"] == "none") | ((table["scope"] == scope) & table["method"].isin(["magnitude", "rtn"]))
        ]
        sentences += phrases.losses(stated, protocol)
    caption = (
        f"Facts that {first['model'].iloc[0]} still knows after {' and '.join(drawn)}, as a share of what it knew above chance. "
        f"Bars: 95 % paired bootstrap intervals over {first['n'].iloc[0]} facts."
    )
    alt = " ".join(
        drawing.describe(part, "at", "scope", "retention", [], f"Retention in per cent, {t}")
        for t, part in drawn.items()
    )
    text = figure("landing.png", "fig-landing", caption, alt) + "\n" + "\n".join(f"- {s}" for s in sentences) + "\n"
    return {"landing.md": text, "landing.png": drawing.png(fig)}


def _laid(part: pd.DataFrame, technique: str) -> pd.DataFrame:
    """A comparison with its horizontal axis as the column `at`; pruning begins at 0 per cent, with everything kept."""
    if technique != "pruning":
        return part.assign(at=in_order_of_precision(part["precision"]))
    start = part.drop_duplicates("scope").assign(pruned=0.0, retention=1.0, retention_low=1.0, retention_high=1.0)
    part = pd.concat([start, part])
    return part.assign(at=100 * part["pruned"])
