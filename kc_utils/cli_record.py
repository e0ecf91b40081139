"""The commands of `kc` about results of record: compute the evaluations of a study, record them, verify the record."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kc_utils.cli_shared import Cores, Json, StudyName, as_text, show
from kc_utils.errors import BadResult

Models = Annotated[
    list[str] | None, typer.Option(help="Only models of this id or pattern, such as 'lab:*'; may be repeated.")
]


def compute(
    study: StudyName,
    cores: Cores = None,
    models: Models = None,
    recipes: Annotated[
        list[str] | None, typer.Option(help="Only recipes of this pattern, such as '*gptq*'; may be repeated.")
    ] = None,
) -> None:
    """Compute the evaluations of a study, each compressed model once, without writing its notebooks."""
    from kc_utils.study.engine import compute_study
    from kc_utils.study.studyfile import load_study

    done = compute_study(load_study(study), cores, models=models or (), recipes=recipes or ())
    for line in done.failed[:20]:
        print(f"kc: {line}", file=sys.stderr)
    if done.failed:
        raise BadResult(
            f"{len(done.failed)} of {done.cells} evaluations of {study} could not be computed; the others are stored"
        )
    print(f"{done.cells} evaluations of {study}, {done.cells - done.before} of them computed now")


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


def verify(
    study: Annotated[str, typer.Option(help="A study that has results of record.")] = "benchmarks",
    sample: Annotated[int, typer.Option(help="How many evaluations are computed again.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    models: Models = None,
    as_json: Json = False,
) -> None:
    """Compute a sample of the recorded evaluations again and report which reproduce, answer by answer or in distribution."""
    from kc_utils.study.verify import BY_ANSWER, failures, summary
    from kc_utils.study.verify import verify as verified

    checks = verified(study, sample, seed, models=models or ())
    if as_json:
        print(as_text([check.to_dict() for check in checks], indent=1))
    else:
        show(
            [
                {
                    "model": c.model,
                    "recipe": c.recipe,
                    "facts": c.facts,
                    "n": c.n,
                    "answers turned": f"{c.turned} (up to {c.turned_allowed})",
                    "typical, largest difference": f"{c.typical:.4f}, {c.largest:.4f} nats",
                    "same code": "yes" if c.same_code else "no",
                    "seconds": c.seconds,
                    "agrees": c.agreement if c.agreement == BY_ANSWER else f"{c.agreement}: {c.why}",
                }
                for c in checks
            ],
            False,
        )
    if problem := failures(checks):
        raise BadResult(problem)
    if not as_json:
        print(summary(checks))


def register(app: typer.Typer, study_app: typer.Typer) -> None:
    app.command()(record)
    app.command()(verify)
    study_app.command("compute")(compute)
