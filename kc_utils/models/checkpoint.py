"""A folder of safetensors as it lies on disk: which tensor is where, and which parameter of the model it is.

Nothing is loaded: the headers of the files are read, and the model is built without weights (torch's meta device) to
learn its module names. A file is a length (8 bytes, little endian), a JSON header of that length with dtype, shape and
byte range of each tensor, and the bytes one after the other (https://github.com/huggingface/safetensors, "Format").
"""

import json
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from kc_utils.errors import BadModel, KCError, listed
from kc_utils.models.loading import CLASSES

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """One tensor in a file. key: its name there; start: of its bytes in the file; nbytes: how many they are."""

    key: str
    file: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    nbytes: int


@dataclass(frozen=True)
class Checkpoint:
    """The weight files of a folder. files: in order; tensors: by key; metadata: of each file's header."""

    folder: Path
    files: tuple[str, ...]
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, Mapping[str, str]]

    @classmethod
    def open(cls, folder: Path) -> "Checkpoint":
        """Read the headers. Raises BadModel for a folder without safetensors, and for damaged or incomplete files."""
        files = _weight_files(folder)
        tensors, metadata = {}, {}
        for file in files:
            found, metadata[file] = _read_header(folder / file)
            if twice := tensors.keys() & found.keys():
                raise BadModel(f"{folder}: {listed(sorted(twice), 3)} is in two files; save the model again")
            tensors |= found
        return cls(folder, files, tensors, metadata)

    @property
    def nbytes(self) -> int:
        """Size of all weight files."""
        return sum((self.folder / file).stat().st_size for file in self.files)

    def with_copies(self, sources: Mapping[str, str], folder: Path) -> tuple["Checkpoint", dict[str, bytes]]:
        """The same checkpoint in another folder, with further tensors, and the first bytes of each of its files.

        sources: new key -> the key of a tensor of this one that has the same dtype, shape and file. Files without new
        tensors keep the order of theirs; others are ordered as safetensors orders them, by dtype and name.
        """
        tensors, heads = {}, {}
        for file in self.files:
            rows = sorted((t for t in self.tensors.values() if t.file == file), key=lambda t: t.start)
            added = [replace(self.tensors[old], key=new) for new, old in sources.items()]
            added = [t for t in added if t.file == file]
            if added:
                rows = sorted(rows + added, key=lambda t: (-t.dtype.itemsize, t.key))
            heads[file], rows = _write_header(rows, self.metadata[file])
            tensors |= {t.key: t for t in rows}
        return Checkpoint(folder, self.files, tensors, self.metadata), heads

    def check_equal(self, other: "Checkpoint") -> None:
        """BadModel unless both hold the same tensors at the same places."""
        if dict(self.tensors) != dict(other.tensors) or self.files != other.files:
            raise BadModel(f"{self.folder}: what was written is not what was meant; the disk may be failing")


class Files:
    """Reads, or writes, tensors of a checkpoint one at a time. A context manager that holds the files open."""

    def __init__(self, checkpoint: Checkpoint, heads: Mapping[str, bytes] | None = None):
        """heads: make the files anew, of their full size, with these first bytes; without it, open them to read."""
        self.checkpoint, self.open = checkpoint, {}
        try:
            for file in checkpoint.files:
                self.open[file] = (checkpoint.folder / file).open("rb" if heads is None else "w+b")
                if heads is not None:
                    end = max((t.start + t.nbytes for t in checkpoint.tensors.values() if t.file == file), default=0)
                    self.open[file].truncate(max(end, len(heads[file])))
                    self.open[file].write(heads[file])
        except BaseException:
            self.close()
            raise

    def read(self, tensor: Stored, buffer: torch.Tensor) -> torch.Tensor:
        """The tensor, in the first bytes of `buffer` (uint8), which the next tensor may take again."""
        part = buffer[: tensor.nbytes]
        file = self.open[tensor.file]
        file.seek(tensor.start)
        if file.readinto(memoryview(part.numpy())) != tensor.nbytes:
            raise BadModel(f"{self.checkpoint.folder / tensor.file} ends before {tensor.key}; download the model again")
        return part.view(tensor.dtype).view(tensor.shape)

    def write(self, tensor: Stored, values: torch.Tensor) -> None:
        """values: contiguous, of the tensor's dtype and shape."""
        file = self.open[tensor.file]
        file.seek(tensor.start)
        file.write(memoryview(values.reshape(-1).view(torch.uint8).numpy()))

    def close(self) -> None:
        for file in self.open.values():
            file.close()

    def __enter__(self) -> "Files":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def skeleton(folder: Path, family: str) -> nn.Module:
    """The model of a folder without weights, on the meta device; its config is the folder's.

    Raises BadModel for a config that transformers does not build a model from, and for a quantized model.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if getattr(config, "quantization_config", None):
            raise BadModel(f"{folder} is quantized already; use the original model")
        with torch.device("meta"):
            return CLASSES[family].from_config(config, trust_remote_code=False).eval()
    except KCError:
        raise
    except Exception as error:  # each config class raises its own
        reason = " ".join(str(error).split())[:300]
        raise BadModel(f"{folder}: config.json describes no model that can be built ({reason})") from error


def keys_of_parameters(model: nn.Module, checkpoint: Checkpoint) -> dict[str, str]:
    """Name of each parameter and buffer that the checkpoint holds -> its key there.

    Keys are translated as transformers does when it loads: renamings of its own, old names (`gamma`), a prefix of the
    base model that is there or not. model: from `skeleton`. Tied parameters that the checkpoint holds with different
    values are untied in the model, as loading does.

    Raises BadModel when the checkpoint lacks a parameter, holds it in another shape, or only fused with others.
    """
    state = model.state_dict()
    transforms = get_model_conversion_mapping(model)
    renamings = [t for t in transforms if isinstance(t, WeightRenaming)]
    converters = [t for t in transforms if isinstance(t, WeightConverter)]
    keys, fused = {}, []
    for key in sorted(checkpoint.tensors):
        name, pattern = rename_source_key(key, renamings, converters, model.base_model_prefix, state)
        if name not in state and key in state:
            name, pattern = key, None
        if pattern is not None:
            fused.append(key)
        elif name in state:
            if name in keys:
                raise BadModel(f"{checkpoint.folder}: {keys[name]} and {key} are both {name}; save the model again")
            keys[name] = key
    _check_complete(model, checkpoint, keys, fused)
    _untie_what_differs(model, checkpoint, keys)
    return keys


def _check_complete(model: nn.Module, checkpoint: Checkpoint, keys: Mapping[str, str], fused: list[str]) -> None:
    for name, key in keys.items():
        shape = tuple(model.get_parameter_or_buffer(name).shape)
        if shape != checkpoint.tensors[key].shape:
            raise BadModel(
                f"{checkpoint.folder}: {key} has the shape {checkpoint.tensors[key].shape}, config.json asks for {shape}"
            )
    ignored = [re.compile(p) for p in getattr(model, "_keys_to_ignore_on_load_missing", None) or ()]
    missing = [
        names[0]
        for names in shared_names(model)
        if not keys.keys() & set(names) and not any(p.search(n) for p in ignored for n in names)
    ]
    if missing and fused:
        raise BadModel(
            f"{checkpoint.folder} stores weights fused or stacked ({listed(fused, 3)}), which are taken apart only when "
            "the model is loaded; load it and save it with save_pretrained(save_original_format=False) first"
        )
    if missing:
        raise BadModel(f"{checkpoint.folder} lacks weights that its architecture needs: {listed(missing, 5)}")


def shared_names(model: nn.Module) -> Iterator[list[str]]:
    """The names of each parameter, several for a tied one, in module order."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    yield from names.values()


