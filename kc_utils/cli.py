"""`kc`: the study from the command line. Errors a user can act on are one line on standard error."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from kc_utils import cli_record, lab
from kc_utils.cli_shared import Cores, Json, StudyName, as_text, show
from kc_utils.errors import BadRequest, KCError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="What compression does to the facts in a language model's weights.",
)
study_app = typer.Typer(no_args_is_help=True, help="Plan and run a study file.")
app.add_typer(study_app, name="study")

INTERRUPTED = 130


@app.command()
def models(as_json: Json = False) -> None:
    """List the models that can be named."""
    from kc_utils.models.registry import registry

    show(
        [
            {
                "model": e.id,
                "group": e.group,
                "family": e.family,
                "source": e.source,
                "revision": e.revision,
                "licence": e.licence,
                "gated": e.gated,
                "run here": e.ran_here,
                **({"notes": list(e.notes)} if as_json else {}),
            }
            for e in registry().values()
        ],
        as_json,
    )


@app.command()
def facts(as_json: Json = False) -> None:
    """List the sources of facts and their relations."""
    from kc_utils.probing.sources import SOURCES, load_source, missing

    rows, absent = [], {}
    for name in SOURCES:
        absent[name] = missing(name)
        if absent[name]:
            columns = ("relation", "wikidata", "type", "n", "answers", "templates")
            rows += [{"facts": name} | dict.fromkeys(columns) | {"missing": absent[name]}] if as_json else []
            continue
        found = load_source(name)
        for relation, items in found.by_relation().items():
            entry = found.relations[relation]
            rows.append(
                {
                    "facts": name,
                    "relation": relation,
                    "wikidata": entry.wikidata,
                    "type": entry.type,
                    "n": len(items),
                    "answers": len(entry.answer_space),
                    "templates": len(entry.templates),
                }
            )
    show(rows, as_json)
    if not as_json:
        print(*(f"{name}: {why}" for name, why in absent.items() if why), sep="\n")


@app.command()
def inspect(model: Annotated[str, typer.Argument(help="A model id, or path:DIR.")], as_json: Json = False) -> None:
    """Count a model's weight matrices by scope."""
    from dataclasses import asdict

    from kc_utils.models.loading import load
    from kc_utils.models.scopes import scopes_of

    show([asdict(row) for row in scopes_of(load(model).model)], as_json)


