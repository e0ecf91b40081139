"""Pieces of pages that are computed from results: the landing figure, tables of runs, versions, models."""

from __future__ import annotations

import io
import platform

import matplotlib.pyplot as plt
import nbformat
import pandas as pd

from kc_utils.analysis import figures, findings
from kc_utils.analysis.summary import SCOPE_NAMES, summarise
from kc_utils.knowledge.sources.worldfacts import CARD
from kc_utils.models.registry import registry, resolve
from kc_utils.study import store
from kc_utils.study.grids import split_template
from kc_utils.study.provenance import versions
from kc_utils.study.studyfile import Run, Study


def of_study(study: Study) -> tuple[dict[str, str], dict[str, bytes]]:
    """Markdown fragments and pictures by file name under `book/results/`."""
    landing, picture = landing_figure(study)
    texts = {
        "landing.md": landing,
        "summary.md": runs_table(study),
        "status.md": status_tables(study),
        "models.md": models_table(),
        "worldfacts_card.md": CARD.read_text(encoding="utf-8"),
    }
    return texts, {"landing.png": picture}


def results_of(run: Run) -> dict:
    return {cell: store.read(cell.key) for cell in run.cells}


def landing_figure(study: Study) -> tuple[str, bytes]:
    """The one figure that tells the story: facts kept against sparsity and against bits, and what it says."""
    protocol, frames = "rank", []
    for run in study.runs:
        technique = split_template(run.template)[1]
        if technique not in ("pruning", "quantization"):
            continue
        summary = summarise(results_of(run))
        if protocol not in set(summary["protocol"]):
            protocol = summary["protocol"].iloc[0]
        frames.append(summary.assign(technique=technique, run=run.id))
    frame = pd.concat(frames, ignore_index=True)
    frame = frame[(frame["protocol"] == protocol) & (frame["recipe"] != "none")]
    fig = _landing_panels(frame)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=160, bbox_inches="tight", facecolor="white")
    plt.close(fig)
    line = frame.iloc[0]
    pruned, quantized = (frame[frame["technique"] == t] for t in ("pruning", "quantization"))
    alt = (
        figures.describe(
            pruned.assign(percent=100 * pruned["pruned"]),
            "percent",
            "scope",
            "Knowledge kept in per cent against per cent of weights pruned",
            "technique",
            "retention",
        )
        + " "
        + figures.describe(
            quantized,
            "precision",
            "scope",
            "Knowledge kept in per cent by storage of the weights",
            "technique",
            "retention",
        )
    )
    caption = (
        f"Facts that {line['model']} still knows after pruning (left) and quantization (right), as a share of what it knew "
        f"above chance. Bars: 95 % paired bootstrap intervals over {line['n']} facts; dashed: nothing lost; dotted: guessing."
    )
    sentences = [findings.baseline_sentence(_with_baseline(study, frame), protocol)]
    names = {s: SCOPE_NAMES.get(s, s) for s in frame["scope"]}
    everything = next(iter(dict.fromkeys(pruned["scope"])), None)
    sentences += findings.loss_by_group(
        pruned[pruned["scope"] == everything],
        protocol,
        "scope",
        {everything: f"Pruning {names.get(everything)}"},
        "pruned",
        "% sparsity",
    )
    rounded = quantized[(quantized["method"] == "rtn") & (quantized["scope"] == everything)]
    sentences += findings.loss_by_group(
        rounded,
        protocol,
        "scope",
        {everything: f"Rounding {names.get(everything)} to nearest"},
        "amount",
        "bits",
        "down",
    )
    text = f"```{{figure}} /results/landing.png\n:name: fig-landing\n:alt: {alt}\n:width: 100%\n\n{caption}\n```\n\n"
    return text + "\n".join(f"- {s}" for s in sentences) + "\n", buffer.getvalue()


def _with_baseline(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    run = next(r for r in study.runs if r.id == frame["run"].iloc[0])
    return summarise(results_of(run))


def _landing_panels(frame: pd.DataFrame) -> plt.Figure:
    figures.theme()
    fig, axes = plt.subplots(1, 2, figsize=(10.4, 4.2), sharey=True)
    for ax, technique in zip(axes, ("pruning", "quantization"), strict=True):
        part = frame[frame["technique"] == technique].copy()
        part["line"] = part["scope"].map(lambda s: SCOPE_NAMES.get(s, s))
        if technique == "pruning":
            part["at"] = 100 * part["pruned"]
            start = part.drop_duplicates("line").assign(at=0.0, retention=1.0, retention_low=1.0, retention_high=1.0)
            part = pd.concat([start, part])
            ax.set_xlabel("weights of the scope set to zero (%)")
            ax.set_title("Pruning (magnitude, global)")
        else:
            order = [p for p in ("8 bits", "int8 dynamic", "4 bits", "3 bits", "2 bits") if p in set(part["precision"])]
            part["at"] = pd.Categorical(part["precision"], order, ordered=True)
            ax.set_xlabel("how the weights of the scope are stored")
            ax.set_title("Quantization (round to nearest, dynamic int8)")
        figures.draw_lines(
            ax, part, "at", "line", "retention", "retention_low", "retention_high", technique == "pruning"
        )
        ax.axhline(100, color=figures.INK, linewidth=1.1, linestyle="--", zorder=1)
        ax.axhline(0, color=figures.FAINT, linewidth=1.3, linestyle=":", zorder=1)
    axes[0].set_ylabel("knowledge kept (%)")
    figures.legend_below(fig, axes[0])
    return fig


def markdown_table(rows: list[dict]) -> str:
    """A Markdown table; the first row's keys are the header."""
    header = list(rows[0])
    cell = lambda value: str(value).replace("|", "\\|").replace("\n", " ")  # noqa: E731
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell(row[k]) for k in header) + " |" for row in rows]
    return "\n".join(lines)


