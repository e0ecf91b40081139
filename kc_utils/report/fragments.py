"""Pieces of pages that are computed from results: the landing figure, tables of runs, versions, models."""

from __future__ import annotations

import platform
import re

import matplotlib.pyplot as plt
import nbformat
import pandas as pd

from kc_utils.report import figures
from kc_utils.stats import findings
from kc_utils.stats.names import (
    SCOPE_NAMES,
    in_order_of_precision,
    model_name,
    protocols_in_order,
    short_protocol,
)
from kc_utils.stats.summary import summarise
from kc_utils.probing.files import project_data
from kc_utils.probing.sources import CARDS
from kc_utils.models.registry import FAMILIES, registry, resolve
from kc_utils import lab
from kc_utils.report.markdown import figure, markdown_table
from kc_utils.study.cells import Cell
from kc_utils.study.grids import split_template
from kc_utils.study.notebooks import template_file
from kc_utils.study.provenance import versions
from kc_utils.study.store import CellResult
from kc_utils.study.studyfile import Run, Study

Results = dict[Cell, CellResult]


def of_study(study: Study, results: Results) -> tuple[dict[str, str], dict[str, bytes]]:
    """Markdown fragments and pictures by file name under `book/results/`. results: every cell of the study."""
    landing, pictures = landing_figure(study, results)
    texts = {
        "landing.md": landing,
        "summary.md": runs_table(study),
        "status.md": status_tables(study, results),
        "models.md": models_table(),
        "worldfacts_card.md": project_data(CARDS["worldfacts"]).read_text(encoding="utf-8"),
        **lab.fragments(),
        "benchmarks_card.md": project_data(CARDS["benchmarks"]).read_text(encoding="utf-8"),
    }
    return texts, pictures


def landing_figure(study: Study, results: Results) -> tuple[str, dict[str, bytes]]:
    """The one figure that tells the story: facts kept against sparsity and against bits, and what it says.

    Drawn from the study's first run of magnitude pruning and its first run of quantization, of one model, where it has any.
    """
    told: dict[str, Run] = {}
    for run in study.runs:
        technique = split_template(run.template)[1]
        drawn = technique == "quantization" or (technique == "pruning" and run.parameters.method == "magnitude")
        if drawn and all(run.parameters.asked_models == other.parameters.asked_models for other in told.values()):
            told.setdefault(technique, run)
    summaries = {technique: summarise({cell: results[cell] for cell in run.cells}) for technique, run in told.items()}
    shared = set.intersection(*(set(s["protocol"]) for s in summaries.values())) if summaries else set()
    if not shared:
        return f"The study `{study.name}` draws no figure here; its runs are listed under the results.\n", {}
    protocol = "rank" if "rank" in shared else protocols_in_order(shared)[0]
    frames = {technique: summary[summary["protocol"] == protocol] for technique, summary in summaries.items()}
    parts = {technique: frame[frame["recipe"] != "none"] for technique, frame in frames.items()}
    first = next(iter(frames.values()))
    alt, sentences = [], [findings.baseline_sentence(first, protocol)]
    if "pruning" in parts:
        part = parts["pruning"].assign(percent=100 * parts["pruning"]["pruned"], technique="pruning")
        what = "Knowledge kept in per cent against per cent of weights pruned"
        alt.append(figures.describe(part, "percent", "scope", what, "technique", "retention"))
        sentences += _first_scope(part, protocol, "Pruning {}", "pruned", "% sparsity")
    if "quantization" in parts:
        part = parts["quantization"].assign(technique="quantization")
        what = "Knowledge kept in per cent by storage of the weights"
        alt.append(figures.describe(part, "precision", "scope", what, "technique", "retention"))
        rounded = part[part["method"] == "rtn"]
        sentences += _first_scope(rounded, protocol, "Rounding {} to nearest", "amount", "bits", "down")
    caption = (
        f"Facts that {first['model'].iloc[0]} still knows after {' and '.join(parts)}, as a share of what it knew above "
        f"chance. Bars: 95 % paired bootstrap intervals over {first['n'].iloc[0]} facts; dashed: nothing lost; dotted: guessing."
    )
    text = figure("landing.png", "fig-landing", caption, " ".join(alt))
    return text + "\n" + "\n".join(f"- {s}" for s in sentences) + "\n", {
        "landing.png": figures.png(_landing_panels(parts))
    }


def _first_scope(
    part: pd.DataFrame, protocol: str, name: str, amount: str, unit: str, harsher: str = "up"
) -> list[str]:
    """What the first scope of a run loses, in a sentence that begins with `name`."""
    scope = next(iter(part["scope"]), None)
    names = {scope: name.format(SCOPE_NAMES.get(scope, scope))}
    return findings.loss_by_group(part[part["scope"] == scope], protocol, "scope", names, amount, unit, harsher)


