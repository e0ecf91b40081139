"""Notebooks: the parameters that one declares, and the evaluations that it plans.

Two cells of a notebook say what it evaluates. The cell tagged `parameters` declares names with types and defaults; the cell
tagged `grid` computes `recipes` from them and, where there are several, `probes`: a name -> the keyword arguments of
`kc.evaluate`. The planner runs these two cells and no other, in plain Python that imports the standard library alone.
A notebook of one model takes `model`, one over several takes `models`; its file name begins with the family of its models
(`decoder_`, `encoder_`, `encoder_decoder_`), any other name stands for models of any family.
"""

from __future__ import annotations

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
from typing import Literal, get_args

from pydantic import ValidationError

from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, KCError, explain, listed
from kc_utils.models.registry import resolve
from kc_utils.places import find_project_dir, project_dir
from kc_utils.probing.probe import Probe, check_family
from kc_utils.study.cells import Cell
from kc_utils.study.code import imports_in

PREFIXES = {"encoder_decoder_": "encoder-decoder", "encoder_": "encoder", "decoder_": "decoder"}
KINDS = {"str": str, "int": int, "float": (int, float), "bool": bool, "list": (list, tuple), "dict": dict}
ADMITTED = {name: get_args(field.annotation) for name, field in Probe.model_fields.items()}
"""What a parameter that is a field of a probe may be besides its type: nothing, or "all"."""


@dataclass(frozen=True)
class Notebook:
    """What the planner knows of a notebook. declared: name -> type as written, of each parameter; defaults; names: that its
    cells assign; modules: that they import."""

    name: str
    declared: dict[str, str]
    defaults: dict
    grid: CodeType
    names: frozenset[str]
    modules: frozenset[str]
    sha256: str

    @property
    def family(self) -> str | None:
        """The family of its models, None for any."""
        return next((family for prefix, family in PREFIXES.items() if self.name.startswith(prefix)), None)

    def values(self, given: Mapping) -> dict:
        """Overlay the defaults with what is given. Raises BadRequest for an undeclared name and a value of another type."""
        unknown = sorted(set(given) - set(self.declared))
        if unknown:
            raise BadRequest(f"{self.name} has no parameter {listed(unknown)}; it takes {listed(self.declared, 30)}")
        return self.defaults | {name: self._checked(name, value) for name, value in given.items()}

    def _checked(self, name: str, value):
        value, default, kind = as_list(value), self.defaults[name], self.declared[name]
        if (value is None and (default is None or type(None) in ADMITTED.get(name, ()))) or (
            value == "all" and Literal["all"] in ADMITTED.get(name, ())
        ):
            return value
        types = [KINDS[part] for part in _parts(kind) if part in KINDS] or [type(default)]
        right = any(isinstance(value, t) and (t is bool or not isinstance(value, bool)) for t in types)
        if not right and not (kind in ("", "None") and default is None):
            raise BadRequest(f"{self.name}: {name} is of type {kind or type(default).__name__}, got {value!r}")
        return value


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


def template_file(name: str) -> Path:
    """Return the file of a notebook of the checkout. Raises BadRequest for an unknown one."""
    folder = project_dir() / "notebooks"
    file = folder / f"{name}.ipynb"
    if not file.is_file():
        known = sorted(p.stem for p in folder.glob("*.ipynb"))
        raise BadRequest(f"no notebook {name!r} in {folder.name}/: there are {listed(known, 40)}")
    return file


def read_notebook(name: str) -> Notebook:
    """Read what a notebook declares. Raises BadRequest where its `parameters` or `grid` cell is absent or not plain Python."""
    file = template_file(name)
    return _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(file: Path, stamp: int) -> Notebook:
    name, content = file.stem, file.read_bytes()
    try:
        cells = [cell for cell in json.loads(content)["cells"] if cell["cell_type"] == "code"]
        tagged = {t: "".join(c["source"]) for c in cells for t in c["metadata"].get("tags", ())}
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"{file.name} is not a notebook ({error!r})") from error
    trees = {}
    for tag in ("parameters", "grid"):
        if tag not in tagged:
            raise BadRequest(f"{file.name} has no cell tagged `{tag}`")
        trees[tag] = _plain_python(tagged[tag], f"{file.name}, cell `{tag}`")
    defaults = _run(compile(trees["parameters"], f"{name}: parameters", "exec"), {}, f"{file.name}, cell `parameters`")
    declared = _declared(trees["parameters"])
    names, modules = set(), set()
    for cell in cells:
        with contextlib.suppress(SyntaxError):  # a magic
            tree = ast.parse("".join(cell["source"]))
            names |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            modules |= imports_in(tree)
    return Notebook(
        name,
        declared,
        {key: defaults[key] for key in declared},
        compile(trees["grid"], f"{name}: grid", "exec"),
        frozenset(names),
        frozenset(modules),
        hashlib.sha256(content).hexdigest(),
    )


def _plain_python(source: str, where: str) -> ast.Module:
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise BadRequest(f"{where}, line {error.lineno}: {error.msg}") from error
    relative = any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree))
    foreign = sorted(n for n in imports_in(tree) if n.partition(".")[0] not in sys.stdlib_module_names)
    if foreign or relative:
        raise BadRequest(
            f"{where}: imports {listed(foreign) or 'a neighbour'}; the planner runs this cell with the standard library alone"
        )
    return tree


