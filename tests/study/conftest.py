"""A project of the test's own: studies, small notebooks, and a place for results."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
import yaml

from kc_utils.errors import KCError
from kc_utils.study import engine, execution
from kc_utils.study.batches import compute_batch
from tests.conftest import ROOT

PARAMETERS = """\
model: str = "smollm2-135m"  # a model
scopes: list = ["all"]  # which weights
sparsities: list = [0.5]  # fraction
method: str = "magnitude"  # a text
bins: int = 4  # not in the grid
share: float = 0.5  # not in the grid
deep: bool = False  # not in the grid
facts: str = "worldfacts"  # a source
relations: list = None  # some
limit: int = 20  # a sample
protocols: list = ["cloze", "rank"]  # ways
templates: int = 1  # or "all"
seed: int = 0  # of the sample
text: str = None  # a text
"""
GRID = 'recipes = [f"{method}@{scope}={s}" for scope in scopes for s in sparsities]'
RUN = 'import kc_utils as kc\nkc.check("decoder_pruning", globals())'
EVALUATE = """\
rows = kc.evaluate(model, recipes, facts=facts, relations=relations, limit=limit, protocols=protocols, seed=seed)
print(len(rows), "rows")"""
SEVERAL = """\
import itertools

probes = {"taught": {"facts": "lab", "limit": limit, "protocols": ["cloze"]}}
probes |= {"again": probes["taught"] | {"relearn_steps": steps}} if steps else {}
recipes = [f"rtn@all={b}" for b in itertools.chain(bits)]"""


@pytest.fixture
def project(tmp_path, monkeypatch, results):
    """Call it to write a notebook of code cells, `parameters` first and `grid` second; two stand there already."""
    root = tmp_path / "project"
    for name in ("studies", "notebooks"):
        (root / name).mkdir(parents=True)
    (root / "_config.yml").write_text("")
    shutil.copy(ROOT / "Snakefile", root)
    monkeypatch.chdir(root)

    def write(name, *sources, tags=("parameters", "grid")):
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        book = nbformat.v4.new_notebook(metadata=kernel)
        book.cells = [nbformat.v4.new_code_cell(source) for source in sources]
        for cell, tag in zip(book.cells, tags, strict=False):
            cell.metadata["tags"] = [tag]
        nbformat.write(book, root / "notebooks" / f"{name}.ipynb")
        return name

    write.root = root
    write("decoder_pruning", PARAMETERS, GRID, RUN, EVALUATE)
    write("lab_bits", "models: list = []\nbits: list = [4]\nlimit: int = 9\nsteps: int = None\n", SEVERAL)
    return write


@pytest.fixture
def in_process(monkeypatch):
    """Evaluations are computed in this process: none has to be started, which takes seconds each."""

    def snakemake(targets, log, options, look):
        for batch in [target for target in targets if target.suffix == ".done"]:
            with suppress(KCError):
                compute_batch(batch.with_suffix(".json"))
            look()
        if runs := [t for t in targets if t.suffix == ".executed" and all_there(t)]:
            execution.snakemake(runs, log, options, look)

    def all_there(run):
        return all(Path(needed).is_file() for needed in json.loads(run.with_suffix(".json").read_text())["needs"])

    monkeypatch.setattr(engine, "snakemake", snakemake)


@pytest.fixture
def study(project, trained, tmp_path):
    """Write a study of one run with changes to it (`run=...`), its parameters or the whole file; returns its path."""

    def write(run=None, parameters=None, **file):
        values = {"scopes": ["all"], "sparsities": [0.5], **(parameters or {})}
        content = {
            "title": "Test",
            "defaults": {"model": trained.id, "relations": ["capital"], "limit": 5},
            "runs": {"a-run": {"notebook": "decoder_pruning", "parameters": values, **(run or {})}},
        } | file
        path = tmp_path / "test.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write
