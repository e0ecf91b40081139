"""`kc`: the study from the command line. Errors a user can act on are one line on standard error."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

import kc_utils as kc
from kc_utils import cli_study, lab
from kc_utils.cli_shared import Cores, Json, Models, Recipes, StudyName, answer_of, as_text, show, show_answer
from kc_utils.errors import KCError

ABOUT = "What compression does to the facts in a language model's weights."
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=ABOUT)
app.add_typer(cli_study.app, name="study")

INTERRUPTED = 130
PROTOCOLS = "cloze, rank, rank-other, openbook, openbook-cloze or generate; consistency is rank by every template."
FORMATS = "auto, dense, gptq (packed) or library (torchao, bitsandbytes)."
Model = Annotated[str, Argument(help="A model id of `kc models`, or path:DIR.")]
Recipe = Annotated[str, Option(help="METHOD@SCOPE[=AMOUNT][,key=value] joined by +, or none.")]


@app.command()
def models(as_json: Json = False) -> None:
    """List the models that can be named."""
    from kc_utils.models.registry import registry

    shown = {"model": "id", **{n: n for n in ("group", "family", "source", "revision", "licence", "gated")}}
    shown |= {"run here": "ran_here"} | ({"notes": "notes"} if as_json else {})
    show([{name: getattr(e, field) for name, field in shown.items()} for e in registry().values()], as_json)


@app.command()
def facts(as_json: Json = False) -> None:
    """List the sources of facts and their relations."""
    from kc_utils.probing.sources import SOURCES, load_source, missing

    rows, absent = [], {name: missing(name) for name in SOURCES}
    columns = ("facts", "relation", "wikidata", "type", "n", "answers", "templates")
    for name, why in absent.items():
        if why:
            rows += [dict.fromkeys(columns) | {"facts": name, "missing": why}] if as_json else []
            continue
        found = load_source(name)
        for relation, items in found.by_relation().items():
            r = found.relations[relation]
            values = (name, relation, r.wikidata, r.type, len(items), len(r.answer_space), len(r.templates))
            rows.append(dict(zip(columns, values, strict=True)))
    show(rows, as_json)
    if not as_json:
        print(*(f"{name}: {why}" for name, why in absent.items() if why), sep="\n")


@app.command()
def inspect(model: Model, as_json: Json = False) -> None:
    """Count a model's weight matrices by scope."""
    show(kc.scopes(kc.load(model)).to_dict("records"), as_json)


@app.command()
def complete(
    model: Model,
    prompt: Annotated[str, Argument(help="A statement up to its gap, or with [MASK] where an answer belongs.")],
    recipe: Recipe = "none",
    top: Annotated[int, Option(help="How many of the likeliest pieces.", min=1)] = 5,
    as_json: Json = False,
) -> None:
    """Show the likeliest next pieces of a prompt, after compressing the model if a recipe is given."""
    from kc_utils.compression.recipe import Recipe as Steps

    steps = Steps.parse(recipe)  # refused before the model is loaded
    lm = kc.load(model)
    table = kc.complete(kc.compress(lm, str(steps)) if steps.steps else lm, prompt, top=top)
    show(table.to_dict("records"), as_json)


