"""Notebooks: the parameters that one declares, and the evaluations that it plans.

The cell tagged `parameters` declares names with types and defaults. The cell tagged `grid` computes `recipes` from them and,
where there are several, `probes`: a name -> the keyword arguments of `kc.evaluate`. The planner runs these two cells and no
other, in plain Python that imports the standard library alone. A notebook takes `model`, or `models`; its file name begins with
their family (`decoder_`, `encoder_`, `encoder_decoder_`), any other name stands for models of any family.
"""

import ast
import contextlib
import hashlib
import io
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Union

from pydantic import TypeAdapter, ValidationError

from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, KCError, explain, listed
from kc_utils.models.registry import resolve
from kc_utils.places import find_project_dir, project_dir
from kc_utils.probing.probe import Probe, check_family
from kc_utils.study.cells import Cell
from kc_utils.study.code import imports_in

PREFIXES = {"encoder_decoder_": "encoder-decoder", "encoder_": "encoder", "decoder_": "decoder"}


@dataclass(frozen=True)
class Notebook:
    """What the planner knows of a notebook. declared: type as written, by parameter; types: what one may be, None and "all" where
    a probe's field of this name may; modules: that its cells import."""

    name: str
    declared: dict[str, str]
    types: dict[str, TypeAdapter]
    defaults: dict
    grid: CodeType
    modules: frozenset[str]
    sha256: str

    @property
    def family(self) -> str | None:
        """The family of its models, None for any."""
        return next((family for prefix, family in PREFIXES.items() if self.name.startswith(prefix)), None)

    def values(self, given: Mapping) -> dict:
        """Overlay the defaults with what is given. Raises BadRequest for an undeclared name and a value of another type."""
        if unknown := sorted(set(given) - set(self.declared)):
            raise BadRequest(f"{self.name} has no parameter {listed(unknown)}; it takes {listed(self.declared, 30)}")
        values = self.defaults | {name: as_list(value) for name, value in given.items()}
        for name in given:
            try:
                self.types[name].validate_python(values[name], strict=True)
            except ValidationError as error:
                kind = self.declared[name] or type(self.defaults[name]).__name__
                raise BadRequest(f"{self.name}: {name} is of type {kind}, got {values[name]!r}") from error
        return values


@dataclass(frozen=True)
class Plan:
    """A notebook's evaluations. values: of all its parameters; recipes: canonical, without the uncompressed model; probes by
    name, the main one first."""

    notebook: Notebook
    values: dict
    models: tuple[str, ...]
    recipes: tuple[str, ...]
    probes: dict[str, Probe]

    @property
    def cells(self) -> list[Cell]:
        """Every model under every recipe, the uncompressed one first, by each probe; relearning compresses always."""
        return [
            Cell(model, recipe, probe)
            for model in self.models
            for probe in dict.fromkeys(self.probes.values())
            for recipe in (*(("none",) if probe.relearn_steps is None else ()), *self.recipes)
        ]


def read_notebook(name: str) -> Notebook:
    """Read what a notebook of the checkout declares. Raises BadRequest for an unknown one, and where its `parameters` or `grid`
    cell is absent or not plain Python."""
    file = project_dir() / "notebooks" / f"{name}.ipynb"
    if not file.is_file():
        known = sorted(p.stem for p in file.parent.glob("*.ipynb"))
        raise BadRequest(f"no notebook {name!r} in notebooks/: there are {listed(known, 40)}")
    return _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(file: Path, stamp: int) -> Notebook:
    content, modules = file.read_bytes(), set()
    try:
        cells = [cell for cell in json.loads(content)["cells"] if cell["cell_type"] == "code"]
        tagged = {tag: "".join(c["source"]) for c in cells for tag in c["metadata"].get("tags", ())}
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"{file.name} is not a notebook ({error!r})") from error
    if absent := [tag for tag in ("parameters", "grid") if tag not in tagged]:
        raise BadRequest(f"{file.name} has no cell tagged `{absent[0]}`")
    parameters, grid = (_plain_python(tagged[tag], f"{file.name}, cell `{tag}`") for tag in ("parameters", "grid"))
    space = _run(compile(parameters, "parameters", "exec"), {}, f"{file.name}, cell `parameters`")
    declared = _declared(parameters)
    defaults, types = {name: space[name] for name in declared}, {}
    for name, default in defaults.items():
        kinds = [type(default), *([eval(declared[name], space)] if declared[name] else [])]
        kinds += [Probe.model_fields[name].annotation] if name in Probe.model_fields else []
        types[name] = TypeAdapter(Union[tuple(kinds)])  # noqa: UP007
    for cell in cells:
        with contextlib.suppress(SyntaxError):  # a magic
            modules |= imports_in(ast.parse("".join(cell["source"])))
    code, sha256 = compile(grid, "grid", "exec"), hashlib.sha256(content).hexdigest()
    return Notebook(file.stem, declared, types, defaults, code, frozenset(modules), sha256)


def _plain_python(source: str, where: str) -> ast.Module:
    """Parse a cell that imports the standard library alone."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise BadRequest(f"{where}, line {error.lineno}: {error.msg}") from error
    foreign = [n for n in sorted(imports_in(tree)) if n.partition(".")[0] not in sys.stdlib_module_names]
    if foreign or any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)):
        what = listed(foreign) or "a neighbour"
        raise BadRequest(f"{where}: imports {what}; the planner runs this cell with the standard library alone")
    return tree


def _declared(tree: ast.Module) -> dict[str, str]:
    """Return the type as written, or nothing, of every name that a cell assigns at its top."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            kind = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
            found |= {t.id: kind for t in targets if isinstance(t, ast.Name) and not t.id.startswith("_")}
    return found


