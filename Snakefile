# Execute the notebooks of a study, on this machine's cores or on a cluster. Usually started by `kc study run NAME`, which
# first computes the evaluations and writes beside each notebook to be the parameters that it is to be executed with.
#   snakemake --cores 2 results/runs/laptop/smollm2-135m-pruning-0123456789abcdef.ipynb
# An executed notebook is named by the hash of what it depends on and skipped when it is there.

import sys

PYTHON = sys.executable


rule notebook:
    input:
        "{run}.json",
    output:
        "{run}.ipynb",
    log:
        "{run}.log",  # why it stopped, where it did
    shell:
        "OMP_NUM_THREADS={threads} {PYTHON:q} -m kc_utils study execute {input:q} 2> {log:q}"