def _landing_panels(parts: dict[str, pd.DataFrame]) -> plt.Figure:
    figures.theme()
    fig, axes = plt.subplots(1, len(parts), figsize=(5.2 * len(parts), 4.2), sharey=True, squeeze=False)
    for ax, (technique, part) in zip(axes[0], parts.items(), strict=True):
        part = part.assign(line=part["scope"].map(lambda s: SCOPE_NAMES.get(s, s)))
        if technique == "pruning":
            part["at"] = 100 * part["pruned"]
            start = part.drop_duplicates("line").assign(at=0.0, retention=1.0, retention_low=1.0, retention_high=1.0)
            part = pd.concat([start, part])
            ax.set_xlabel("weights of the scope set to zero (%)")
            ax.set_title("Pruning (magnitude)")
        else:
            part["at"] = in_order_of_precision(part["precision"])
            ax.set_xlabel("how the weights of the scope are stored")
            ax.set_title("Quantization")
        figures.draw_lines(
            ax, part, "at", "line", "retention", "retention_low", "retention_high", technique == "pruning"
        )
        ax.axhline(100, color=figures.INK, linewidth=1.1, linestyle="--", zorder=1)
        ax.axhline(0, color=figures.FAINT, linewidth=1.8, linestyle=":", zorder=1)
    axes[0, 0].set_ylabel("knowledge kept (%)")
    figures.legend_below(fig, axes[0, 0])
    return fig


def page_title(study: Study, run: Run) -> str:
    """The title of a run's page: its notebook's own, with the model, and the run where these name more than one."""
    book = nbformat.read(template_file(run.template), as_version=4)
    headings = (re.search(r"^# (.+)$", cell.source, re.M) for cell in book.cells if cell.cell_type == "markdown")
    models = run.parameters.asked_models
    which = model_name(models[0]) if len(models) == 1 else f"{len(models)} models"
    title = f"{next((h[1] for h in headings if h), run.id)}: {which}"
    alike = [r for r in study.runs if (r.template, r.parameters.asked_models) == (run.template, models)]
    return title if len(alike) == 1 else f"{title} ({run.id})"


def runs_table(study: Study) -> str:
    """All runs of the study: page, model, how much was asked."""
    rows = []
    for run in study.runs:
        probes = list(run.parameters.probes.values())
        facts, tasks = probes[0].factset(), probes[0].tasks
        asked = {p for probe in probes for p in probe.protocols} if len(facts) else ()
        asked = [short_protocol(p) for p in protocols_in_order(asked)]
        families = {resolve(model).family for model in run.parameters.asked_models}
        rows.append(
            {
                "page": f"[{page_title(study, run)}](/results/{run.id}.ipynb)",
                "family": ", ".join(f for f in FAMILIES if f in families),
                "compressed versions": len({(c.model, c.recipe) for c in run.cells if c.recipe != "none"}),
                "facts asked of each": f"{len(facts):,} of `{facts.name}`" if len(facts) else "none",
                "asked by": ", ".join([*asked, *(f"task {task}" for task in tasks)]),
            }
        )
    versions_ = len({(c.model, c.recipe) for c in study.cells if c.recipe != "none"})
    return (
        f"**{study.title}.** {study.about.strip()} In all {versions_} compressed versions.\n\n"
        + markdown_table(rows)
        + "\n"
    )


def status_tables(study: Study, results: Results) -> str:
    """Execution status of every run, and the versions and hardware that made the results."""
    rows = []
    for run in study.runs:
        records = [results[c].record["made"] for c in run.cells]
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
    made = [result.record["made"] for result in results.values()]
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


def rows_and_provenance(run: Run, results: Results) -> str:
    """The end of a result page: its parameters, its rows to download, what made them, how to run it again."""
    records = [results[c].record for c in run.cells]
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
    each = "recipe" if len(run.parameters.asked_models) == 1 else "model, recipe, probe"
    return f"""## Rows and provenance

Rows behind this page, one per {each}, fact, protocol and template: {{download}}`Parquet file <rows/{run.id}.parquet>`.

{markdown_table(values)}

Run it again:

```bash
papermill notebooks/{run.template}.ipynb out.ipynb {flags}
```

{len(records)} cells computed in {seconds:.0f} s on {hardware["processor"]} ({made[0]["threads"]} thread(s) each;
{hardware["cores"]} cores, {hardware["memory_gib"]} GiB, accelerator: {hardware["accelerator"] or "none"}) on {stored},
with {", ".join(f"{p} {v}" for p, v in records[0]["depends_on"]["versions"].items())}; facts
`{records[0]["depends_on"]["facts"][:12]}`, code `{records[0]["depends_on"]["code"][:12]}`.
{of_record(records)}"""


def of_record(records: list[dict]) -> str:
    """Which cells were not computed on this machine but read from the results of record, in a sentence; else nothing."""
    found = [r["recorded"]["study"] for r in records if "recorded" in r]
    if not found:
        return ""
    whose = ", ".join(f"`{name}`" for name in sorted(set(found)))
    return (
        f"\n{len(found)} of these {len(records)} cells are results of record (study {whose}): made by this very code with these "
        "versions, weights and facts, on the machine that is named here, and published with the code.\n"
    )
