"""Run studies: Snakemake computes batches of evaluations, then executes the notebooks, which find them stored.

What fails for a reason of its model or recipe is recorded with that reason, and the rest goes on. Stopped in any way, the same
command goes on from the finished evaluations. Where a profile says so, jobs run on a cluster that shares this folder.
"""

import json
import math
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml

from kc_utils.errors import BadRequest, BadResult, KCError, MissingData, listed
from kc_utils.models.registry import resolve
from kc_utils.places import cores as all_cores
from kc_utils.places import disk_message, project_dir, results_dir, write_text
from kc_utils.study import batches, estimate, store
from kc_utils.study.cells import Cell, chosen
from kc_utils.study.execution import snakemake
from kc_utils.study.forks import warm_server
from kc_utils.study.progress import Progress, Work
from kc_utils.study.recording import keep_finished
from kc_utils.study.studyfile import Run, Study, load_study


def plan(study: Study) -> list[dict]:
    """Return one row per distinct evaluation: run, model, recipe, questions, whether it is done, estimated seconds.

    Seconds are of one core, corrected by what is stored on this machine.
    """
    first = {cell: run.id for run in reversed(study.runs) for cell in run.cells}
    work = Work(study.cells)
    left = set(work.left())
    return [
        {
            "run": first[cell],
            "model": cell.model,
            "recipe": cell.recipe,
            "questions": estimate.counts(cell.probe, resolve(cell.model).family)[0],
            "done": cell not in left,
            "estimate_s": round(work.seconds([cell]), 1) if cell in left else 0.0,
        }
        for cell in study.cells
    ]


def status(study: Study) -> dict:
    """Return how far a study is: evaluations, done, running, waiting, failed and why, seconds of one core to the end, and
    jobs that run now."""
    work = Work(study.cells)
    failed = {cell: found["why"] for cell in study.cells if (found := store.failure(cell.key))}
    waiting = [cell for cell in work.left() if cell not in failed]
    alive = [file for file in _folder(study).glob("*/*.running") if time.time() - file.stat().st_mtime < 3 * batches.BEAT_S]
    jobs = [json.loads(file.with_suffix(".json").read_text(encoding="utf-8")) for file in alive]
    held = {(e["model"], e["recipe"], json.dumps(e["probe"])) for job in jobs for e in job["evaluations"]}
    running = sum((c.model, c.recipe, json.dumps(c.probe.model_dump(mode="json"))) in held for c in waiting)
    return {
        "evaluations": len(study.cells),
        "done": len(study.cells) - len(waiting) - len(failed),
        "running": running,
        "waiting": len(waiting) - running,
        "failed": len(failed),
        "reasons": in_lines(failed),
        "seconds": round(work.seconds(waiting), 1),
        "jobs": len(jobs),
    }


class Settings(NamedTuple):
    """jobs: at a time; recipes: in a batch of a large model, None where the batch takes a share; here: whether jobs run on this
    machine; memory: of all of them, MB; options: of Snakemake."""

    jobs: int
    recipes: int | None
    here: bool
    memory: float
    options: list[str]


class How(NamedTuple):
    """cores: of this machine, all by default; profile: a folder of `profiles/`, or of one's own; again: whether to try again
    what is recorded as failed."""

    cores: int | None = None
    profile: str | None = None
    again: bool = False

    @property
    def folder(self) -> Path:
        """The profile's folder. Raises BadRequest where it holds no profile."""
        known = project_dir() / "profiles"
        folder = next((f for f in (known / self.profile, Path(self.profile)) if (f / "config.yaml").is_file()), None)
        if folder is None:
            names = sorted(f.parent.name for f in known.glob("*/config.yaml"))
            raise BadRequest(f"no profile {self.profile!r}: choose {listed(names)}, or name a folder with a config.yaml")
        return folder.absolute()

    @property
    def settings(self) -> Settings:
        """Raises BadRequest for a profile whose plugin of Snakemake is not installed."""
        if self.profile is None:
            import torch

            cores, gpus, memory = self.cores or all_cores(), torch.cuda.device_count(), psutil.virtual_memory().total >> 20
            limits = ["--resources", f"mem_mb={memory}", f"gpu={gpus}", "--config", f"memory={memory}", f"gpus={gpus}"]
            return Settings(cores, None, True, memory, ["--cores", str(cores), *limits])
        written = yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))
        plugin = f"snakemake-executor-plugin-{written.get('executor', 'local')}"
        here = plugin.endswith("-local")
        if not here and find_spec(plugin.replace("-", "_")) is None:
            raise BadRequest(f"profile {self.profile!r} needs {plugin}: pip install -c constraints.txt -e '.[cluster]'")
        config = dict(pair.split("=") for pair in written.get("config", ()))
        jobs, recipes = int(written.get("jobs") or written.get("cores") or 1), int(config.get("batch", 0)) or None
        return Settings(jobs, recipes, here, math.inf, ["--profile", str(self.folder)])


