# Everything that takes long is made by these rules, on this machine's cores or on a cluster (profiles/). Usually started by `kc
# study run`, `kc study compute` and `kc lab train --all`, which write beside each output what is to be made: a JSON file.

import json
import math
import os
import sys
from functools import cache

from kc_utils.study import forks
from kc_utils.study.execution import end_with_parent

end_with_parent(int(os.environ.get("KC_ENGINE", 0)))  # Snakemake's own, where `kc` has started it

MEMORY = float(config.get("memory", math.inf))  # MB: no job asks for more than there is
GPUS = int(config.get("gpus", 0))
WARM = os.environ.get(forks.ADDRESS) if not GPUS else None  # CUDA does not survive a fork
START = f'-I -S "{forks.__file__}" "{WARM}"' if WARM else "-m"
KC = f'exec "{sys.executable}" {START} kc_utils'  # exec: a job that Snakemake ends, or that loses it, ends itself
TRIES = 2  # with twice and three times the memory and time, after a job that was killed


@cache
def _read(file):
    with open(file, encoding="utf-8") as stream:
        return json.load(stream)


def given(name, wildcard="batch"):
    return lambda wildcards: _read(f"{wildcards[wildcard]}.json")[name]


rule evaluations:
    input:
        "{batch}.json",
    output:
        "{batch}.done",
    log:
        "{batch}.log",  # why it stopped, where it did
    retries: TRIES
    priority: lambda wildcards: 1 + given("seconds")(wildcards)  # the longest first, so that cores end together
    threads: given("threads")
    resources:
        mem_mb=lambda wildcards, attempt: min(given("mem_mb")(wildcards) * attempt, MEMORY),
        runtime=lambda wildcards, attempt: given("runtime")(wildcards) * attempt,
        gpu=lambda wildcards: given("gpu")(wildcards) if GPUS else 0,
        gpu_model=lambda wildcards: config.get("gpu_model", "") if GPUS and given("gpu")(wildcards) else "",
    shell:
        "export OMP_NUM_THREADS={threads}; test {resources.gpu} != 0 || export KC_DEVICE=${{KC_DEVICE:-cpu}}; "
        "{KC} study evaluations {input:q} 2> {log:q}"


rule notebook:
    input:
        "{run}.json",
        given("needs", "run"),
    output:
        "{run}.executed",  # the notebook itself belongs to all engines, and this one may not remove it
    log:
        "{run}.log",
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=0,
    shell:
        "export OMP_NUM_THREADS={threads}; {KC} study execute {input[0]:q} 2> {log:q}"


rule lab_model:
    output:
        "{checkpoints}/{model}/card.json",
    log:
        "{checkpoints}/{model}.log",
    retries: TRIES
    resources:
        mem_mb=2000,
        runtime=lambda wildcards, attempt: 120 * attempt,
        gpu=0,
    shell:
        "export OMP_NUM_THREADS={threads}; {KC} lab train {wildcards.model} --out {wildcards.checkpoints:q} 2> {log:q}"
