"""Tables of pages and notebooks: a comparison with all its numbers, and what was run, on what, of which models."""

import platform
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from IPython.display import HTML
from jinja2 import Environment, Template

from kc_utils.compression.recipe import Recipe
from kc_utils.models.registry import FAMILIES, registry, resolve
from kc_utils.report.phrases import interval, p_value, series, whole
from kc_utils.stats.names import METHOD_NAMES, model_name, protocols_in_order, short_protocol
from kc_utils.study import store
from kc_utils.study.cells import Cell
from kc_utils.study.provenance import versions

TECHNIQUES = {
    "pruning": "Pruning",
    "quantization": "Quantization",
    "pruning_then_quantization": "Pruning, then quantization",
    "final_layer": "Final layer",
    "gptq": "GPTQ",
    "retention": "Retention",
    "bits": "Bits per parameter",
    "scopes": "Scopes",
    "first_to_go": "First to go",
    "erased_or_hidden": "Erased or hidden",
}
"""Short names of notebooks, by what stands behind the family (or `lab`) in a notebook's name."""


def show_table(table: pd.DataFrame) -> HTML:
    """Show a table of `compare` with all its numbers, one line per recipe and protocol, fractions in per cent.

    >>> show_table(compare(rows))
    """
    shown = table[["recipe", "protocol", "n"]].assign(protocol=table["protocol"].map(short_protocol))
    shares = {"correct": ("accuracy", "low", "high"), "retention": ("retention", "retention_low", "retention_high")}
    for name, columns in shares.items():
        shown[f"{name}, %"] = [_with_interval(*values) for values in zip(*(table[c] for c in columns), strict=True)]
    if "static" in table and table["static"].notna().any():
        shown["embeddings alone, %"] = ["" if pd.isna(value) else whole(value) for value in table["static"]]
    shown["lost, %"], shown["gained, %"] = table["lost"].map(whole), table["gained"].map(whole)
    shown["p (Holm)"] = table["p_holm"].map(p_value)
    shown["touched, %"], shown["zeros, %"] = (_written(100 * table[c], 1) for c in ("touched_fraction", "sparsity"))
    shown["bits a weight"] = _written(table["bits_per_weight"], 2)
    shown["compression ratio"] = _written(table["compression_ratio"], 2)
    return HTML(f'<div class="kc-scroll">{shown.to_html(index=False, border=0, classes="dataframe kc-table")}</div>')


def _with_interval(middle: float, low: float, high: float) -> str:
    if pd.isna(middle):
        return ""
    return whole(middle) + ("" if pd.isna(low) else f" ({interval(low, high)[:-2]})")


def _written(values: pd.Series, digits: int) -> list[str]:
    return ["" if pd.isna(value) else f"{value:.{digits}f}" for value in values]


def markdown_table(rows: list[dict]) -> str:
    """A Markdown table; the first row's keys are the header."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    for row in rows:
        cells = (str(row[key]).replace("|", "\\|").replace("\n", " ") for key in rows[0])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure(name: str, label: str, caption: str, alt: str) -> str:
    """A figure of a page, from a picture under `book/results/`."""
    alt = alt.replace("\n", " ").replace("\u00a0", " ")
    return f"```{{figure}} /results/{name}\n:name: {label}\n:alt: {alt}\n:width: 100%\n\n{caption}\n```\n"


def technique_of(template: str) -> str:
    """The technique of a notebook's name: `pruning` of `decoder_pruning`."""
    for prefix in ("encoder_decoder_", "encoder_", "decoder_", "lab_"):
        if template.startswith(prefix):
            return template.removeprefix(prefix)
    return template


def title_of(study, run) -> str:
    """The short title of a run's page: `Pruning · smollm2-135m`, with the run's id where several would be alike."""
    name = lambda r: TECHNIQUES.get(technique_of(r.template), technique_of(r.template).replace("_", " ").capitalize())  # noqa: E731
    alike = [r for r in study.runs if (r.template, r.plan.models) == (run.template, run.plan.models)]
    what = name(run)
    if len(alike) > 1:
        own = run.id.removeprefix(model_name(run.plan.models[0]).replace(":", "-"))
        own = own.replace("-".join(technique_of(run.template).split("_")), "").strip("-").replace("-", " ")
        what = f"{what}, {own}" if own.strip() else what
    return f"{what} · {model_name(run.plan.models[0]) if len(run.plan.models) == 1 else 'lab models'}"


def runs_table(study) -> str:
    """All runs of a study: page, family, and what was evaluated on which facts."""
    rows = []
    for run in study.runs:
        probes = list(run.plan.probes.values())
        facts = probes[0].factset()
        protocols = protocols_in_order({p for probe in probes for p in probe.protocols} if len(facts) else ())
        families = {resolve(model).family for model in run.plan.models}
        rows.append(
            {
                "page": f"[{title_of(study, run)}](/results/{run.id}.ipynb)",
                "family": ", ".join(f for f in FAMILIES if f in families),
                "compressed models": _compressed(run.cells),
                "facts": f"{len(facts):,} of `{facts.name}`" if len(facts) else "none",
                "protocols": ", ".join([*map(short_protocol, protocols), *(f"task {t}" for t in probes[0].tasks)]),
            }
        )
    about = f"**{study.title}.** {study.about.strip()} In all {_compressed(study.cells)} compressed models."
    return f"{about}\n\n{markdown_table(rows)}\n"