HERE = How()


class Computed(NamedTuple):
    """cells: of the study, or those that were chosen; before: finished when it began; failed: why some were not computed;
    stopped: why notebooks were not executed, by run."""

    cells: int
    before: int
    failed: dict[Cell, str]
    stopped: dict[str, str]

    @property
    def lines(self) -> list[str]:
        """One line for each model and reason."""
        return in_lines(self.failed)


def in_lines(failed: Mapping[Cell, str]) -> list[str]:
    """State why evaluations failed, one line for each model and reason."""
    recipes: dict[tuple[str, str], dict[str, None]] = {}
    for cell, why in failed.items():
        why = why.removeprefix(f"{cell.model}, {cell.recipe}: ")
        recipes.setdefault((cell.model, why), {})[cell.recipe] = None
    return [f"{model}, {listed(names, 3)}: {why}" for (model, why), names in recipes.items()]


def compute_study(study: Study, how: How = HERE, models: Sequence[str] = (), recipes: Sequence[str] = ()) -> Computed:
    """Compute the evaluations of a study that no store holds.

    models, recipes: ids or patterns such as `lab:*` and `*gptq*`; all of the study's where empty. Raises BadRequest for a
    pattern that fits nothing in the study, BadResult where nothing at all could be computed.
    """
    cells = chosen(study.cells, f"study {study.name}", models, recipes)
    return _made(study, cells, (), how)


def run_study(name: str, how: How = HERE) -> Study:
    """Compute and execute everything of a study that is not done. Raises BadResult with the first error of the runs.

    Evaluations that fail for a reason of their model or recipe are named on standard error, and on the pages: they do not end
    it as long as their notebook has others.
    """
    study = load_study(name)
    runs = [run for run in study.runs if not run.output.is_file()]
    early = warm_server(wait=False) if runs and how.profile is None else nullcontext()  # it imports while this process plans
    try:
        with early:
            done = _made(study, study.cells, runs, how)
    except BadResult as error:
        raise BadResult(f"study {study.name}: {error}") from error
    for line in done.lines[:20]:
        print(f"kc: {line}", file=sys.stderr)
    if left := [run for run in study.runs if not run.output.is_file()]:
        why = done.stopped.get(left[0].id) or next(iter(done.lines), f"see {_log(study)}")
        raise BadResult(f"{len(left)} of {len(study.runs)} runs failed; first, {left[0].id}: {why}")
    return study


def dry_run(name: str, how: How) -> list[dict]:
    """Return the jobs of a study that are left, with what they need of a machine, and let Snakemake check them.

    Nothing is computed or fetched. Raises BadResult where Snakemake refuses them.
    """
    study, settings = load_study(name, fetch=False), how.settings
    work, runs = Work(study.cells), [run for run in study.runs if not run.output.is_file()]
    with _described(study, work, work.left(), runs, settings) as (jobs, _, targets):
        options, log = [*settings.options, "--dry-run"], _log(study)
        if targets and snakemake(targets, log, options, lambda: 1.0):
            raise BadResult(f"Snakemake refuses these jobs: see {log}")
        return [
            {
                "job": file.stem,
                "models": listed(job["models"], 3),
                "evaluations": len(job["evaluations"]),
                "estimate_s": job["seconds"],
                **{name: job[name] for name in ("threads", "mem_mb", "runtime", "gpu")},
            }
            for file, job in jobs.items()
        ]


