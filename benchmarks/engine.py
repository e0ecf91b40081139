"""The engine against what it cannot beat: a plain pool of processes, the time that planning may take, and a lower bound.

    .venv/bin/python benchmarks/engine.py pool [STUDY] [--models lab:*] [--recipes ...]   the same evaluations both ways, in turn
    .venv/bin/python benchmarks/engine.py plan [--evaluations 100000]                     to plan many, and to find them done
    .venv/bin/python benchmarks/engine.py slurm [STUDY] [--slots 2] [--batch 6] [--models ...] [--recipes ...]  on one node
    .venv/bin/python benchmarks/engine.py slots [STUDY] [--slots 64] [--second 0.002]     jobs that sleep, against the bound

`slurm` starts a cluster of one node on this machine (Debian's slurm-wlm) and gives it the batches, of so many recipes of a large
model; its efficiency is the time that evaluations took by the time of all slots. `slots` lets Snakemake's own scheduler start the
batches of a study, by default the paper's, on so many slots; each sleeps what it is expected to take, a second of which lasts
`--second`. Results go to standard output; `pool` and `slurm` compute in scratch folders.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from kc_utils.places import cores
from kc_utils.probing.probe import Probe
from kc_utils.study import batches, engine, estimate, store
from kc_utils.study.cells import Cell, chosen, grouped
from kc_utils.study.progress import Work
from kc_utils.study.studyfile import Study, load_study

ROOT = Path(__file__).resolve().parents[1]
SLEEPING = """
import json

def given(name):
    return lambda wildcards: json.load(open(wildcards.batch + ".json"))[name]

rule evaluations:
    input: "{batch}.json"
    output: "{batch}.done"
    priority: given("nap")
    resources: nap=given("nap")
    shell: "sleep {resources.nap}; touch {output:q}"
