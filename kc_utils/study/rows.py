"""Rows of evaluations as one table: what notebooks, findings and exercises begin with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from kc_utils.errors import BadRequest, MissingData, explain, listed
from kc_utils.places import finished_dir, reference_dir
from kc_utils.study import packing, record

if TYPE_CHECKING:
    from kc_utils.probing.probe import Probe
    from kc_utils.study.cells import Cell
    from kc_utils.study.record import CellResult, RecordedFile

REPORTED = ("touched_fraction", "sparsity", "weights_removed", "bits_per_weight", "bytes_compressed", "compression_ratio")
"""What every row carries of its recipe's report."""
RECORD = "record of "
"""How the origin of recorded rows begins; a study's name follows."""
TEXTS = ("recipe", "fact", "relation", "protocol")
APART = ("lab-load", "lab-capacity", "lab-wikipedia")
"""Studies that are read by name alone: their models differ in what no other page varies."""
LEFT_OUT = {
    ("cloze", "encoder"): "a mask stands for one piece of a word; their answers take several, or are white space",
    ("cloze", "encoder-decoder"): "the first token of the answer is white space alone, or unknown to the tokenizer",
    ("cloze", "decoder"): "no template ends with the answer, or its first token is white space alone or unknown",
    ("generate", "decoder"): "no template ends with the answer",
}
ONE_ANSWER = "their relation offers no wrong answer"
NO_SET = "their relation has no other answer left for a set"
NO_OTHER = "none of the candidates may be right for another subject, and there is no such subject"


