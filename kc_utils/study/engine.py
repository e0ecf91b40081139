"""Running a study: Snakemake starts the runs, this module plans them and shows how far they are."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path

from tqdm.auto import tqdm

from kc_utils import places
from kc_utils.errors import BadResult, KCError, MissingData
from kc_utils.probing.probe import Probe
from kc_utils.probing.questions import wordings
from kc_utils.places import disk_message, project_dir, results_dir, write_text
from kc_utils.study import store
from kc_utils.study.cells import Cell
from kc_utils.study.estimate import ITEMS_OF_A_TASK, TOKENS_OF_A_TEXT
from kc_utils.study.notebooks import execute
from kc_utils.study.studyfile import Study, load_study

PROMPTS_OF_AN_ITEM, TOKENS_OF_A_QUESTION = 4, 15  # for a first estimate of tasks and texts, in questions about facts
POLL_SECONDS = 1.0
SECONDS_PER_QUESTION = 0.02  # of 100 M parameters on one core: a first estimate, before anything is measured


def plan(study: Study) -> list[dict]:
    """One row per distinct cell: run, model, recipe, questions asked, whether it is done, estimated seconds."""
    seen: dict[Cell, str] = {}
    for run in study.runs:
        for cell in run.cells:
            seen.setdefault(cell, run.id)
    fresh = store.is_empty()
    measured = {} if fresh else _measured_seconds(seen)
    rows = []
    for cell, run_id in seen.items():
        questions = _questions(cell.probe)
        done = not fresh and store.has(cell.key)
        rows.append(
            {
                "run": run_id,
                "model": cell.model,
                "recipe": cell.recipe,
                "questions": questions,
                "done": done,
                "estimate_s": 0.0 if done else round(questions * measured.get(cell.model, SECONDS_PER_QUESTION), 1),
            }
        )
    return rows


@lru_cache(maxsize=256)
def _questions(probe: Probe) -> int:
    facts, wanted = probe.factset(), probe.templates
    asked = (len(wordings(facts, f)) if wanted == "all" else min(wanted, len(wordings(facts, f))) for f in facts.facts)
    items = len(probe.tasks) * (probe.task_limit or ITEMS_OF_A_TASK) * PROMPTS_OF_AN_ITEM
    windows = 0 if probe.text is None else (probe.text_tokens or TOKENS_OF_A_TEXT) // TOKENS_OF_A_QUESTION
    return sum(asked) * len(probe.protocols) + items + windows


def _measured_seconds(cells: dict[Cell, str]) -> dict[str, float]:
    """Seconds per question of each model, from its cells that are stored already."""
    spent: dict[str, list[float]] = {}
    for cell in cells:
        made = store.made(cell.key)
        if made is not None:
            spent.setdefault(cell.model, []).append(sum(made["seconds"].values()) / _questions(cell.probe))
    return {model: sum(values) / len(values) for model, values in spent.items()}


def run_study(name: str, cores: int | None = None, show_progress: bool = True) -> Study:
    """Run everything of a study that is not done. Stopping it in any way and starting it again loses no finished cell.

    Raises BadResult with the first error of the runs.
    """
    study = load_study(name)
    cores = cores or places.cores()
    if all(run.output.is_file() for run in study.runs):
        _restore_lost(study)
        return study
    waiting = {c.key for c in study.cells if not store.has(c.key)}
    prepare_models(study)
    log_file = results_dir() / "logs" / f"{study.name}.log"
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(project_dir() / "Snakefile"),
        "--cores",
        str(cores),
        "--config",
        f"study={name}",
        "--directory",
        str(project_dir()),
        "--nolock",
        "--rerun-incomplete",
        "--rerun-triggers",
        "mtime",
        "--keep-going",
        "--quiet",
        "all",
    ]
    try:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log = log_file.open("w", encoding="utf-8")
    except OSError as error:
        raise MissingData(disk_message(log_file, error)) from error
    with (
        log,
        tqdm(
            total=len(study.cells),
            initial=len(study.cells) - len(waiting),
            unit="cell",
            desc=f"study {name}",
            disable=not show_progress,
            file=sys.stderr,
            mininterval=POLL_SECONDS,
        ) as bar,
    ):
        told = False
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                finished = {key for key in waiting if (store.folder_of(key) / "cell.json").is_file()}
                waiting -= finished
                if finished:
                    bar.update(len(finished))
                elif not waiting and not told:
                    told = True
                    bar.set_postfix_str("writing the notebooks")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        bar.update(len({key for key in waiting if store.has(key)}))
    missing = [run for run in study.runs if not run.output.is_file()]
    if missing:
        raise BadResult(f"{len(missing)} of {len(study.runs)} runs failed; first, {_why(missing[0].output, log_file)}")
    _restore_lost(study)
    return study


def _restore_lost(study: Study) -> None:
    """Compute again the cells whose notebook is there and whose rows are not: deleted or damaged since."""
    lost = [cell for cell in study.cells if not store.has(cell.key)]
    if lost:
        from kc_utils.study.evaluate import evaluate  # loads torch, which a finished study does not need

        evaluate(lost)


def prepare_models(study: Study) -> None:
    """Fetch and convert every model before the first run, so that parallel runs find it ready."""
    from kc_utils.models.loading import folder_of
    from kc_utils.models.registry import resolve

    for model in dict.fromkeys(model for run in study.runs for model in run.parameters.asked_models):
        folder_of(resolve(model))


def error_file(output: Path) -> Path:
    return output.with_suffix(".error.txt")


def _why(output: Path, log_file: Path) -> str:
    if error_file(output).is_file():
        return error_file(output).read_text(encoding="utf-8").strip()
    return f"{output.stem}: see {log_file}"


def execute_run(name: str, run_id: str) -> None:
    """Execute one run's notebook. What stopped it is written beside its output for `run_study` to tell."""
    run = load_study(name).run(run_id)
    if run.output.is_file():
        return
    report = error_file(run.output)
    report.unlink(missing_ok=True)
    try:
        execute(run.template, run.values, run.output)
    except KCError as error:
        write_text(report, f"{run.id}: {error}\n")
        raise