def _compressed(cells) -> int:
    return len({(cell.model, cell.recipe) for cell in cells if cell.recipe != "none"})


def status_tables(study, results: dict) -> str:
    """Which runs are finished, and the versions and hardware that made their results. results: of every evaluation."""
    rows = []
    for run in study.runs:
        made = [results[cell].record["made"] for cell in run.cells if cell in results]
        rows.append(
            {
                "page": f"[{run.id}](/results/{run.id}.ipynb)", "notebook": f"`{run.template}`",
                "evaluations": len(made), "failed": len(run.cells) - len(made),
                "computed": max(m["at"] for m in made)[:16].replace("T", " ") + " UTC",
                "seconds": f"{sum(sum(m['seconds'].values()) for m in made):.0f}",
            }
        )  # fmt: skip
    made = [result.record["made"] for result in results.values()]
    shown = {"processor": "processor", "cores": "cores", "memory (GiB)": "memory_gib", "accelerator": "accelerator"}
    shown |= {"system": "system", "Python": "python"}
    hardware = {str(m["hardware"]): m["hardware"] for m in made}.values()
    machines = [{title: m[name] or "none" for title, name in shown.items()} for m in hardware]
    used = {p: sorted({m["versions"].get(p, "absent") for m in made}) for p in made[0]["versions"]}
    packages = [{"package": p, "version": ", ".join(v)} for p, v in used.items()]
    here = ", ".join(f"{p} {v}" for p, v in versions(("jupyter-book", "papermill", "snakemake")).items())
    return (
        f"{markdown_table(rows)}\n\nMade on:\n\n{markdown_table(machines)}\n\nWith:\n\n{markdown_table(packages)}\n\n"
        f"This page was built with Python {platform.python_version()}, {here}.\n"
    )


def models_table() -> str:
    """The registry as a table, and below it what to keep in mind about single models."""
    rows = [
        {
            "model": f"`{e.id}`", "family": e.family, "source": f"`{e.source}`", "licence": e.licence,
            "run here": "yes" if e.ran_here else "not run here",
        }
        for e in registry().values()
    ]  # fmt: skip
    notes = [f"- `{e.id}`: {note}" for e in registry().values() for note in e.notes]
    return markdown_table(rows) + "\n\n" + "\n".join(notes) + "\n"


def devices(made: Mapping[Cell, Mapping]) -> str:
    """State how many evaluations ran on what, and which ran on another device than the uncompressed model of their probe.

    made: of each evaluation, as its record holds it.
    """
    name = lambda m: m["hardware"]["processor" if m["device"] == "cpu" else "accelerator"]  # noqa: E731
    counts = Counter(map(name, made.values())).most_common()
    text = f"They ran on {series([f'{what} ({n:,})' for what, n in counts])}."
    base = {(cell.model, cell.probe): name(m) for cell, m in made.items() if cell.recipe == "none"}
    apart = [c for c, m in made.items() if base.get((c.model, c.probe), name(m)) != name(m)]
    if apart:
        methods = sorted({METHOD_NAMES[Recipe.parse(c.recipe).steps[-1].method] for c in apart})
        models = ", ".join(dict.fromkeys(f"`{c.model}`" for c in apart))
        text += (
            f" Of {models}, {len(apart):,} ({series(methods)}) ran on another device than the uncompressed model that they are "
            "compared with. Sums of float32 in another order may turn an answer whose margin is next to nothing. Each evaluation "
            "ran on one device alone, so that these rows do not show how many answers turn."
        )
    return text


def provenance(run, results: dict) -> str:
    """The end of a result page: its rows to download, its parameters, how to run it again, what made the rows."""
    cells = [cell for cell in run.cells if cell in results]
    records = [results[cell].record for cell in cells]
    made = [record["made"] for record in records]
    plain = lambda v: isinstance(v, str | int) and not isinstance(v, bool)  # noqa: E731
    given = [(k, v) for k, v in run.plan.values.items() if v is not None]
    return template("provenance.md").render(
        run=run,
        parameters=markdown_table([{"parameter": f"`{k}`", "value": f"`{v!r}`"} for k, v in run.plan.values.items()]),
        flags=" ".join(f"-p {k} {v}" if plain(v) else f'-p {k} "{v}"' for k, v in given),
        made=made,
        seconds=sum(sum(m["seconds"].values()) for m in made),
        days=sorted({m["at"][:10] for m in made}),
        depends=records[0]["depends_on"],
        devices=devices(dict(zip(cells, made, strict=True))),
        failed={(c.model, c.recipe): store.failure(c.key)["why"] for c in run.cells if c not in results},
        recorded=[f"`{record['recorded']['study']}`" for record in records if "recorded" in record],
    )


def template(name: str, **filters) -> Template:
    """A Jinja template of this folder, and filters that it uses."""
    made = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    made.filters |= filters
    return made.from_string(Path(__file__).with_name(name).read_text(encoding="utf-8"))