def evaluate(
    models: str | Iterable[str],
    recipes: str | Iterable[str],
    facts: str | None = "worldfacts",
    relations: Iterable[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    protocols: Iterable[str] = ("cloze", "rank"),
    templates: int | str = 1,
    alternatives: int | str = 9,
    candidates: str = "drawn",
    shots: int = 0,
    tasks: Iterable[str] = (),
    task_limit: int | None = None,
    text: str | None = None,
    text_tokens: int | None = None,
    relearn_steps: int | None = None,
) -> pd.DataFrame:
    """Evaluate models under recipes, and uncompressed, on the same facts; what was computed before is read from the store.

    models, recipes: one or several; the rest: which facts, and how (`kc_utils.probing.probe.Probe`). The uncompressed
    model is added, except with relearn_steps. Progress goes to standard error.

    Returns one row a fact, protocol and template: model, recipe, protocol, fact, relation, template, correct, score, margin,
    chance, ...; what the recipe really did (`REPORTED`); shots, facts (their source), probe (a hash of it) and origin.
    `attrs["left_out"]` names for each protocol the facts that it cannot evaluate, and why; `attrs["failed"]` the recipes that an
    engine recorded as failed, and why; `attrs["probe"]` holds the probe. Raises BadRequest for what is unknown before anything is
    computed.

    >>> import kc_utils as kc
    >>> rows = kc.evaluate("lab:decoder-small-s1", "magnitude@all=0.5", facts="lab", limit=20, protocols=["cloze"])
    >>> rows.groupby("recipe", sort=False).size().to_dict()
    {'none': 20, 'magnitude@all=0.5': 20}
    """
    probe = dict(locals())
    models, recipes = (_several(name, probe.pop(name)) for name in ("models", "recipes"))
    from kc_utils.probing.probe import Probe
    from kc_utils.study.cells import Cell
    from kc_utils.study.store import evaluate as results_of
    from kc_utils.study.store import failure

    for name in ("relations", "protocols", "tasks"):
        probe[name] = [probe[name]] if isinstance(probe[name], str) else probe[name]
    try:
        wanted = Probe(**probe)
    except ValidationError as error:
        raise BadRequest(explain(error, Probe)) from error
    first = [] if wanted.relearn_steps else ["none"]
    cells = list(dict.fromkeys(Cell.of(model, recipe, wanted) for model in models for recipe in [*first, *recipes]))
    if not cells:
        raise BadRequest("nothing to evaluate: name a model, and with relearn_steps a recipe")
    done = results_of(cells)
    found = table_of(done)
    found.attrs["left_out"] = left_out(found, wanted, models)
    found.attrs["probe"] = wanted.model_dump(mode="json")
    found.attrs["failed"] = {f"{c.model}, {c.recipe}": failure(c.key)["why"] for c in cells if c not in done}
    return found


def table_of(results: Mapping[Cell, CellResult]) -> pd.DataFrame:
    """Put the rows of finished evaluations below one another, each with its model, recipe, probe and report."""
    parts, about = [result.rows for result in results.values()], []
    for cell, result in results.items():
        origin = f"{RECORD}{result.record['recorded']['study']}" if "recorded" in result.record else "here"
        shared = _shared(origin, cell.model, cell.probe.model_dump(mode="json"))
        about.append(shared | {"recipe": cell.recipe} | reported(result.report))
    frame = pd.concat(parts, ignore_index=True)
    repeated = pd.DataFrame(about).loc[[i for i, part in enumerate(parts) for _ in range(len(part))]]
    return _ordered(frame.assign(**repeated.set_index(frame.index)))


def left_out(rows: pd.DataFrame, probe: Probe, models: Sequence[str]) -> dict[str, str]:
    """State for each protocol how many facts it cannot evaluate, and why; a protocol that evaluates all is left out."""
    from kc_utils.models.registry import resolve

    found, size = {}, len(probe.factset())
    there = rows.drop_duplicates(["model", "protocol", "fact"]).groupby(["model", "protocol"]).size()
    for protocol, model in ((p, m) for p in probe.protocols for m in models if size):
        if missing := size - int(there.get((model, protocol), 0)):
            ranked = NO_OTHER if protocol == "rank-other" else NO_SET if probe.candidates == "sets" else ONE_ANSWER
            why = LEFT_OUT.get((protocol.removeprefix("openbook-"), resolve(model).family), ranked)
            named = f"{model}, " * (len(models) > 1)
            found.setdefault(protocol, []).append(f"{named}{missing} of {size} facts: {why}")
    return {protocol: "; ".join(lines) for protocol, lines in found.items()}


def results(
    study: str | None = None,
    models: str | Sequence[str] = (),
    recipes: str | Sequence[str] = (),
    protocols: str | Sequence[str] = (),
    facts: str | Sequence[str] = (),
) -> pd.DataFrame:
    """Return the rows of every finished evaluation at hand: studies finished on this machine, then the results of record.

    study: only of this one, else of all but `APART`; models, recipes, protocols, facts: only these names or patterns, such as
    `lab:*`. Columns are those of `evaluate` without the scores of single candidates; `origin` is the study, or "record of" it.
    What several origins hold of one model and probe is taken from the first, so that baselines stay beside their recipes.
    Raises BadRequest where nothing fits.

    >>> import kc_utils as kc
    >>> rows = kc.results(models="lab:decoder-small-*", facts="lab", recipes=["none", "rtn@all=2"])
    >>> sorted(set(rows["recipe"]))
    ['none', 'rtn@all=2']
    """
    models, recipes, protocols, facts = (
        (v,) if isinstance(v, str) else tuple(v or ()) for v in (models, recipes, protocols, facts)
    )
    parts, taken, there = [], {}, {}
    for origin, file in files_at_hand(study):
        model, probe = file.model, file.shared["probe"]
        there.setdefault("models", set()).add(model), there.setdefault("facts", set()).add(facts_of(probe))
        if not fits(model, models) or not fits(facts_of(probe), facts):
            continue
        there.setdefault("recipes", set()).update(file.cells)
        reports = {recipe: reported(own["report"]) for recipe, own in file.cells.items() if fits(recipe, recipes)}
        if reports and taken.setdefault((model, short_hash(probe)), origin) == origin:
            rows = _unpacked(record.content_of(file.path, file.sha256), reports)
            if protocols:
                rows = rows[rows["protocol"].map({p: fits(p, protocols) for p in rows["protocol"].unique()})]
            done = {name: rows["recipe"].map({r: own[name] for r, own in reports.items()}) for name in REPORTED}
            parts.append(rows.assign(**_shared(origin, model, probe), **done))
    if not sum(map(len, parts)):
        known = "; ".join(f"{what}: {listed(sorted(names), 8)}" for what, names in there.items()) or "nothing at all"
        raise BadRequest(f"no finished evaluation fits; there are, of {study or 'all studies'}, {known}")
    frame = pd.concat(parts, ignore_index=True)
    whole = [c for c, kind in frame.dtypes.items() if isinstance(kind, pd.BooleanDtype) and not frame[c].isna().any()]
    return _ordered(frame.astype(dict.fromkeys(whole, bool)))


def files_at_hand(study: str | None = None) -> Iterator[tuple[str, RecordedFile]]:
    """Yield the files of rows of everything that is finished, each with its origin."""
    for folder, prefix in ((finished_dir(), ""), (reference_dir(), RECORD)):
        for name in (n for n in record.studies(folder) if n == study or (study is None and n not in APART)):
            for entry in record.read_listing(folder / name / record.INDEX):
                with suppress(MissingData):  # `record.load(study).problems` says so
                    yield prefix + name, record.opened(folder / name / entry["file"], entry["sha256"])


def _unpacked(content: bytes, recipes: Iterable[str]) -> pd.DataFrame:
    """The rows of these recipes in a packed file, without the scores of single candidates; other files hold scores of another
    type."""
    file = pa.BufferReader(content)
    columns = [name for name in pq.read_schema(file).names if name != packing.LIST]
    wanted = [("recipe", "in", list(recipes))]
    table = pq.read_table(file, columns=columns, filters=wanted, read_dictionary=list(TEXTS))
    frame = table.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get, ignore_metadata=True)
    numbers = [name for name in (*packing.SCORES, "correct_norm") if name in frame]
    return frame.astype(dict.fromkeys(TEXTS, object) | dict.fromkeys(numbers, float))