def page_title(run: Run) -> str:
    """The title of a run's page: the notebook's own, with the model."""
    book = nbformat.read(run.output, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return f"{cell.source.splitlines()[0][2:]}: {run.parameters.model}"
    return run.id


def runs_table(study: Study) -> str:
    """All runs of the study: page, model, how much was asked."""
    rows = []
    for run in study.runs:
        facts = run.parameters.probe.factset()
        rows.append(
            {
                "page": f"[{page_title(run)}](/results/{run.id}.ipynb)",
                "family": resolve(run.parameters.model).family,
                "compressed versions": len(run.cells) - 1,
                "facts asked of each": f"{len(facts):,} of `{facts.name}`",
                "protocols": ", ".join(run.parameters.protocols),
            }
        )
    versions_ = len({c for c in study.cells if c.recipe != "none"})
    return (
        f"**{study.title}.** {study.about.strip()} In all {versions_} compressed versions.\n\n"
        + markdown_table(rows)
        + "\n"
    )


def status_tables(study: Study) -> str:
    """Execution status of every run, and the versions and hardware that made the results."""
    rows = []
    for run in study.runs:
        records = [store.read(c.key).record["made"] for c in run.cells]
        seconds = sum(sum(r["seconds"].values()) for r in records)
        rows.append(
            {
                "page": f"[{run.id}](/results/{run.id}.ipynb)",
                "notebook": f"`{run.template}`",
                "status": "finished",
                "cells": len(run.cells),
                "computed": max(r["at"] for r in records)[:16].replace("T", " ") + " UTC",
                "seconds of its cells": f"{seconds:.0f}",
            }
        )
    made = [store.read(c.key).record["made"] for c in study.cells]
    machines = list({str(m["hardware"]): m["hardware"] for m in made}.values())
    used = {p: sorted({m["versions"].get(p, "absent") for m in made}) for p in made[0]["versions"]}
    machine_rows = [
        {
            "processor": m["processor"],
            "cores": m["cores"],
            "memory (GiB)": m["memory_gib"],
            "accelerator": m["accelerator"] or "none",
            "system": m["system"],
            "Python": m["python"],
        }
        for m in machines
    ]
    version_rows = [{"package": p, "version": ", ".join(v)} for p, v in used.items()]
    building = ", ".join(f"{p} {v}" for p, v in versions(("jupyter-book", "papermill", "snakemake")).items())
    return (
        markdown_table(rows)
        + "\n\nMade on:\n\n"
        + markdown_table(machine_rows)
        + "\n\nWith:\n\n"
        + markdown_table(version_rows)
        + f"\n\nThis page was built with Python {platform.python_version()}, {building}.\n"
    )


def models_table() -> str:
    """The registry as a table, and below it what to keep in mind about single models."""
    rows = [
        {
            "model": f"`{e.id}`",
            "family": e.family,
            "source": f"`{e.source}`",
            "licence": e.licence,
            "run here": "yes" if e.ran_here else "not run here",
        }
        for e in registry().values()
    ]
    notes = [f"- `{e.id}`: {note}" for e in registry().values() for note in e.notes]
    return markdown_table(rows) + "\n\n" + "\n".join(notes) + "\n"


def rows_and_provenance(run: Run) -> str:
    """The end of a result page: its parameters, its rows to download, what made them, how to run it again."""
    records = [store.read(c.key).record for c in run.cells]
    made = [r["made"] for r in records]
    hardware = made[0]["hardware"]
    values = [{"parameter": f"`{k}`", "value": f"`{v!r}`"} for k, v in run.values.items()]
    flags = " ".join(
        f"-p {k} {v}" if isinstance(v, str | int) and not isinstance(v, bool) else f'-p {k} "{v}"'
        for k, v in run.values.items()
        if v is not None
    )
    seconds = sum(sum(m["seconds"].values()) for m in made)
    stored = ", ".join(sorted({m["at"][:10] for m in made}))
    return f"""## Rows and provenance

Rows behind this page, one per recipe, fact, protocol and template: {{download}}`Parquet file <rows/{run.id}.parquet>`.

{markdown_table(values)}

Run it again:

```bash
papermill notebooks/{run.template}.ipynb out.ipynb {flags}
```

{len(records)} cells computed in {seconds:.0f} s on {hardware["processor"]} ({made[0]["threads"]} thread(s) each;
{hardware["cores"]} cores, {hardware["memory_gib"]} GiB, accelerator: {hardware["accelerator"] or "none"}) on {stored},
with {", ".join(f"{p} {v}" for p, v in records[0]["depends_on"]["versions"].items())}; facts
`{records[0]["depends_on"]["facts"][:12]}`, code `{records[0]["depends_on"]["code"][:12]}`.
"""
