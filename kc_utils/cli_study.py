"""`kc study`: plan, run and share studies."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from kc_utils.cli_shared import Cores, Json, Models, Recipes, StudyName, as_text, show
from kc_utils.errors import BadResult

app = typer.Typer(no_args_is_help=True, help="Plan and run a study file.")

Url = Annotated[str, Argument(help="A folder: s3://BUCKET/FOLDER, gs://..., ssh://HOST/FOLDER, or a path.")]
Profile = Annotated[str | None, Option(help="Run on a cluster: a folder of profiles/ such as slurm, or of one's own.")]
Again = Annotated[bool, Option("--retry-failed", help="Try again what is recorded as failed.")]


@app.command("plan")
def study_plan(
    study: StudyName = "laptop",
    gpu: Annotated[str | None, Option(help="Instead, disk, memory and hours of each model on it: h100, ...")] = None,
    as_json: Json = False,
) -> None:
    """List the evaluations of a study, which are done, and an estimate for the rest."""
    from kc_utils.study import estimate
    from kc_utils.study.engine import plan
    from kc_utils.study.studyfile import load_study

    if gpu is not None:
        estimate.card(gpu)
        lines = estimate.by_model(load_study(study, fetch=False).cells, gpu)
        show(lines, as_json)
        if not as_json:
            print(estimate.in_words(lines, gpu))
        return
    rows = plan(load_study(study, fetch=False))
    show(rows, as_json)
    if not as_json:
        left = [r for r in rows if not r["done"]]
        minutes = sum(r["estimate_s"] for r in left) / 60
        print(f"{len(rows)} evaluations, {len(left)} to compute: about {minutes:.0f} min on one core")


@app.command("run")
def study_run(
    study: StudyName = "laptop",
    cores: Cores = None,
    profile: Profile = None,
    retry_failed: Again = False,
    dry_run: Annotated[bool, Option("--dry-run", "-n", help="Print the jobs and what they need; run nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Run what is not done of a study; stop it and start it again as you like."""
    from kc_utils.study import engine

    how = engine.How(cores, profile, retry_failed)
    if dry_run:
        jobs = engine.dry_run(study, how)
        show(jobs, as_json)
        if not as_json:
            print(f"{len(jobs)} jobs, {sum(job['estimate_s'] for job in jobs) / 3600:.1f} hours of one core, then the notebooks")
        return
    for run in engine.run_study(study, how).runs:
        print(run.output)


@app.command("compute")
def study_compute(
    study: StudyName,
    cores: Cores = None,
    models: Models = None,
    recipes: Recipes = None,
    profile: Profile = None,
    retry_failed: Again = False,
) -> None:
    """Compute the evaluations of a study, each compressed model once, without writing its notebooks."""
    from kc_utils.study import engine
    from kc_utils.study.studyfile import load_study

    how = engine.How(cores, profile, retry_failed)
    done = engine.compute_study(load_study(study), how, models=models or (), recipes=recipes or ())
    for line in done.lines[:20]:
        print(f"kc: {line}", file=sys.stderr)
    if done.failed:
        failed = f"{len(done.failed)} of {done.cells} evaluations of {study}"
        raise BadResult(f"{failed} could not be computed; the others are stored")
    print(f"{done.cells} evaluations of {study}, {done.cells - done.before} of them computed now")


@app.command("push")
def study_push(study: StudyName, url: Url) -> None:
    """Copy the finished evaluations of a study from this machine to a URL. What is whole there is not copied again."""
    from kc_utils.study import sharing

    print(sharing.push(study, url))


@app.command("pull")
def study_pull(study: StudyName, url: Url) -> None:
    """Copy the evaluations of a study that are not finished here from a URL, each checked before it is stored."""
    from kc_utils.study import sharing

    print(sharing.pull(study, url))


@app.command("status")
def study_status(study: StudyName = "laptop", as_json: Json = False) -> None:
    """Count what is done, runs now, waits and has failed of a study, with the reasons, and estimate the rest."""
    from kc_utils.study.engine import status
    from kc_utils.study.studyfile import load_study

    found = status(load_study(study, fetch=False))
    if as_json:
        print(as_text(found))
        return
    counts = ", ".join(f"{found[name]} {name}" for name in ("done", "running", "waiting"))
    hours = found["seconds"] / 3600
    end = f" About {hours / found['jobs']:.1f} hours to the end with {found['jobs']} jobs." if found["jobs"] else ""
    print(f"{found['evaluations']} evaluations: {counts}, {found['failed']} failed.{end}")
    if hours and not found["jobs"]:
        print(f"The rest takes about {hours:.1f} hours of one core: kc study run {study}")
    for line in found["reasons"]:
        print(f"failed: {line}")


@app.command("evaluations", hidden=True)
def study_evaluations(batch: Path) -> None:
    """Compute the evaluations that a file names (what Snakemake calls)."""
    from kc_utils.study.batches import compute_batch
    from kc_utils.study.execution import end_with_parent

    end_with_parent()
    compute_batch(batch)


@app.command("execute", hidden=True)
def study_execute(run: Path) -> None:
    """Execute the notebook that a file names, with the parameters that it holds (what Snakemake calls)."""
    from kc_utils.places import project_dir, write_text
    from kc_utils.study.execution import end_with_parent, execute
    from kc_utils.study.store import failure

    end_with_parent()
    given = json.loads(run.read_text(encoding="utf-8"))
    if failed := [found for key in given["baselines"] if (found := failure(key))]:
        raise BadResult(failed[0]["why"])
    if not (output := Path(given["output"])).is_file():
        execute(project_dir() / "notebooks" / f"{given['notebook']}.ipynb", given["parameters"], output)
    write_text(run.with_suffix(".executed"), "")
