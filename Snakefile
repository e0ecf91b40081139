# How a study runs: one job for each notebook of the study file, on this machine's cores or on a cluster.
#   snakemake --cores 2 --config study=laptop
# A run is named by the hash of what it depends on and skipped when it is there; inside a run, finished cells are
# read from results/cells. Usually started by `kc study run NAME`, which shows the progress.

import sys

from kc_utils.study.studyfile import load_study

NAME = config.get("study", "laptop")
STUDY = load_study(NAME)
RUNS = {run.output.stem: run for run in STUDY.runs}
FOLDER = str(STUDY.runs[0].output.parent)
PYTHON = sys.executable


rule all:
    input:
        [str(run.output) for run in STUDY.runs],


rule run:
    output:
        FOLDER + "/{stem}.ipynb",
    wildcard_constraints:
        stem="|".join(RUNS),
    params:
        id=lambda wildcards: RUNS[wildcards.stem].id,
    threads: max(1, workflow.cores // len(RUNS)) if workflow.cores else 1
    priority: 1
    shell:
        "OMP_NUM_THREADS={threads} {PYTHON:q} -m kc_utils study execute {NAME:q} {params.id:q}"