def _untie_what_differs(model: nn.Module, checkpoint: Checkpoint, keys: Mapping[str, str]) -> None:
    for names in list(shared_names(model)):
        first, *others = [name for name in names if name in keys] or [None]
        for name in others:
            if not _equal(checkpoint, keys[first], keys[name]):
                module, _, attribute = name.rpartition(".")
                own = nn.Parameter(torch.empty_like(model.get_parameter(name)), requires_grad=False)
                setattr(model.get_submodule(module), attribute, own)
                tied = getattr(model, "all_tied_weights_keys", {})
                for target in [t for t, source in tied.items() if {t, source} == {first, name}]:
                    del tied[target]


def _equal(checkpoint: Checkpoint, one: str, other: str, piece: int = 1 << 22) -> bool:
    a, b = checkpoint.tensors[one], checkpoint.tensors[other]
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    buffers = torch.empty(piece, dtype=torch.uint8), torch.empty(piece, dtype=torch.uint8)
    with Files(checkpoint) as files:
        for start in range(0, a.nbytes, piece):
            size = min(piece, a.nbytes - start)
            pair = [
                files.read(replace(t, dtype=torch.uint8, shape=(size,), start=t.start + start, nbytes=size), buffer)
                for t, buffer in zip((a, b), buffers, strict=True)
            ]
            if not torch.equal(*(part.view(a.dtype) for part in pair)):
                return False
    return True


def _weight_files(folder: Path) -> tuple[str, ...]:
    if (folder / SINGLE).is_file():  # transformers looks for this one first
        return (SINGLE,)
    if not (folder / INDEX).is_file():
        raise BadModel(f"{folder} holds neither {SINGLE} nor {INDEX}; pickled weights are not read, convert them first")
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        files = tuple(sorted(set(index["weight_map"].values())))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadModel(f"{folder / INDEX} is not an index of weight files; download the model again") from error
    absent = [f for f in files if os.path.basename(f) != f or not (folder / f).is_file()]
    if absent or not files:
        raise BadModel(f"{folder} lacks the weight files {listed(absent, 3)} of its index; download the model again")
    return files


def _read_header(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    try:
        with safe_open(path, framework="pt"):
            pass  # the library checks the header against the size of the file
    except Exception as error:  # the library has one kind of error for all, and the system others
        raise BadModel(f"{path} is damaged ({error}); download or save the model again") from error
    with path.open("rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for key, row in header.items():
        if row["dtype"] not in DTYPES:
            raise BadModel(f"{path}: {key} is stored as {row['dtype']}; use a model in 16 or 32 bits")
        begin, end = row["data_offsets"]
        shape = tuple(row["shape"])
        tensors[key] = Stored(key, path.name, DTYPES[row["dtype"]], shape, 8 + size + begin, end - begin)
    return tensors, metadata


def _write_header(rows: list[Stored], metadata: Mapping[str, str]) -> tuple[bytes, list[Stored]]:
    """First bytes of a file with these tensors in this order, and the tensors with their places in it."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header, place = ({"__metadata__": dict(metadata)} if metadata else {}), 0
    for t in rows:
        offsets = [place, place := place + t.nbytes]
        header[t.key] = {"dtype": names[t.dtype], "shape": list(t.shape), "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    head = struct.pack("<Q", len(text)) + text
    placed = [replace(t, start=len(head) + header[t.key]["data_offsets"][0]) for t in rows]
    return head, placed