def _run(code: CodeType, space: dict, where: str) -> dict:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, space)
    except Exception as error:
        raise BadRequest(f"{where}: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    return space


def as_list(value):
    """Read a list that `papermill -p sparsities "[0.1, 0.5]"` hands over as text, literals alone."""
    if isinstance(value, str) and value.strip().startswith("["):
        with contextlib.suppress(ValueError, SyntaxError):  # refused with its name by the check of its type
            return ast.literal_eval(value.strip())
    return value


def plan(name: str, given: Mapping | None = None) -> Plan:
    """Run a notebook's `parameters` and `grid` cells with these parameters, and check all that they name.

    Raises BadRequest for an unknown parameter, recipe, relation, source or protocol, for a value of the wrong type, for a
    model of another family than the notebook's, and for a grid without a recipe.
    """
    notebook = read_notebook(name)
    values = notebook.values(given or {})
    space = _run(notebook.grid, dict(values), f"{name}.ipynb, cell `grid`")
    try:
        recipes = map(Recipe.parse, _texts(space.get("recipes"), "recipes", "cell `grid` defines them"))
        recipes = tuple(r for r in dict.fromkeys(map(str, recipes)) if r != "none")
        several = "cell `parameters` declares model, or models"
        models = (values["model"],) if "model" in values else _texts(values.get("models"), "models", several)
        if len(set(models)) < len(models) or not models:
            raise BadRequest("models: name at least one, and each once")
        probes = _probes(space, values)
        for family, model in [(resolve(model).family, model) for model in models]:
            if notebook.family not in (family, None):
                raise BadRequest(f"it is for models of family {notebook.family}; {model} is of family {family}")
            for probe in probes.values():
                check_family(family, probe)
        if not recipes:
            raise BadRequest("these parameters name no recipe beside the uncompressed model; fill in its lists")
        if not all(len(probe.factset()) or probe.tasks for probe in probes.values()):
            raise BadRequest("a page needs questions with right answers; name facts, or tasks beside the text")
    except KCError as error:
        raise type(error)(f"{name}: {error}") from error
    return Plan(notebook, values, tuple(models), recipes, probes)


def _texts(values, what: str, how: str) -> list[str]:
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
        raise BadRequest(f"{what} are a list of texts ({how}), got {values!r}")
    return list(values)


def _probes(space: Mapping, values: Mapping) -> dict[str, Probe]:
    """The probes that the grid defines; else the one that the parameters make which are fields of a probe."""
    given = space.get("probes", {"facts": {name: values[name] for name in Probe.model_fields if name in values}})
    if not isinstance(given, dict) or not given or not all(isinstance(v, dict) for v in given.values()):
        raise BadRequest(f"probes are a dict of names and keyword arguments of kc.evaluate, got {given!r}")
    found = {}
    for name, fields in given.items():
        try:
            found[str(name)] = Probe(**fields)
        except ValidationError as error:
            raise BadRequest((f"probe {name!r}: " if "probes" in space else "") + explain(error, Probe)) from error
    return found


def check(notebook: str, variables: dict):
    """Check a notebook's parameters, its own `globals()`, and describe what it evaluates, as Markdown.

    A list that was given as text ("[0.1, 0.5]") becomes a list in `variables`. Raises BadRequest for a parameter that the
    notebook does not declare, which papermill only warns about, and as `plan`.

    >>> import kc_utils as kc
    >>> kc.check("decoder_pruning", {"sparsities": [0.5], "limit": 20})
    <IPython.core.display.Markdown object>
    """
    from IPython.display import Markdown

    if find_project_dir() is None:  # on Colab, say: the notebook's file is not there
        return Markdown("\n".join(map(_about_model, [variables[name] for name in ("model",) if name in variables])))
    known = read_notebook(notebook)
    written = [code for code in variables.get("In", ()) if code.startswith("# Parameters")]  # by papermill
    given = {*known.declared, *_declared(ast.parse("\n".join(written)))}
    values = {name: variables[name] for name in variables if name in given}
    found = plan(notebook, values)
    variables.update({name: found.values[name] for name in values})
    compared = f"- **Recipes**: {len(found.recipes)}, and the uncompressed model, on the same facts"
    return Markdown("\n".join([*map(_about_model, found.models), *map(_about_probe, found.probes.values()), compared]))


def _about_model(model: str) -> str:
    entry = resolve(model)
    name, source = (Path(entry.address).name, "a local folder") if entry.kind == "path" else (entry.id, entry.source)
    line = f"- **Model**: `{name}` ({entry.family}; licence {entry.licence}; {source})"
    if not entry.ran_here and entry.kind != "path":
        line += "\n- **Not run here**: the published results hold no run of this model; numbers below are your own"
    return line + "".join(f"\n- **Note**: {note}" for note in entry.notes)


def _about_probe(probe: Probe) -> str:
    facts, parts = probe.factset(), []
    if len(facts):
        settings = probe.model_dump(include={"templates", "shots", "relearn_steps"}, exclude_defaults=True)
        how = [", ".join(probe.protocols), *(f"{name}: {value}" for name, value in settings.items())]
        size = f"{len(facts):,} facts of `{facts.name}` in {len(facts.by_relation())} relations"
        parts.append(f"{size} (list `{facts.sha256[:12]}`) by {'; '.join(how)}")
    parts += [f"{probe.task_limit or 'all'} items of task `{task}`" for task in probe.tasks]
    if probe.text is not None:
        parts.append(f"{probe.text_tokens or 'all'} tokens of the text `{Path(probe.text).name}`")
    return f"- **Evaluated on**: {'; '.join(parts)}"
