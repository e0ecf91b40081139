"""Study files: YAML that lists runs. A run is one notebook with one set of parameters."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kc_utils.errors import BadRequest, KCError, listed
from kc_utils.places import project_dir, results_dir
from kc_utils.study.cells import Cell
from kc_utils.study.code import code_hash
from kc_utils.study.crossing import Crossing, runs_of
from kc_utils.study.data import check_data
from kc_utils.study.grids import ANY, parameters, split_template
from kc_utils.study.notebooks import declared_parameters, merged_parameters, template_file
from kc_utils.study.parameters import Grid, explain

RUN_ID = re.compile(r"[a-z0-9][a-z0-9.-]*")
PAGE_CODE, LAB_PAGE_CODE = "kc_utils.report.notebook", "kc_lab.pages.notebook"


class RunEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    notebook: str
    parameters: dict = Field(default_factory=dict)


class StudyFile(BaseModel):
    """The file as written: a title, parameters common to all runs whose notebooks have them, and the runs by id;
    `grid` lists further runs as models x techniques x probes, see `crossing`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    about: str = ""
    defaults: dict = Field(default_factory=dict)
    runs: dict[str, RunEntry] = Field(default_factory=dict)
    grid: tuple[Crossing, ...] = ()

    def values_of(self, entry: RunEntry) -> dict:
        """The parameters of a run: the defaults that its notebook declares, overlaid with its own.

        Raises BadRequest for a name that the notebook does not declare.
        """
        declared = declared_parameters(entry.notebook)
        shared = {name: value for name, value in self.defaults.items() if name in declared}
        return merged_parameters(entry.notebook, {**shared, **entry.parameters})

    def idle_defaults(self) -> list[str]:
        """Defaults that no notebook of the study declares."""
        declared = [set(declared_parameters(run.notebook)) for run in self.runs.values()]
        return sorted(set(self.defaults) - set().union(*declared))


@dataclass(frozen=True)
class Run:
    """One notebook with checked parameters. `id` names its page."""

    study: str
    id: str
    template: str
    values: dict
    parameters: Grid

    @property
    def cells(self) -> list[Cell]:
        return self.parameters.cells()

    @property
    def digest(self) -> str:
        """Hash of what the executed notebook depends on: its cells, its template, the code that draws and writes."""
        parts = [
            [c.key for c in self.cells],
            self.values,
            hashlib.sha256(template_file(self.template).read_bytes()).hexdigest(),
            code_hash((LAB_PAGE_CODE if split_template(self.template)[0] == ANY else PAGE_CODE,)),
        ]
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
        """Every distinct cell of every run, in order."""
        return list(dict.fromkeys(c for run in self.runs for c in run.cells))

    def run(self, run_id: str) -> Run:
        for run in self.runs:
            if run.id == run_id:
                return run
        raise BadRequest(f"study {self.name} has no run {run_id!r}: it has {listed((r.id for r in self.runs), 40)}")


def study_file(name: str) -> Path:
    """The file of a study: a name in studies/, or a path to a YAML file."""
    if name.endswith((".yaml", ".yml")):
        file = Path(name)
    else:
        file = project_dir() / "studies" / f"{name}.yaml"
    if not file.is_file():
        known = sorted(p.stem for p in (project_dir() / "studies").glob("*.yaml"))
        raise BadRequest(f"no study {name!r}: choose {listed(known)}, or give the path of a .yaml file")
    return file


class _UniqueKeys(yaml.SafeLoader):
    """PyYAML's safe loader, except that a key written twice is an error instead of the last one winning."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"{listed(twice)} is written twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def _with_grid(written: StudyFile, file: Path) -> StudyFile:
    """The study with the runs of its grid written out."""
    crossed = {run_id: RunEntry(notebook=n, parameters=p) for run_id, (n, p) in runs_of(written.grid).items()}
    if twice := sorted(set(crossed) & set(written.runs)):
        raise BadRequest(f"{file}: {listed(twice)} is named among the runs and by the grid")
    if not crossed and not written.runs:
        raise BadRequest(f"{file}: names no runs")
    return written.model_copy(update={"runs": {**written.runs, **crossed}})


def load_study(name: str, fetch: bool = True) -> Study:
    """Read and check a whole study before anything runs. Raises BadRequest with the run and the parameter at fault.

    fetch: whether facts that are not on this machine may be fetched; without it, they raise MissingData in one line.
    """
    file = study_file(name)
    try:
        written = StudyFile.model_validate(yaml.load(file.read_text(encoding="utf-8"), Loader=_UniqueKeys))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file}: not valid YAML ({' '.join(str(error).split())[:200]})") from error
    except ValidationError as error:
        raise BadRequest(f"{file}: {explain(error, StudyFile)}") from error
    written = _with_grid(written, file)
    if not fetch:
        check_data(file.stem, [{**written.defaults, **entry.parameters} for entry in written.runs.values()])
    runs = []
    for run_id, entry in written.runs.items():
        if not RUN_ID.fullmatch(run_id):
            raise BadRequest(f"{file}: run id {run_id!r} must be lower-case letters, digits, dots and hyphens")
        try:
            values = written.values_of(entry)
            checked = parameters(entry.notebook, **values)
        except KCError as error:
            raise type(error)(f"{file.name}, run {run_id}: {error}") from error
        runs.append(Run(file.stem, run_id, entry.notebook, values, checked))
    if idle := written.idle_defaults():
        raise BadRequest(f"{file.name}, defaults: no notebook of this study has a parameter {listed(idle)}")
    return Study(file.stem, written.title, written.about, tuple(runs))