@app.command("eval")
def evaluate_one(
    model: Annotated[str, typer.Argument(help="A model id of `kc models`, or path:DIR.")],
    recipe: Annotated[str, typer.Option(help="METHOD@SCOPE[=AMOUNT][,key=value] joined by +, or none.")] = "none",
    facts: Annotated[
        str | None, typer.Option(help="A source of `kc facts`; worldfacts unless tasks or a text are given.")
    ] = None,
    relations: Annotated[str | None, typer.Option(help="Only these relations, separated by commas.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="A frozen sample of so many facts, and items of each task.", min=1)
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(help="cloze, rank, openbook, openbook-cloze or generate; consistency is rank in all wordings."),
    ] = "rank",
    templates: Annotated[str, typer.Option(help="How many wordings of each fact, or all.")] = "1",
    alternatives: Annotated[
        str, typer.Option(help="Wrong answers beside the right one in rank and openbook, or all.")
    ] = "9",
    shots: Annotated[int, typer.Option(help="True statements before a question of generate.")] = 0,
    tasks: Annotated[str | None, typer.Option(help="Tasks of LM-HARNESS, such as boolq,piqa,winogrande.")] = None,
    text: Annotated[str | None, typer.Option(help="A text whose perplexity is measured: wikitext2, or a file.")] = None,
    text_tokens: Annotated[int | None, typer.Option(help="How many of its tokens.", min=2)] = None,
    seed: Annotated[int, typer.Option(help="Of samples, wrong answers and what else is drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Compress a model, ask it for facts, and compare it with the uncompressed model on the same facts."""
    from pydantic import ValidationError

    from kc_utils.probing.probe import Probe
    from kc_utils.study.cells import Cell
    from kc_utils.study.grids import explain

    consistent = protocol == "consistency"
    try:
        probe = Probe(
            facts=facts or (None if tasks or text else "worldfacts"),
            relations=relations.split(",") if relations else None,
            limit=limit,
            seed=seed,
            protocols=("rank" if consistent else protocol,),
            templates="all" if consistent else int(templates) if templates.isdigit() else templates,
            alternatives=int(alternatives) if alternatives.isdigit() else alternatives,
            shots=shots,
            tasks=tasks.split(",") if tasks else (),
            task_limit=limit,
            text=text,
            text_tokens=text_tokens,
        )
    except ValidationError as error:
        raise BadRequest(explain(error, Probe)) from error
    cell = Cell.of(model, recipe, probe)
    _ = cell.baseline.key  # unknown facts, tasks and texts are refused before anything is computed
    from kc_utils.stats.evaluation import evaluation
    from kc_utils.study.evaluate import evaluate

    results = evaluate([cell.baseline, cell])
    answer = evaluation(cell, results[cell], results[cell.baseline], consistent)
    if as_json:
        print(as_text(answer))
    else:
        for key, value in answer.items():
            print(f"{key:20} {value:.4f}" if isinstance(value, float) else f"{key:20} {value}")


@app.command("compress")
def compress_one(
    model: Annotated[str, typer.Argument(help="A model id of `kc models`, or path:DIR.")],
    recipe: Annotated[str, typer.Option(help="METHOD@SCOPE[=AMOUNT][,key=value] joined by +.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    form: Annotated[
        str, typer.Option("--format", help="auto, dense, gptq (packed) or library (torchao, bitsandbytes).")
    ] = "auto",
    as_json: Json = False,
) -> None:
    """Write a compressed model as a folder that plain transformers loads, with recipe and report beside the weights."""
    from kc_utils.compression.folder import save_compressed
    from kc_utils.compression.recipe import Recipe
    from kc_utils.models.loading import load
    from kc_utils.study import provenance

    steps = Recipe.parse(recipe)
    made = {"at": provenance.now(), "versions": provenance.versions(provenance.COMPRESSING_PACKAGES)}
    answer = save_compressed(lambda: load(model), steps, out, form, made).to_dict()
    if as_json:
        print(as_text(answer))
        return
    for key, value in answer.items():
        if key not in ("per_matrix", "steps"):
            print(f"{key:24} {value:.6g}" if isinstance(value, float) else f"{key:24} {value}")
    print(out)


@study_app.command("plan")
def study_plan(
    study: StudyName = "laptop",
    gpu: Annotated[
        str | None, typer.Option(help="Instead, cells, disk, memory and hours of each model on a card such as h100.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the cells of a study, which are done, and an estimate for the rest."""
    from kc_utils.study import estimate
    from kc_utils.study.engine import plan
    from kc_utils.study.studyfile import load_study

    if gpu is not None:
        estimate.card(gpu)
        lines = estimate.by_model(load_study(study, fetch=False).cells, gpu)
        show(lines, as_json)
        if not as_json:
            print(estimate.told(lines, gpu))
        return
    rows = plan(load_study(study, fetch=False))
    show(rows, as_json)
    if not as_json:
        left = [r for r in rows if not r["done"]]
        print(
            f"{len(rows)} cells, {len(left)} to compute: about {sum(r['estimate_s'] for r in left) / 60:.0f} min on one core"
        )


@study_app.command("run")
def study_run(study: StudyName = "laptop", cores: Cores = None) -> None:
    """Run what is not done of a study; stop it and start it again as you like."""
    from kc_utils.study.engine import run_study

    done = run_study(study, cores)
    for run in done.runs:
        print(run.output)


@study_app.command("execute", hidden=True)
def study_execute(study: StudyName, run: str) -> None:
    """Execute one run of a study (what Snakemake calls)."""
    from kc_utils.study.engine import execute_run

    execute_run(study, run)


@app.command()
def book(study: StudyName = "laptop", cores: Cores = None) -> None:
    """Run a study, write its pages, build the book, and print where it is and how long each stage took."""
    from kc_utils.report.build import make_book

    index, stages = make_book(study, cores)
    for stage, seconds in stages.items():
        print(f"{stage:28} {seconds:7.1f} s")
    print(index)


@app.command()
def pdf() -> None:
    """Print the pages that `kc book` wrote as one PDF, with Chromium, and say where it is."""
    from kc_utils.places import project_dir
    from kc_utils.report.printing import book_pdf

    print(book_pdf(project_dir()))


lab.register(app)
cli_record.register(app, study_app)


def main() -> None:
    code = None
    try:
        code = app(standalone_mode=False)  # typer returns the exit code of what it caught itself: 130 for Ctrl-C
    except KCError as error:
        print(f"kc: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        os._exit(0)
    except Exception as error:  # click's own complaints about the command line carry their message
        if hasattr(error, "format_message"):
            print(f"kc: {error.format_message()}", file=sys.stderr)
            sys.exit(2)
        raise
    if code == INTERRUPTED:
        print("kc: stopped; finished cells are kept, the same command goes on from there", file=sys.stderr)
    if code:
        sys.exit(code)
