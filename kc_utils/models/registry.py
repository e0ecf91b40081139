"""The models that can be named in a study: a table read from `registry.yaml`, the project's own models of the lab
(`lab:NAME`), and `path:DIR` for any local folder."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from kc_utils import lab
from kc_utils.errors import BadModel, BadRequest, MissingData, listed

FAMILIES = ("encoder", "encoder-decoder", "decoder")
Family = Literal["encoder", "encoder-decoder", "decoder"]
Group = Literal["default", "lab", "paper", "current", "local"]


class ModelEntry(BaseModel):
    """One row of the registry. `ran_here` says whether the published results hold runs of it.

    architecture: a row of `architectures.yaml`, for a folder what its `config.json` says; group: why the model is
    listed; revision: the commit of a hub: repository, 40 hexadecimal digits; gated: the hub asks for a login
    and an accepted licence; file, sha256: the model file in a package, and its hash; beside: names and hashes of the
    configuration and tokenizer files next to it, where they are not inside it; opens_with: the token that parted
    documents in training, where the tokenizer names another one to begin with, or none: statements begin with it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    family: Family
    architecture: str | None = None
    group: Group = "local"
    source: str
    revision: str | None = None
    file: str | None = None
    sha256: str | None = None
    beside: dict[str, str] = {}
    opens_with: str | None = None
    licence: str = "unknown"
    gated: bool = False
    ran_here: bool = False
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _complete(self):
        if self.kind not in ("pypi", "hub", "lab", "path"):
            raise ValueError(f"{self.id}: source {self.source!r} must begin with pypi:, hub:, lab: or path:")
        if self.kind == "pypi" and ("==" not in self.address or not self.file or not self.sha256):
            raise ValueError(f"{self.id}: a pypi: source needs PACKAGE==VERSION, file and sha256")
        return self

    @property
    def kind(self) -> str:
        return self.source.partition(":")[0]

    @property
    def address(self) -> str:
        return self.source.partition(":")[2]


@cache
def registry() -> dict[str, ModelEntry]:
    """Every registered model by id, in the order of the file, then the models of the lab."""
    text = resources.files("kc_utils.models").joinpath("registry.yaml").read_text(encoding="utf-8")
    try:
        return {name: ModelEntry(id=name, **row) for name, row in (yaml.safe_load(text) | lab.entries()).items()}
    except ValidationError as error:
        raise BadRequest(f"kc_utils/models/registry.yaml: {error.errors()[0]['msg']}") from error


def list_models() -> pd.DataFrame:
    """The models that can be loaded by id, one row each: model, family, group, source, licence, ran_here (whether the published
    results hold runs of it). Any local folder loads as `path:DIR`.

    >>> list_models().head(2)[["model", "family", "licence"]]
                  model   family     licence
    0      smollm2-135m  decoder  Apache-2.0
    1  splade-bert-tiny  encoder  Apache-2.0
    """
    columns = ("family", "group", "source", "licence", "ran_here")
    return pd.DataFrame([{"model": e.id} | {c: getattr(e, c) for c in columns} for e in registry().values()])


def resolve(model_id: str) -> ModelEntry:
    """The entry of a model id. `path:DIR` is read from the folder's `config.json`.

    Raises BadRequest for an unknown id, MissingData for a folder that is not there, BadModel for one without a
    language-model head.
    """
    if model_id.startswith("path:"):
        return _entry_of_folder(model_id)
    if model_id not in registry():
        if model_id.startswith("lab:"):  # unknown, damaged, or trained since the registry was read
            return ModelEntry(id=model_id, **lab.entry(model_id.removeprefix("lab:")))
        raise BadRequest(f"unknown model {model_id!r}: choose {listed(registry(), 30)}, or path:DIR for a local folder")
    return registry()[model_id]


def _entry_of_folder(model_id: str) -> ModelEntry:
    folder = Path(model_id.removeprefix("path:")).expanduser().resolve()
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise MissingData(f"{model_id}: {folder} holds no config.json; give a folder written by save_pretrained")
    try:
        config = dict(json.loads(config_file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:  # TypeError, ValueError: JSON, but not a mapping
        raise BadModel(
            f"{model_id}: {config_file} is not valid JSON of a model ({error}); download or save the model again"
        ) from error
    kind = config.get("model_type")
    return ModelEntry(
        id=model_id,
        family=family_of_config(config, model_id),
        architecture=kind if isinstance(kind, str) else None,
        source=f"path:{folder}",
        licence="local",
    )


def family_of_config(config: dict, name: str) -> Family:
    """The family that a `config.json` describes, by its architecture class."""
    architectures = config.get("architectures") or []
    for architecture in architectures:
        if architecture.endswith("ForMaskedLM"):
            return "encoder"
        if architecture.endswith("ForConditionalGeneration") or config.get("is_encoder_decoder"):
            return "encoder-decoder"
        if architecture.endswith(("ForCausalLM", "LMHeadModel")):
            return "decoder"
    raise BadModel(
        f"{name}: architectures {architectures} have no language-model head; "
        "this study needs ...ForMaskedLM, ...ForConditionalGeneration or ...ForCausalLM"
    )