def _made(study: Study, cells: Sequence[Cell], runs: Sequence[Run], how: How) -> Computed:
    """Let Snakemake compute what is missing of these evaluations, and execute these runs."""
    work, failed, stopped = Work(cells), {}, {}
    waiting = work.left()
    for cell in waiting:
        if how.again:
            store.forget_failure(cell.key)
        elif found := store.failure(cell.key):
            failed[cell] = found["why"]
    absent = _absent({cell.model for cell in waiting if cell not in failed})
    failed |= {cell: absent[cell.model] for cell in waiting if cell.model in absent}
    left, ready = [c for c in waiting if c not in failed], [r for r in runs if not absent.keys() & set(r.plan.models)]
    if left or ready:
        settings = how.settings
        warm = warm_server(wait=False) if settings.here else nullcontext()
        with _described(study, work, left, ready, settings) as (jobs, notebooks, targets), warm:
            outputs = [run.output for run in ready]
            with Progress(study.name, work, left, outputs, settings.jobs, settings.here) as progress:
                snakemake(targets, _log(study), settings.options, progress.look)
            for cell, file in [(cell, file) for file, job in jobs.items() for cell in job["cells"] if not store.has(cell.key)]:
                failed[cell] = found["why"] if (found := store.failure(cell.key)) else _why(file)
            stopped = {run.id: _why(file) for file, run in notebooks.items() if not run.output.is_file()}
    if len(cells) == len(study.cells):
        keep_finished(study)
    if failed and len(failed) == len(cells):
        raise BadResult(f"none of {len(cells)} evaluations could be computed; first, {in_lines(failed)[0]}")
    return Computed(len(cells), len(cells) - len(waiting), failed, stopped)


@contextmanager
def _described(
    study: Study, work: Work, cells: Sequence[Cell], runs: Sequence[Run], settings: Settings
) -> Iterator[tuple[dict[Path, dict], dict[Path, Run], list[Path]]]:
    """Write the files that Snakemake's jobs begin with, in a folder of their own, so that engines do not meet. Yield batches
    and runs by file, and what Snakemake is to make."""
    jobs, packed = {}, batches.packed(cells, settings.jobs, settings.recipes)
    store.remove_leftovers()
    try:
        _folder(study).mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=_folder(study)))
    except OSError as error:
        raise MissingData(disk_message(_folder(study), error)) from error
    try:
        for number, batch in enumerate(packed, 1):
            file = folder / f"{number:04}-{re.sub(r'[^a-z0-9.]+', '-', batch[0].model.lower())[-40:]}.json"
            job = batches.described(batch, settings.jobs, settings.memory, work.speed(batch[0].model))
            write_text(file, json.dumps(job))
            jobs[file] = job | {"cells": batch}
        made_by = {cell: file for file, job in jobs.items() for cell in job["cells"]}
        notebooks = {folder / f"{run.id}.json": run for run in runs}
        for file, run in notebooks.items():
            needs = {str(made_by[cell].with_suffix(".done")) for cell in run.cells if cell in made_by}
            given = {"notebook": run.template, "parameters": run.plan.values, "output": str(run.output), "needs": sorted(needs)}
            given["baselines"] = [cell.key for cell in run.cells if cell.recipe == "none"]
            write_text(file, json.dumps(given))
        targets = [*(file.with_suffix(".done") for file in jobs), *(file.with_suffix(".executed") for file in notebooks)]
        yield jobs, notebooks, targets
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _absent(models: Iterable[str]) -> dict[str, str]:
    """Have these models on this machine, so that no job has to fetch one; return why some are not to be had."""
    absent = {}
    for model in models:
        from kc_utils.models.loading import folder_of  # loads torch

        try:
            folder_of(resolve(model))
        except KCError as error:
            absent[model] = str(error)
    return absent


def _why(file: Path) -> str:
    """Why a job left its work unfinished: its last words."""
    log = file.with_suffix(".log")
    words = log.read_text(encoding="utf-8").rpartition("kc: ")[2].strip() if log.is_file() else ""
    return words or "its job was killed, or never began"


def _folder(study: Study) -> Path:
    return results_dir() / "batches" / study.name


def _log(study: Study) -> Path:
    return results_dir() / "logs" / f"{study.name}.log"
