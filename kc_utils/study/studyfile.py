"""Study files: YAML that lists runs. A run is one notebook with one set of parameters.

Runs may be written one by one, or as a grid of models x techniques x probes: with models [smollm2-135m], probes
{trex: {facts: lama:trex, limit: 410}} and techniques {pruning: {sparsities: [0.2, 0.5]}} it holds a run
`smollm2-135m-pruning-trex` of the notebook `decoder_pruning`, since the model is a decoder. `lab:*-small-*` stands for the models
of the registry that have such a name, be it none.
"""

import fnmatch
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import kc_utils
from kc_utils.errors import BadRequest, KCError, MissingData, explain, listed
from kc_utils.models.registry import registry, resolve
from kc_utils.places import project_dir, results_dir
from kc_utils.probing.files import find_data, what_to_do
from kc_utils.probing.harness.local import FILES
from kc_utils.probing.perplexity import TEXTS
from kc_utils.probing.sources import missing
from kc_utils.study.cells import Cell
from kc_utils.study.code import PACKAGES, code_hash, file_of
from kc_utils.study.notebooks import Plan, plan, read_notebook

RUN_ID = re.compile(r"[a-z0-9][a-z0-9.-]*")


class Part(BaseModel):
    """A part of a study file, which holds no other names."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunEntry(Part):
    notebook: str
    parameters: dict = Field(default_factory=dict)


class Crossing(Part):
    """models: ids, or patterns of them; probes: by a short name, parameters that say what is evaluated; techniques: by name,
    the other parameters of its notebook."""

    models: tuple[str, ...] = Field(min_length=1)
    probes: dict[str, dict] = Field(min_length=1)
    techniques: dict[str, dict] = Field(min_length=1)


class StudyFile(Part):
    """The file as written. defaults: parameters of all runs whose notebooks have them; runs: by id; grid: further runs."""

    title: str
    about: str = ""
    defaults: dict = Field(default_factory=dict)
    runs: dict[str, RunEntry] = Field(default_factory=dict)
    grid: tuple[Crossing, ...] = ()


@dataclass(frozen=True)
class Run:
    """One notebook with checked parameters. `id` names its page."""

    study: str
    id: str
    plan: Plan

    @property
    def template(self) -> str:
        return self.plan.notebook.name

    @property
    def cells(self) -> list[Cell]:
        return self.plan.cells

    @property
    def digest(self) -> str:
        """Hash of what the executed notebook depends on: its evaluations, its file, the code that it calls."""
        notebook = self.plan.notebook
        called = {*kc_utils.PUBLIC.values(), *notebook.modules}
        called = sorted(m for m in called if m.partition(".")[0] in PACKAGES and m not in PACKAGES and file_of(m))
        parts = [[c.key for c in self.cells], self.plan.values, notebook.sha256, code_hash(called)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]

    @property
    def output(self) -> Path:
        """Where the executed notebook is kept, by digest: a file that exists needs no second run."""
        return results_dir() / "runs" / self.study / f"{self.id}-{self.digest}.ipynb"


@dataclass(frozen=True)
class Study:
    name: str
    title: str
    about: str
    runs: tuple[Run, ...]

    @property
    def cells(self) -> list[Cell]:
        """Every distinct evaluation of every run, in order."""
        return list(dict.fromkeys(c for run in self.runs for c in run.cells))


def load_study(name: str, fetch: bool = True) -> Study:
    """Read and check a whole study before anything runs. Raises BadRequest with the run and the parameter at fault.

    name: in studies/, or the path of a YAML file; fetch: whether facts that are not on this machine may be fetched; without it,
    they raise MissingData in one line.
    """
    file = Path(name) if name.endswith((".yaml", ".yml")) else project_dir() / "studies" / f"{name}.yaml"
    if not file.is_file():
        known = sorted(p.stem for p in (project_dir() / "studies").glob("*.yaml"))
        raise BadRequest(f"no study {name!r}: choose {listed(known)}, or give the path of a .yaml file")
    try:
        written = StudyFile.model_validate(yaml.load(file.read_text(encoding="utf-8"), Loader=_UniqueKeys))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file}: not valid YAML ({' '.join(str(error).split())[:200]})") from error
    except ValidationError as error:
        raise BadRequest(f"{file}: {explain(error, StudyFile)}") from error
    crossed = runs_of(written.grid)
    if twice := sorted(set(crossed) & set(written.runs)):
        raise BadRequest(f"{file}: {listed(twice)} is named among the runs and by the grid")
    entries = written.runs | crossed
    if not entries:
        raise BadRequest(f"{file}: names no runs")
    if not fetch:
        check_data(file.stem, [{**written.defaults, **entry.parameters} for entry in entries.values()])
    runs, used = [], set()
    for run_id, entry in entries.items():
        if not RUN_ID.fullmatch(run_id):
            raise BadRequest(f"{file}: run id {run_id!r} must be lower-case letters, digits, dots and hyphens")
        try:
            declared = read_notebook(entry.notebook).declared
            shared = {key: value for key, value in written.defaults.items() if key in declared}
            runs.append(Run(file.stem, run_id, plan(entry.notebook, {**shared, **entry.parameters})))
        except KCError as error:
            raise type(error)(f"{file.name}, run {run_id}: {error}") from error
        used.update(shared)
    if idle := sorted(set(written.defaults) - used):
        raise BadRequest(f"{file.name}, defaults: no notebook of this study has a parameter {listed(idle)}")
    return Study(file.stem, written.title, written.about, tuple(runs))


class _UniqueKeys(yaml.SafeLoader):
    """PyYAML's safe loader, except that a key written twice is an error instead of the last one winning."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise yaml.YAMLError(f"{listed(twice)} is written twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def runs_of(grid: Iterable[Crossing]) -> dict[str, RunEntry]:
    """Write out a grid as runs by id. Raises BadRequest for an unknown model, for a parameter that both a probe and a
    technique name, and where two runs would have one id."""
    runs: dict[str, RunEntry] = {}
    for part in grid:
        models = chain.from_iterable(fnmatch.filter(registry(), m) if "*" in m else [m] for m in part.models)
        for model, technique, probe in product(dict.fromkeys(models), part.techniques, part.probes):
            settings, fields = part.techniques[technique], part.probes[probe]
            if both := sorted(set(settings) & set(fields)):
                raise BadRequest(f"probe {probe!r} and technique {technique!r} both set {listed(both)}")
            run_id = re.sub(r"[^a-z0-9.]+", "-", f"{model}-{technique}-{probe}".lower()).strip("-.")
            if run_id in runs:
                raise BadRequest(f"two runs of the grid are named {run_id!r}: give probes other names")
            notebook = f"{resolve(model).family.replace('-', '_')}_{technique}"
            runs[run_id] = RunEntry(notebook=notebook, parameters={"model": model, **fields, **settings})
    return runs


def check_data(study: str, parameters: Sequence[dict]) -> None:
    """Raise MissingData in one line where a study needs what is not on this machine.

    parameters: of runs or fields of probes: `facts`, `tasks`, `text`. Raises BadRequest for unknown facts.
    """
    sources = dict.fromkeys(facts for p in parameters if isinstance(facts := p.get("facts"), str))
    found = {source: why for source in sources if (why := missing(source))}
    files = {task: FILES[task] for p in parameters for task in p.get("tasks") or () if task in FILES}
    files |= {text: (TEXTS[text],) for p in parameters if (text := p.get("text")) in TEXTS}
    found |= {name: what_to_do(needed) for name, needed in files.items() if find_data(needed) is None}
    if found:
        (name, why), *others = found.items()
        more = f" (and {len(others)} more: {', '.join(dict(others))})" if others else ""
        raise MissingData(f"study {study} needs {name}{more}, not on this machine: {why}")