"""


def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def by_pool(cells: list[Cell]) -> None:
    """Compute evaluations in as many processes as there are cores, the longest groups of one model and recipe first."""
    groups = sorted(grouped(cells).values(), key=lambda group: -sum(estimate.seconds(group)))
    with ProcessPoolExecutor(cores(), mp_context=get_context("spawn"), initializer=one_thread) as pool:
        assert not any(pool.map(batches.compute_group, groups))


def by_engine(study: Study, models: list[str], recipes: list[str]) -> None:
    done = engine.compute_study(study, models=models, recipes=recipes)
    assert not done.failed and not done.before, done


def pool(name: str, models: list[str], recipes: list[str], rounds: int) -> None:
    study = load_study(name)
    cells = chosen(study.cells, name, models, recipes)
    ways = {"pool": lambda: by_pool(cells), "engine": lambda: by_engine(study, models, recipes)}
    print(f"{len(cells)} evaluations of {name} on {cores()} cores, {rounds} rounds")
    spent = {way: [] for way in ways}
    for number in range(rounds):
        for way in sorted(ways, reverse=number % 2 == 1):
            with tempfile.TemporaryDirectory() as folder:
                os.environ["KC_RESULTS"] = folder
                begin = time.perf_counter()
                ways[way]()
                spent[way].append(time.perf_counter() - begin)
                assert all(store.about(cell.key) for cell in cells)
            print(f"{way}: {spent[way][-1]:.1f} s", flush=True)
    print(f"engine / pool: {sum(spent['engine']) / sum(spent['pool']):.3f}")


def plan(many: int) -> None:
    """Plan evaluations of a made-up grid as the engine does before Snakemake begins, and once more when all are done."""
    models = [f"lab:{family}-small-s{seed}" for family in ("encoder", "encoder-decoder", "decoder") for seed in (1, 2, 3)]
    probe, each = Probe(facts="lab", limit=50, protocols=["cloze"]), -(-many // len(models))
    made = lambda: [Cell(m, f"magnitude@all={i / (each + 1):.6f}", probe) for m in models for i in range(1, each + 1)]  # noqa: E731
    estimate.memory_mb(models[0]), made()[0].key  # libraries are imported, which every command pays once
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KC_RESULTS"] = folder
        begin, cells = time.perf_counter(), made()
        study = Study("many", "", "", ())
        work = Work(cells)
        waiting = [cell for cell in work.left() if not store.failure(cell.key)]
        with engine._described(study, work, waiting, [], engine.HERE.settings) as (jobs, *_):
            planned = time.perf_counter() - begin
        print(f"{len(cells):,} evaluations in {len(jobs)} batches: planned in {planned:.1f} s")
        marker = {"made": {"seconds": {"probe": 0.1}, "threads": 1}, "report": {}}
        for cell in cells:
            file = store.folder_of(cell.key)
            file.mkdir(parents=True)
            (file / store.ROWS).write_bytes(b"")
            (file / store.MARKER).write_text(json.dumps(marker | {"rows_sha256": EMPTY}))
        begin, cells = time.perf_counter(), made()
        assert not Work(cells).left()
        print(f"found done in {time.perf_counter() - begin:.1f} s")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB at most")


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def slurm(name: str, models: list[str], recipes: list[str], many: int, batch: int) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.study.slurm_node import Node

    study = load_study(name)
    cells = chosen(study.cells, name, models, recipes)
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder) / "slurm", many)
        os.environ |= node.environment | {"KC_RESULTS": str(Path(folder) / "results")}
        while node.state != "idle":
            time.sleep(0.5)
        profile = shutil.copytree(ROOT / "profiles" / "slurm", Path(folder) / "profile")
        written = profile / "config.yaml"
        text = written.read_text().replace("batch=1 ", f"batch={batch} ")
        written.write_text(text + "slurm-init-seconds-before-status-checks: 1\n")
        begin = time.perf_counter()
        done = engine.compute_study(study, engine.How(profile=str(profile)), models, recipes)
        spent = time.perf_counter() - begin
        assert not done.failed, done.lines
        made = [store.about(cell.key)["made"] for cell in cells]
        times = node.says("squeue", "--states=all", "--noheader", "--format=%S %e").split()
        node.stop()
    begun, ended = (pd.to_datetime(times[i::2]) for i in (0, 1))
    busy, span = sum((ended - begun).total_seconds()), (max(ended) - min(begun)).total_seconds()
    seconds = sum(sum(m["seconds"].values()) * m["threads"] for m in made)
    each = seconds / len(begun)
    print(f"{len(begun)} jobs of {len(cells)} evaluations of {name} on {many} slots: {spent:.1f} s, {each:.0f} s a job")
    print(f"evaluations {seconds:.1f} s: {seconds / many / spent:.3f} of all, {seconds / busy:.3f} of the time of jobs")
    print(f"slots busy {busy / many / span:.3f} of the time from the first job's start to the last one's end")


def slots(name: str, many: int, second: float) -> None:
    study = load_study(name, fetch=False)
    packed = batches.packed(study.cells, many, 1)
    naps = [second * sum(sum(estimate.seconds(group)) for group in grouped(batch).values()) for batch in packed]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Snakefile").write_text(SLEEPING)
        for number, nap in enumerate(naps):
            (Path(folder) / f"{number:05}.json").write_text(json.dumps({"nap": round(nap, 3)}))
        targets = [f"{number:05}.done" for number in range(len(naps))]
        command = [sys.executable, "-m", "snakemake", "--cores", str(many), "--scheduler", "greedy", "--quiet", "all"]
        begin = time.perf_counter()
        subprocess.run([*command, "--drop-metadata", "--nolock", "--", *targets], cwd=folder, check=True)
        spent = time.perf_counter() - begin
    bound = max(max(naps), sum(naps) / many)
    print(f"{len(naps)} batches of {len(study.cells)} evaluations of {name} on {many} slots: {spent:.1f} s")
    print(
        f"lower bound {bound:.1f} s (longest {max(naps):.1f} s, sum by slots {sum(naps) / many:.1f} s): {bound / spent:.2f} of it"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pool", "plan", "slurm", "slots"])
    parser.add_argument("study", nargs="?")
    parser.add_argument("--models", action="append", default=[])
    parser.add_argument("--recipes", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--evaluations", type=int, default=100_000)
    parser.add_argument("--slots", type=int)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--second", type=float, default=0.002)
    given = parser.parse_args()
    if given.what == "pool":
        pool(given.study or "laptop", given.models, given.recipes, given.rounds)
    elif given.what == "plan":
        plan(given.evaluations)
    elif given.what == "slurm":
        slurm(given.study or "laptop", given.models, given.recipes, given.slots or 2, given.batch)
    else:
        slots(given.study or "paper", given.slots or 64, given.second)
