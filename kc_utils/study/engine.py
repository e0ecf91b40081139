"""Run studies: several processes compute the evaluations, then Snakemake executes the notebooks, which find them stored.

Processes share the work one group at a time (a model and a recipe), so that every compressed model is made once. What fails
is reported at the end; the rest goes on. Stopped in any way, the same command goes on from the finished evaluations.
"""

import contextlib
import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from kc_utils.errors import BadResult, KCError
from kc_utils.models.registry import resolve
from kc_utils.places import cores as all_cores
from kc_utils.places import project_dir, results_dir, write_text
from kc_utils.study import estimate, record, store
from kc_utils.study.cells import Cell, chosen, grouped
from kc_utils.study.execution import environment, processes
from kc_utils.study.kernels import warm_kernels
from kc_utils.study.recording import keep_finished
from kc_utils.study.studyfile import Run, Study, load_study

OPERATIONS_A_SECOND = 2e10  # of one core, before anything is measured


def plan(study: Study) -> list[dict]:
    """Return one row per distinct evaluation: run, model, recipe, questions, whether it is done, estimated seconds.

    Seconds are estimated at the rate of what is stored on this machine, or at OPERATIONS_A_SECOND where nothing is.
    """
    first = {cell: run.id for run in reversed(study.runs) for cell in run.cells}
    made = {cell: found["made"] for cell in study.cells if (found := store.about(cell.key))}
    seconds = sum(sum(m["seconds"].values()) for m in made.values())
    rate = sum(map(estimate.operations, made)) / seconds if seconds else OPERATIONS_A_SECOND
    return [
        {
            "run": first[cell],
            "model": cell.model,
            "recipe": cell.recipe,
            "questions": estimate.counts(cell.probe, resolve(cell.model).family)[0],
            "done": (done := cell in made or record.where(cell.key) is not None),
            "estimate_s": 0.0 if done else round(estimate.operations(cell) / rate, 1),
        }
        for cell in study.cells
    ]


class Computed(NamedTuple):
    """cells: of the study, or those that were chosen; before: finished when it began; failed: one line for each that could
    not be computed."""

    cells: int
    before: int
    failed: tuple[str, ...]


def compute_study(study: Study, cores: int | None = None, models: Sequence[str] = (), recipes: Sequence[str] = ()) -> Computed:
    """Compute the evaluations of a study that no store holds.

    models, recipes: ids or patterns such as `lab:*` and `*gptq*`; all of the study's where empty. Raises BadRequest for a
    pattern that fits nothing in the study, BadResult where nothing at all could be computed.
    """
    cells = chosen(study.cells, f"study {study.name}", models, recipes)
    waiting = [cell for cell in cells if not store.has(cell.key)]
    before, failed = len(cells) - len(waiting), []
    if waiting:
        from kc_utils.models.loading import folder_of  # loads torch

        for model in {cell.model: None for cell in waiting}:  # so that parallel evaluations find it ready
            folder_of(resolve(model))
        groups = sorted(grouped(waiting).values(), key=lambda group: -sum(map(estimate.operations, group)))
        cores = cores or all_cores()
        bar = tqdm(total=len(cells), initial=before, desc=study.name, unit="evaluation", file=sys.stderr)
        pool = processes(min(cores, len(groups)), max(1, cores // len(groups)))
        with bar, environment(TQDM_DISABLE="1"), pool:  # one bar counts evaluations
            try:
                for future in as_completed([pool.submit(compute_group, group) for group in groups]):
                    done, lines = future.result()
                    failed += lines
                    bar.update(done)
            finally:
                pool.shutdown(cancel_futures=True)
        if len(failed) == len(waiting):
            raise BadResult(f"none of {len(waiting)} evaluations could be computed; first, {failed[0]}")
    if len(cells) == len(study.cells) and not failed:
        keep_finished(study)
    return Computed(len(cells), before, tuple(failed))


def compute_group(group: list[Cell]) -> tuple[int, list[str]]:
    """Compute evaluations of one model and recipe. Returns how many, and one line for each that failed."""
    made, failed = store.CompressedModels(), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scores that are not numbers, as rows show
        for cell in group:
            try:
                store.compute_once(cell, made)
            except KCError as error:
                named = "" if str(error).startswith(cell.model) else f"{cell.model}, {cell.recipe}: "
                failed.append(f"{named}{error}")
    return len(group) - len(failed), failed


def run_study(name: str, cores: int | None = None) -> Study:
    """Compute and execute everything of a study that is not done. Raises BadResult with the first error of the runs."""
    study = load_study(name)
    try:
        done = compute_study(study, cores)
    except BadResult as error:
        raise BadResult(f"study {study.name}: {error}") from error
    waiting = [run for run in study.runs if not run.output.is_file()]
    ready = [run for run in waiting if not done.failed or all(store.has(cell.key) for cell in run.cells)]
    if ready:
        log = _snakemake(study, ready, cores or all_cores())
        if left := [run for run in ready if not run.output.is_file()]:
            own = left[0].output.with_suffix(".log")
            why = own.read_text(encoding="utf-8").rpartition("kc: ")[2].strip() if own.is_file() else f"see {log}"
            raise BadResult(f"{len(left)} of {len(study.runs)} runs failed; first, {left[0].id}: {why}")
    if done.failed:
        failed = f"{len(done.failed)} of {done.cells} evaluations of {study.name} failed"
        raise BadResult(f"{failed}; first, {done.failed[0]}")
    return study


def _snakemake(study: Study, runs: list[Run], cores: int) -> Path:
    """Execute the notebooks of these runs, and return the log."""
    log_file = results_dir() / "logs" / f"{study.name}.log"
    for run in runs:
        given = {"notebook": run.template, "parameters": run.plan.values}
        write_text(run.output.with_suffix(".json"), json.dumps(given, indent=1))
        run.output.with_suffix(".log").unlink(missing_ok=True)
    folder, outputs = project_dir(), [str(run.output) for run in runs]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(folder / "Snakefile"), "--directory", str(folder)]
    command += ["--cores", str(cores), "--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "--keep-going"]
    command += ["--quiet", "all", "--", *outputs]
    write_text(log_file, "")  # refused here where the disk is full
    log = log_file.open("w", encoding="utf-8")
    bar = tqdm(total=len(runs), unit="notebook", desc="notebooks", file=sys.stderr)
    with log, bar, warm_kernels(), subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process:
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
                bar.update(sum(run.output.is_file() for run in runs) - bar.n)
        finally:
            process.terminate()
    return log_file
