"""How large a model is, before it is on this machine: built without weights from its shapes.

The shapes are those of a folder's `config.json` where the model lies on this machine, else of `shapes.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from kc_utils.errors import BadRequest
from kc_utils.models.registry import ModelEntry, resolve


class Shape(BaseModel):
    """A row of `shapes.yaml`: transformers' model_type and the settings that differ from its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_type: str
    config: dict
    stored_bytes: int = 4
    head_of_its_own: bool = False


@dataclass(frozen=True)
class Size:
    """parameters: weights, biases and norms, shared ones once; stored_bytes: of the weight files as fetched; matrices:
    (outputs, inputs) of every matrix that a recipe may touch (the head among them), by scope `attention`, `feed_forward`
    or `head`, tied or not; layers_share: layers that one set of matrices serves, in ALBERT all; vocabulary: tokens it scores."""

    parameters: int
    stored_bytes: int
    matrices: tuple[tuple[str, int, int], ...]
    vocabulary: int
    layers_share: int = 1

    @property
    def body(self) -> int:
        """Multiplications of a token on its way through all layers: weights of attention and feed-forward, each as often as
        it is used."""
        return self.layers_share * sum(out * inputs for scope, out, inputs in self.matrices if scope != "head")

    @property
    def head(self) -> int:
        """Weights of the output matrix."""
        return sum(out * inputs for scope, out, inputs in self.matrices if scope == "head")

    def of_scope(self, scope: str) -> list[tuple[int, int]]:
        """Shapes of the matrices of `all` (attention and feed-forward), `attention`, `feed_forward` or `head`."""
        wanted = {"all": ("attention", "feed_forward")}.get(scope, (scope,))
        return [(outputs, inputs) for own, outputs, inputs in self.matrices if own in wanted]


@cache
def shapes() -> dict[str, Shape]:
    text = resources.files("kc_utils.models").joinpath("shapes.yaml").read_text(encoding="utf-8")
    return {name: Shape(**row) for name, row in yaml.safe_load(text).items()}


@cache
def size_of(model: str) -> Size:
    """The size of a model by id. Nothing is fetched. Raises BadRequest for one whose shapes are not known here."""
    import torch
    from transformers import AutoConfig

    from kc_utils.models.loading import CLASSES
    from kc_utils.models.scopes import matrices, select

    entry = resolve(model)
    shape = shapes().get(model)
    if shape is not None:
        config = AutoConfig.for_model(shape.model_type, **shape.config)
    else:
        config = AutoConfig.from_pretrained(_folder(entry), local_files_only=True)
    with torch.device("meta"):
        built = CLASSES[entry.family].from_config(config)
    rows = [(m.role.partition(".")[0], m.outputs, m.inputs) for m in matrices(built)]
    (head,) = select(built, "head")
    rows = [row for row in rows if row[0] in ("attention", "feed_forward")] + [("head", head.outputs, head.inputs)]
    parameters = sum(p.numel() for p in built.parameters())
    if shape is not None and shape.head_of_its_own and head.tied:
        parameters += head.numel
    stored = parameters * (shape.stored_bytes if shape is not None else 4)
    share = config.num_hidden_layers // config.num_hidden_groups if config.model_type == "albert" else 1
    return Size(parameters, stored, tuple(rows), int(config.vocab_size), share)


def _folder(entry: ModelEntry) -> Path:
    """The folder of a model that lies on this machine. Raises BadRequest for one that would have to be fetched."""
    from kc_utils.models.loading import folder_of

    if entry.kind in ("hub", "pypi"):
        raise BadRequest(
            f"the shapes of {entry.id} are not known without fetching it: add them to kc_utils/models/shapes.yaml"
        )
    return folder_of(entry)
