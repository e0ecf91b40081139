"""Prune a model's folder tensor by tensor, for models larger than the memory.

The source is read once to check that all weights are finite and, where a step cuts by magnitude over its whole scope,
to count (float32 weights twice); then once more to prune and write, one tensor in memory at a time. A later step sees
what the earlier ones left: they are done again while it counts. Scopes and the order of ties come from the model built
without weights (`kc_utils/models/checkpoint.py`), and the methods' own code prunes (`tensor_by_tensor.py`), so that the
result is, bit for bit, that of loading the model in the precision of its files, `apply` and `save_pretrained`.

Memory: the largest tensor, and less than BUFFER beside it.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from kc_utils.compression.apply import planned
from kc_utils.compression.magnitude import DTYPES
from kc_utils.compression.recipe import Recipe, modules_of
from kc_utils.compression.tensor_by_tensor import Work, count_not_finite, count_zeros, holding, work_of
from kc_utils.errors import BadModel, BadRequest, BadResult, MissingData, listed
from kc_utils.models.checkpoint import (
    INDEX,
    SINGLE,
    Checkpoint,
    Files,
    Stored,
    keys_of_parameters,
    shared_names,
    skeleton,
)
from kc_utils.models.registry import resolve
from kc_utils.models.roles import Architecture
from kc_utils.models.scopes import Matrix
from kc_utils.places import complete_or_absent

BUFFER = 256 << 20  # bytes beside the largest tensor
METHODS = {f"kc_utils.compression.{name}" for name in ("magnitude", "random_weights", "rows", "n_of_m")}
OTHER_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx", ".ot")
RECORDS = ("kc.json", "compression.json")  # they say where the source's weights come from, not the target's


def can_prune(recipe: Recipe) -> bool:
    """Whether `prune_folder` does this recipe: one or more steps, all of methods that need no more than the weights."""
    return bool(recipe.steps) and set(modules_of(recipe)) <= METHODS


def prune_folder(
    source: Path,
    recipe: Recipe,
    target: Path,
    architecture: Architecture | Mapping | None = None,
    finish: Callable[[Path, dict], None] | None = None,
) -> dict:
    """Prune the model in the folder `source` into the new folder `target`; gives back the report.

    target appears whole or not at all, with the files of `source` that are not weights in another format; source is
    only read. architecture: the roles of a model that the table lacks; finish: called with the folder before it appears
    and the report, to write further files.

    The report holds `recipe`, `weights_model`, `weights_touched`, `touched_fraction`, `zeros`, `sparsity`,
    `sparsity_model`, `steps` and `per_matrix` as `Report.to_dict()` does, but for the sizes in bits, and `bytes_on_disk`
    of the weight files.

    Raises BadRequest for a recipe that does more than prune, a target that is there or inside the source, and what the
    recipe cannot do to this model; MissingData for a disk that is too small; BadModel for weights that are not finite,
    damaged or missing; BadResult when a step did less than it was asked for. Nothing is written before the weights have
    been found finite.
    """
    source, target = Path(source).expanduser().resolve(), Path(target).expanduser().resolve()
    if not can_prune(recipe):
        raise BadRequest(
            f"recipe {recipe}: only steps that prune by the weights alone are done out of core; load the model for others"
        )
    _check_places(source, target)
    entry = resolve(f"path:{source}")
    checkpoint = Checkpoint.open(source)
    model = skeleton(source, entry.family)
    was_tied = getattr(model.config, "tie_word_embeddings", False)
    keys = keys_of_parameters(model, checkpoint)
    held = _held(model, keys)  # before heads are untied
    plan = planned(model, recipe, architecture)
    items, added = _items(model, checkpoint, keys, held, [m for _, matrices in plan for m in matrices])
    out, heads = checkpoint.with_copies(added, target)
    others = _other_files(source)
    _check_disk(target, sum(t.nbytes for t in out.tensors.values()) + sum(f.stat().st_size for f in others))
    with Files(checkpoint) as files:
        pruning = _Pruning(items, [work_of(step, matrices) for step, matrices in plan], files)
        pruning.decide()
        with complete_or_absent(target) as scratch:
            scratch.mkdir()
            with Files(replace(out, folder=scratch), heads) as written:
                pruning.write(written)
            for file in others:
                shutil.copyfile(file, scratch / file.name)
            _write_index(scratch, out, checkpoint)
            if was_tied and not model.config.tie_word_embeddings:
                _say_untied(scratch / "config.json")
            out.check_equal(Checkpoint.open(scratch))
            report = pruning.report(recipe) | {"bytes_on_disk": sum((scratch / f).stat().st_size for f in out.files)}
            if finish:
                finish(scratch, report)
    return report


@dataclass(frozen=True)
class _Item:
    """One tensor of the source. places: its keys in the target; matrix: for what a step touches; counts: whether it is
    a parameter of the model, and not a buffer or a left-over of training."""

    source: str
    places: tuple[str, ...]
    matrix: Matrix | None
    counts: bool


class _Pruning:
    """The walks over the source: to decide, and to write."""

    def __init__(self, items: list[_Item], steps: list[Work], files: Files):
        self.items, self.steps, self.files = items, steps, files
        self.stored = files.checkpoint.tensors
        self.buffer = torch.empty(max((t.nbytes for t in self.stored.values()), default=0), dtype=torch.uint8)
        self.finite: set[str] = set()
        self.seconds = [0.0] * len(steps)

    def decide(self) -> None:
        """Let each step decide what it decides over its whole scope, and look at every weight once."""
        for number, work in enumerate(self.steps):
            begin = time.perf_counter()
            touched = [i for i in self.items if i.matrix and i.matrix.name in work.names]
            dtypes = {self.stored[i.source].dtype for i in touched}
            if strange := dtypes - set(DTYPES):
                raise BadModel(f"weights of dtype {strange.pop()} cannot be pruned; use a model in float32 or bfloat16")
            work.decide(lambda number=number: self._found_by(number), dtypes)
            self.seconds[number] = time.perf_counter() - begin
        for item in self._walk([i for i in self.items if i.source not in self.finite], "check"):
            self._read(item)

    def _found_by(self, number: int) -> Iterator[torch.Tensor]:
        """The weights of a step's scope as it finds them, in module order, one at a time."""
        work, before = self.steps[number], self.steps[:number]
        for earlier in before:
            earlier.begin()
        names = work.names.union(*(earlier.names for earlier in before if earlier.ordered))
        needed = [item for item in self.items if item.matrix and item.matrix.name in names]
        for item in self._walk(needed, f"count for {work.step}"):
            tensor = self._read(item)
            for earlier in before:
                if item.matrix.name in earlier.names:
                    earlier.prune(holding(item.matrix, tensor))
            if item.matrix.name in work.names:
                yield tensor

    def write(self, written: Files) -> None:
        """Prune and write every tensor. Raises BadResult when a step leaves fewer zeros than it was asked for."""
        self.rows: list[dict] = []
        self.elements = self.all_zeros = 0
        self.zeros, asked = [0] * len(self.steps), [work.asked for work in self.steps]
        for work in self.steps:
            work.begin()
        for item in self._walk(self.items, "prune and write"):
            tensor = self._read(item)
            zeros = None
            for number, work in enumerate(self.steps):
                if item.matrix is None or item.matrix.name not in work.names:
                    continue
                begin = time.perf_counter()
                asked[number] += work.prune(holding(item.matrix, tensor))
                zeros = count_zeros(tensor)
                self.zeros[number] += zeros
                self.seconds[number] += time.perf_counter() - begin
            for key in item.places:
                written.write(written.checkpoint.tensors[key], tensor)
            if item.counts:
                self._count(item.matrix, tensor.numel(), count_zeros(tensor) if zeros is None else zeros)
        for work, zeros, wanted in zip(self.steps, self.zeros, asked, strict=True):
            if zeros < wanted:
                raise BadResult(f"recipe step {work.step}: {wanted} zeros were asked for, {zeros} were made")

    def _count(self, matrix: Matrix | None, numel: int, zeros: int) -> None:
        self.elements += numel
        self.all_zeros += zeros
        if matrix:
            row = {"name": matrix.name, "role": matrix.role, "part": matrix.part, "layer": matrix.layer}
            self.rows.append(row | {"numel": numel, "zeros": zeros})

    def report(self, recipe: Recipe) -> dict:
        touched, zeros = sum(row["numel"] for row in self.rows), sum(row["zeros"] for row in self.rows)
        steps = []
        for work, made, seconds in zip(self.steps, self.zeros, self.seconds, strict=True):
            weights = sum(work.sizes.values())
            steps.append(
                {"step": str(work.step), "method": work.step.method, "scope": work.step.scope}
                | {"matrices": len(work.names), "weights": weights, "zeros": made, "sparsity": made / weights}
                | {"seconds": round(seconds, 4)}
            )
        return {
            "recipe": str(recipe),
            "weights_model": self.elements,
            "weights_touched": touched,
            "touched_fraction": touched / self.elements,
            "zeros": zeros,
            "sparsity": zeros / touched,
            "sparsity_model": self.all_zeros / self.elements,
            "steps": steps,
            "per_matrix": self.rows,
        }

    def _read(self, item: _Item) -> torch.Tensor:
        """The tensor in the one buffer there is. Raises BadModel, at the first reading, for NaN and infinity."""
        tensor = self.files.read(self.stored[item.source], self.buffer)
        if item.source not in self.finite:
            if bad := count_not_finite(tensor):
                raise BadModel(
                    f"{item.source}: {bad} of {tensor.numel()} weights are NaN or infinite; get another copy of the model"
                )
            self.finite.add(item.source)
        return tensor

    def _walk(self, items: list[_Item], doing: str) -> Iterator[_Item]:
        total = sum(self.stored[i.source].nbytes for i in items)
        with tqdm(total=total, desc=doing, unit="B", unit_scale=True, leave=False, mininterval=0.5) as bar:
            for item in items:
                yield item
                bar.update(self.stored[item.source].nbytes)