def _declared(tree: ast.Module) -> dict[str, str]:
    """Name -> type as written, or nothing, of what a cell assigns at its top."""
    found = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        for target in targets:
            if isinstance(target, ast.Name) and not target.id.startswith("_") and node.value is not None:
                found[target.id] = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
    return found


def _parts(kind: str) -> list[str]:
    """`int | None` as its parts, `list[str]` as `list`."""
    return [part.strip().strip("'\"").partition("[")[0] for part in kind.split("|")]


def _run(code: CodeType, space: dict, where: str) -> dict:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, space)
    except Exception as error:
        raise BadRequest(f"{where}: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    return space


def as_list(value):
    """Read a list that `papermill -p sparsities "[0.1, 0.5]"` hands over as text, literals alone."""
    if not (isinstance(value, str) and value.strip().startswith("[")):
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return value  # refused with its name by the check of its type


def plan(name: str, given: Mapping | None = None) -> Plan:
    """Run a notebook's `parameters` and `grid` cells with these parameters, and check all that they name.

    Raises BadRequest for an unknown parameter, recipe, relation, source or protocol, for a value of the wrong type, for a
    model of another family than the notebook's, and for a grid without a recipe.
    """
    notebook = read_notebook(name)
    values = notebook.values(given or {})
    space = _run(notebook.grid, dict(values), f"{name}.ipynb, cell `grid`")
    try:
        recipes = _texts(space.get("recipes"), "recipes", "cell `grid` defines them")
        recipes = tuple(dict.fromkeys(str(Recipe.parse(recipe)) for recipe in recipes))
        models = _models(values)
        probes = _probes(space, values)
        for model in models:
            entry = resolve(model)
            if notebook.family not in (entry.family, None):
                raise BadRequest(f"it is for models of family {notebook.family}; {model} is of family {entry.family}")
            for probe in probes.values():
                check_family(entry.family, probe)
        recipes = tuple(recipe for recipe in recipes if recipe != "none")
        if not recipes:
            raise BadRequest("these parameters name no recipe beside the uncompressed model; fill in its lists")
        for probe in probes.values():
            if not len(probe.factset()) and not probe.tasks:
                raise BadRequest("a page needs questions with right answers; name facts, or tasks beside the text")
    except KCError as error:
        raise type(error)(f"{name}: {error}") from error
    return Plan(notebook, values, models, recipes, probes)


def _models(values: Mapping) -> tuple[str, ...]:
    if "model" in values:
        return (values["model"],)
    models = _texts(values.get("models"), "models", "cell `parameters` declares model, or models")
    if len(set(models)) < len(models) or not models:
        raise BadRequest("models: name at least one, and each once")
    return tuple(models)


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
            where = f"probe {name!r}: " if "probes" in space else ""
            raise BadRequest(where + explain(error, Probe)) from error
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
        return Markdown("\n".join(_about_models([variables[n] for n in ("model",) if n in variables])))
    declared = read_notebook(notebook)
    injected = [code for code in variables.get("In", ()) if code.startswith("# Parameters")]
    if "In" in variables:  # in Jupyter: what papermill wrote; else all variables that no cell assigns
        given = {name for code in injected for name in _declared(ast.parse(code))}
    else:
        plain = (str, int, float, bool, list, tuple, type(None))
        given = {n for n, v in variables.items() if isinstance(v, plain) and not n.startswith("_")} - declared.names
    values = {name: variables[name] for name in variables if name in declared.declared or name in given}
    found = plan(notebook, values)
    variables.update({name: found.values[name] for name in values})
    return Markdown("\n".join([*_about_models(found.models), *map(_about_probe, found.probes.values()), _about_recipes(found)]))


def _about_models(models) -> list[str]:
    entries = [resolve(model) for model in models]
    named = [(Path(e.address).name, "a local folder") if e.kind == "path" else (e.id, e.source) for e in entries]
    lines = [
        f"- **Model**: `{name}` ({e.family}; licence {e.licence}; {source})"
        for e, (name, source) in zip(entries, named, strict=True)
    ]
    if any(not entry.ran_here and entry.kind != "path" for entry in entries):
        lines.append("- **Not run here**: the published results hold no run of this model; numbers below are your own")
    return lines + [f"- **Note**: {note}" for note in dict.fromkeys(n for e in entries for n in e.notes)]


def _about_probe(probe: Probe) -> str:
    facts, parts = probe.factset(), []
    if len(facts):
        several = "every template" if probe.templates == "all" else f"{probe.templates} templates" * (probe.templates > 1)
        how = [", ".join(probe.protocols), several, f"{probe.shots} shots" * (probe.shots > 0)]
        how.append(f"then {probe.relearn_steps} steps of training" if probe.relearn_steps else "")
        parts.append(
            f"{len(facts):,} facts of `{facts.name}` in {len(facts.by_relation())} relations (list `{facts.sha256[:12]}`) by "
            + ", ".join(filter(None, how))
        )
    items = f"{probe.task_limit:,} items" if probe.task_limit else "all items"
    parts += [f"{items} of task `{task}`" for task in probe.tasks]
    if probe.text is not None:
        tokens = f"the first {probe.text_tokens:,} tokens of " if probe.text_tokens else ""
        parts.append(f"{tokens}the text `{Path(probe.text).name}`")
    return f"- **Evaluated on**: {'; '.join(parts)}"


def _about_recipes(found: Plan) -> str:
    return f"- **Recipes**: {len(found.recipes)}, each compared with the uncompressed model on the same facts"
