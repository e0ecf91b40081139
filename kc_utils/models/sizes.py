"""The size of a model before it is on this machine: counted from its shapes, without weights.

The shapes are those of a folder's `config.json` where the model lies on this machine, else of `shapes.yaml`.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict

from kc_utils.errors import BadRequest
from kc_utils.models.registry import resolve


class Shape(BaseModel):
    """A row of `shapes.yaml`: transformers' model_type and the settings that differ from its defaults.

    file_bytes: of the published file, where that holds the weights in fewer bits than a number of 16.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_type: str
    config: dict
    stored_bytes: int = 4
    file_bytes: int | None = None
    head_of_its_own: bool = False


class Size(NamedTuple):
    """parameters: weights, biases and norms, shared ones once; stored_bytes: of the weight files as fetched; applied: parameters
    that a token meets, those that layers share as often as there are layers."""

    parameters: int
    stored_bytes: int
    applied: int


@cache
def shapes() -> dict[str, Shape]:
    """The models whose shapes are known without a download, by id."""
    text = resources.files("kc_utils.models").joinpath("shapes.yaml").read_text(encoding="utf-8")
    return {name: Shape(**row) for name, row in yaml.safe_load(text).items()}


@cache
def size_of(model: str) -> Size:
    """The size of a model by id. Nothing is fetched. Raises BadRequest for one whose shapes are not known here."""
    import torch
    from transformers import AutoConfig

    from kc_utils.models.loading import CLASSES, folder_of
    from kc_utils.models.scopes import matrices, select

    entry, shape = resolve(model), shapes().get(model)
    if shape is not None:
        config = AutoConfig.for_model(shape.model_type, **shape.config)
    elif entry.kind in ("hub", "pypi"):
        raise BadRequest(f"the shapes of {entry.id} are not known without fetching it: add them to kc_utils/models/shapes.yaml")
    else:
        config = AutoConfig.from_pretrained(folder_of(entry), local_files_only=True)
    with torch.device("meta"):
        built = CLASSES[entry.family].from_config(config)
    parameters = sum(p.numel() for p in built.parameters())
    if shape is not None and shape.head_of_its_own:
        (head,) = select(built, "head")
        parameters += head.numel if head.tied else 0
    applied, groups = (parameters, getattr(config, "num_hidden_groups", None))  # of ALBERT: layers of a group share weights
    if groups:
        applied += (config.num_hidden_layers // groups - 1) * sum(m.numel for m in matrices(built) if m.layer is not None)
    return Size(parameters, parameters * (shape.stored_bytes if shape is not None else 4), applied)