def _held(model: nn.Module, keys: Mapping[str, str]) -> dict[str, str]:
    """Every name of every parameter -> the key that it is loaded from: for a tied one that of any of its names."""
    held = {}
    for names in shared_names(model):
        found = next((keys[name] for name in names if name in keys), None)
        held |= {name: found for name in names if found}
    return held


def _items(
    model: nn.Module, checkpoint: Checkpoint, keys: Mapping[str, str], held: Mapping[str, str], touched: list[Matrix]
) -> tuple[list[_Item], dict[str, str]]:
    """All tensors, parameters first and in module order, and the new keys of heads that share one no more."""
    matrices = {m.name: m for m in touched}
    items, added, seen = [], {}, set()
    for names in shared_names(model):
        if names[0] not in held:
            continue
        source, places = held[names[0]], [keys[name] for name in names if name in keys]
        if not places:
            places = names[:1]
            added[names[0]] = source
        seen.update(places)
        items.append(_Item(source, tuple(places), next((matrices[n] for n in names if n in matrices), None), True))
    if lost := matrices.keys() - {i.matrix.name for i in items if i.matrix}:
        raise BadModel(f"{checkpoint.folder} holds no {listed(sorted(lost), 5)}; load and save the model first")
    if clash := added.keys() & checkpoint.tensors.keys():
        raise BadModel(
            f"{checkpoint.folder} holds a tensor {clash.pop()} that is not the model's; save the model again"
        )
    return items + [_Item(key, (key,), None, False) for key in checkpoint.tensors if key not in seen], added