def _shared(origin: str, model: str, probe: Mapping) -> dict:
    what = {"facts": facts_of(probe), "probe": short_hash(probe), "shots": probe["shots"]}
    return {"origin": origin, "model": model} | what


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    first, last = ["model", "recipe"], ["shots", "facts", "probe", "origin"]
    return frame[[*first, *frame.columns.difference([*first, *last], sort=False), *last]]


def reported(report: Mapping) -> dict[str, float]:
    """Return what every row carries of a report, as numbers."""
    found = {name: report.get(name) for name in REPORTED}
    found["touched_fraction"], found["sparsity"] = found["touched_fraction"] or 0.0, found["sparsity"] or 0.0
    if found["weights_removed"] is None:
        found["weights_removed"] = found["sparsity"] * report.get("weights_touched", 0)
    return {name: float("nan") if value is None else float(value) for name, value in found.items()}


def source_of(probe: Mapping) -> str:
    """Name what a probe evaluates: `lama:trex`, `boolq+piqa`, `wikitext2`."""
    return "+".join(filter(None, [probe["facts"], *probe["tasks"], Path(probe["text"] or "").stem]))


def facts_of(probe: Mapping) -> str:
    """Name the facts of a probe, or what it evaluates instead of facts."""
    return probe["facts"] or source_of(probe)


def short_hash(probe: Mapping) -> str:
    """Return eight characters that identify a probe."""
    return hashlib.sha256(json.dumps(probe, sort_keys=True).encode()).hexdigest()[:8]


def fits(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches one of these patterns, or there are none."""
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _several(what: str, values: str | Iterable[str]) -> list[str]:
    """One name or several as a list. Raises BadRequest for anything else."""
    found = [values] if isinstance(values, str) else list(values) if isinstance(values, Iterable) else [values]
    if wrong := [v for v in found if not isinstance(v, str)]:
        raise BadRequest(f"{what} are names, got {wrong[0]!r}")
    return found
