"""Fragments of pages that are computed from the study: the landing figure, the paper's scopes, three facts as prompts."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from kc_utils.models.loading import load
from kc_utils.probing.complete import complete
from kc_utils.probing.sources import facts as facts_of
from kc_utils.report import drawing, phrases
from kc_utils.report.tables import figure, markdown_table, technique_of
from kc_utils.stats.compare import compare
from kc_utils.stats.names import in_order_of_precision, protocols_in_order, short_protocol
from kc_utils.study.rows import table_of

SHOWABLE = ("worldfacts",)  # sources whose text may be printed
NO_PRESET = (
    "No run with `preset=paper` is among the results that this book was built from, so nothing can be said here about its "
    "effect on facts.\n"
)


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


def paper_preset(results: dict) -> str:
    """What the paper's sets of matrices change: recipes with `preset=paper` beside the same without it, fact by fact."""
    by_model: dict[tuple, dict] = {}
    for cell, result in results.items():
        by_model.setdefault((cell.model, cell.probe), {})[cell] = result
    tables, alone = [], []
    for cells in by_model.values():
        recipes = {cell.recipe for cell in cells}
        pairs = {r: r.replace(",preset=paper", "") for r in recipes if "preset=paper" in r}
        alone += [f"`{r}`" for r, plain in pairs.items() if plain not in recipes]
        if pairs := {r: plain for r, plain in pairs.items() if plain in recipes}:
            tables.append(
                compare(table_of({c: x for c, x in cells.items() if c.recipe in {*pairs, *pairs.values()}}), pairs)
            )
    if not tables and not alone:
        return NO_PRESET
    text = ""
    if tables:
        found = pd.concat(tables)
        touched = {(c.model, c.recipe): r.report.get("weights_touched", 0) / 1e6 for c, r in results.items()}
        rows = [
            {
                "model": line["model"], "recipe": f"`{line['recipe']}`",
                "protocol": short_protocol(line["protocol"]), "n": line["n"],
                "weights, paper": f"{touched[line['model'], line['recipe']]:,.1f} M",
                "weights, here": f"{touched[line['model'], line['against']]:,.1f} M",
                "correct, paper": phrases.percent(line["accuracy"]), "correct, here": phrases.percent(line["baseline_accuracy"]),
                "p (Holm)": phrases.p_value(line["p_holm"]),
            }
            for _, line in found.iterrows()
        ]  # fmt: skip
        stated = "\n".join(f"- {phrases.pair(line)}" for _, line in found.iterrows())
        how = "Pairs are compared fact by fact with McNemar's exact test, corrected by Holm's method."
        text = f"{markdown_table(rows)}\n\n{stated}\n\n{how}\n"
    return text + (f"\nWithout a counterpart among the results: {', '.join(alone)}.\n" if alone else "")


def three_facts(study, results: dict) -> str:
    """The best-known fact of each of three relations, as the uncompressed model of the study's first run completes, answers
    and ranks it: Markdown for the chapter on probing."""
    run = next((r for r in study.runs if r.plan.values.get("facts") in SHOWABLE), None)
    if run is None:
        return "The study that this book was built from uses no facts whose text may be printed here.\n"
    source, model = run.plan.values["facts"], run.plan.models[0]
    own = {c: r for c, r in results.items() if (c.model, c.recipe, c.probe.facts) == (model, "none", source)}
    rows = table_of(own).drop_duplicates(["fact", "protocol"])
    rows = rows[rows["protocol"].isin(["rank", "openbook"])]
    known = facts_of(source).set_index("id")
    there = known.loc[known.index.isin(rows["fact"])].sort_values("popularity", ascending=False)
    three = there[[row.statement.rstrip(".").endswith(row.answers[0]) for row in there.itertuples()]]
    three = three.drop_duplicates("relation").head(3)
    lm, completed = load(model), []
    for fact in three.itertuples():
        prompt = fact.statement[: fact.statement.rindex(fact.answers[0])].strip()
        best = complete(lm, prompt, top=3)
        pieces = ", ".join(f"`{piece}` {phrases.percent(p)}" for piece, p in best.itertuples(index=False))
        line = {"prompt": prompt, "likeliest pieces": pieces, "answer": fact.answers[0]}
        if lm.entry.family == "decoder":
            tokens = lm.tokenizer(prompt, return_tensors="pt")
            said = lm.model.generate(**tokens, max_new_tokens=8, do_sample=False)[0, tokens["input_ids"].shape[1] :]
            line["free answer"] = "`" + " ".join(lm.tokenizer.decode(said).replace("`", "'").split()) + "`"
        completed.append(line)
    ranked = [
        {
            "fact": three.loc[row.fact, "statement"],
            "protocol": short_protocol(row.protocol),
            "log-likelihoods, the right answer first": ", ".join(f"{score:.1f}" for score in row.scores),
            "correct": "yes" if row.correct else "no",
        }
        for row in rows[rows["fact"].isin(three.index)].itertuples()
    ]
    text = f"The uncompressed `{model}` is queried here, with the first template of each relation.\n\n"
    return f"{text}{markdown_table(completed)}\n" + (f"\n{markdown_table(ranked)}\n" if ranked else "")