def _check_places(source: Path, target: Path) -> None:
    if target == source or source in target.parents:
        raise BadRequest(f"{target} is in the folder of the model itself; choose a folder outside {source}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadRequest(f"{target} exists already and is not empty; choose another folder")


def _check_disk(target: Path, needed: int) -> None:
    place = next(parent for parent in target.parents if parent.exists())
    if (free := shutil.disk_usage(place).free) < needed:
        raise MissingData(
            f"{target} needs {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free in {place}; "
            "free some space or choose a folder on another disk"
        )


def _other_files(source: Path) -> list[Path]:
    """Config, tokenizer and the like; no weights in another format, which would still be the unpruned ones."""
    files = [f for f in sorted(source.iterdir()) if f.is_file() and f.name not in RECORDS]
    return [f for f in files if not f.name.removesuffix(".index.json").endswith(OTHER_WEIGHTS)]


def _write_index(folder: Path, out: Checkpoint, source: Checkpoint) -> None:
    """The index of a folder of several files: the source's, with what was added."""
    if out.files == (SINGLE,):
        return
    more = {key: t for key, t in out.tensors.items() if key not in source.tensors}
    index = json.loads((source.folder / INDEX).read_text(encoding="utf-8"))
    totals = dict(index.get("metadata") or {})
    for name, sizes in (
        ("total_size", (t.nbytes for t in more.values())),
        ("total_parameters", map(_numel, more.values())),
    ):
        if name in totals:
            totals[name] += sum(sizes)
    weight_map = {key: out.tensors[key].file for key in sorted(out.tensors)}
    text = json.dumps({**index, "metadata": totals, "weight_map": weight_map}, indent=2) + "\n"
    (folder / INDEX).write_text(text, encoding="utf-8")


def _numel(tensor: Stored) -> int:
    return tensor.nbytes // tensor.dtype.itemsize


def _say_untied(config: Path) -> None:
    settings = json.loads(config.read_text(encoding="utf-8")) | {"tie_word_embeddings": False}
    config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