@app.command("eval")
def evaluate_one(
    model: Model,
    recipe: Recipe = "none",
    facts: Annotated[str | None, Option(help="A source of `kc facts`; worldfacts without tasks and text.")] = None,
    relations: Annotated[str | None, Option(help="Only these relations, separated by commas.")] = None,
    limit: Annotated[int | None, Option(help="Size of a frozen sample of facts, and of each task.", min=1)] = None,
    protocol: Annotated[str, Option(help=PROTOCOLS)] = "rank",
    templates: Annotated[str, Option(help="Number of prompt templates of each fact, or all.")] = "1",
    alternatives: Annotated[str, Option(help="Wrong answers beside the right one in rank and openbook, or all.")] = "9",
    candidates: Annotated[str, Option(help="Wrong answers drawn, or the answers of balanced sets of facts.")] = "drawn",
    shots: Annotated[int, Option(help="True statements before a query of cloze, rank or generate.")] = 0,
    tasks: Annotated[str | None, Option(help="Tasks of LM-HARNESS, such as boolq,piqa,winogrande.")] = None,
    text: Annotated[str | None, Option(help="A text whose perplexity is measured: wikitext2, or a file.")] = None,
    text_tokens: Annotated[int | None, Option(help="How many of its tokens.", min=2)] = None,
    seed: Annotated[int, Option(help="Of samples, wrong answers and what else is drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Compress a model, evaluate it, and compare it with the uncompressed model on the same facts."""
    consistent, number = protocol == "consistency", lambda text: int(text) if text.isdigit() else text
    rows = kc.evaluate(
        model,
        recipe,
        facts=facts or (None if tasks or text else "worldfacts"),
        relations=relations.split(",") if relations else None,
        protocols=["rank" if consistent else protocol],
        templates="all" if consistent else number(templates),
        alternatives=number(alternatives),
        tasks=tasks.split(",") if tasks else (),
        candidates=candidates,
        **{"limit": limit, "task_limit": limit, "seed": seed, "shots": shots, "text": text, "text_tokens": text_tokens},
    )
    show_answer(answer_of(rows, consistent), as_json)


@app.command("compress")
def compress_one(
    model: Model,
    recipe: Recipe,
    out: Annotated[Path, Option(help="A new folder.")],
    form: Annotated[str, Option("--format", help=FORMATS)] = "auto",
    as_json: Json = False,
) -> None:
    """Write a compressed model as a folder that plain transformers loads, with recipe and report beside the weights."""
    from kc_utils.compression.folder import save_compressed
    from kc_utils.compression.recipe import Recipe as Steps
    from kc_utils.study import provenance

    made = {"at": provenance.now(), "versions": provenance.versions(provenance.COMPRESSING_PACKAGES)}
    answer = save_compressed(lambda: kc.load(model), Steps.parse(recipe), out, form, made)
    hidden = () if as_json else ("per_matrix", "steps")
    show_answer({key: value for key, value in answer.items() if key not in hidden}, as_json)
    if not as_json:
        print(out)


@app.command()
def record(study: StudyName, as_json: Json = False) -> None:
    """Copy the finished evaluations of a study into results/reference/, the rows that are published with the code."""
    from kc_utils.study.recording import record_study
    from kc_utils.study.studyfile import load_study

    done = record_study(load_study(study, fetch=False))
    if as_json:
        print(as_text(done._asdict()))
        return
    size = f"the record of {study} takes {done.bytes / 1e6:.2f} MB"
    print(f"{done.cells} evaluations of {done.of} written to {done.files} files; {size}")
    if done.unfinished:
        print(f"{done.unfinished} evaluations are not finished: kc study compute {study}")
    if done.dropped:
        print(f"{done.dropped} evaluations recorded by other code gave way")
    for name in done.alone:
        print(f"{name} is left out: its uncompressed model is not finished")


@app.command()
def verify(
    study: Annotated[str, Option(help="A study that has results of record.")] = "benchmarks",
    sample: Annotated[int, Option(help="How many evaluations are computed again.", min=1)] = 20,
    seed: Annotated[int, Option(help="Of the sample.")] = 0,
    models: Models = None,
    recipes: Recipes = None,
    as_json: Json = False,
) -> None:
    """Compute a sample of the recorded evaluations again and report which reproduce, answer by answer or in distribution."""
    from kc_utils.study import verify as verifying

    checks = verifying.verify(study, sample, seed, models or (), recipes or ())
    lines = [check.to_dict() for check in checks]
    show(lines if as_json else [{name: line[name] for name in verifying.SHOWN} for line in lines], as_json)
    summary = verifying.summary(checks)
    if not as_json:
        print(summary)


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
    """Print the pages that `kc book` wrote as one PDF, with Chromium, and print where it is."""
    from kc_utils.places import project_dir
    from kc_utils.report.printing import book_pdf

    print(book_pdf(project_dir()))


lab.register(app)


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what ends a command in order, as Ctrl-C does
    try:
        code = app(standalone_mode=False)  # typer returns the exit code of what it caught itself: 130 for Ctrl-C
    except KCError as error:
        print(f"kc: {error}", file=sys.stderr)
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        os._exit(0)
    except Exception as error:  # click's own complaints about the command line carry their message
        if not hasattr(error, "format_message"):
            raise
        print(f"kc: {error.format_message()}", file=sys.stderr)
        code = 2
    if code == INTERRUPTED:
        print("kc: stopped; finished evaluations are kept, the same command goes on from there", file=sys.stderr)
    if code:
        sys.exit(code)
