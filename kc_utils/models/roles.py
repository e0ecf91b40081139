"""What a weight matrix does (its role), how an architecture is described, and how a scope names a set of roles.

Nothing here needs torch or a model: a scope name is checked before anything is loaded, and an architecture that the
table (`architectures.yaml`) lacks is described in a study file in the same words.

Roles. In the blocks: `attention.query`, `.key`, `.value`, `.qkv` (fused), `.output`; `feed_forward.up`, `.gate`,
`.gate_up` (fused), `.down`. Outside them: `head` (the vocabulary matrix), `transform` (the dense layer before it in a
masked model), `projection` (between embedding and hidden width), `pooler`, `embedding` (token, position, type,
relative position).

Scopes. `[encoder.|decoder.]KIND[.FINE][LAYERS]`, for example `all`, `attention.qkv`, `decoder.cross_attention`,
`feed_forward.up[0-3]`. `all` is every block matrix: not the head, not the embeddings. LAYERS is `[first-last]`, both
included and counted from 0, or `[layer]`; in an encoder-decoder it applies to both stacks unless one is named.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from kc_utils.errors import BadRequest, explain, listed

ATTENTION = ("query", "key", "value", "qkv", "output")
FEED_FORWARD = ("up", "gate", "gate_up", "down")
OUTSIDE = ("head", "transform", "projection", "pooler", "embedding")
PRESETS = ("consistent", "paper")
Patterns = Annotated[tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)]
"""One module path or several, matched from the right at dots; `*` stands for a number."""


class Stack(BaseModel):
    """One stack of layers: where its layers are, and which module in a layer has which role."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: str
    attention: dict[Literal[ATTENTION], Patterns] = {}
    cross_attention: dict[Literal[ATTENTION], Patterns] = {}
    feed_forward: dict[Literal[FEED_FORWARD], Patterns] = {}


class Architecture(BaseModel):
    """One row of the table of architectures: a module path for each role.

    `paper_qkv_only` marks the two encoders whose attention scope is query, key and value in the code of Namburi et
    al. (2023), and whose feed-forward scope there holds the attention output projection.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["encoder", "encoder-decoder", "decoder"]
    encoder: Stack | None = None
    decoder: Stack | None = None
    head: Patterns = ()
    transform: Patterns = ()
    projection: Patterns = ()
    pooler: Patterns = ()
    embedding: Patterns = ()
    paper_qkv_only: bool = False

    @model_validator(mode="after")
    def _has_a_stack(self):
        if self.encoder is None and self.decoder is None:
            raise ValueError("an architecture needs an encoder or a decoder")
        return self

    @classmethod
    def read(cls, description: "Architecture | Mapping") -> "Architecture":
        """The description of a study file as an Architecture. Raises BadRequest when it is not one."""
        if isinstance(description, Architecture):
            return description
        try:
            return cls.model_validate(description)
        except ValidationError as error:
            raise BadRequest(
                f"architecture description: {explain(error, cls)}; write it like a row of kc_utils/models/architectures.yaml"
            ) from None

    def rows(self) -> list[tuple[re.Pattern, str, str]]:
        """(pattern of a module's name, role, part); a pattern's groups are the numbers of the layer."""
        rows = []
        for part, stack in (("encoder", self.encoder), ("decoder", self.decoder)):
            if stack is None:
                continue
            for kind, names, where in (
                ("attention", stack.attention, part),
                ("attention", stack.cross_attention, "cross"),
                ("feed_forward", stack.feed_forward, part),
            ):
                for fine, paths in names.items():
                    rows += [(_pattern(f"{stack.layers}.{path}"), f"{kind}.{fine}", where) for path in paths]
        for role in OUTSIDE:
            rows += [(_pattern(path), role, "model") for path in getattr(self, role)]
        return rows


ARCHITECTURES: dict[str, Architecture] = {
    name: Architecture.model_validate(row)
    for name, row in yaml.safe_load(Path(__file__).with_name("architectures.yaml").read_text(encoding="utf-8")).items()
}
"""The table: transformers' `model_type` -> its row."""


def _pattern(path: str) -> re.Pattern:
    return re.compile(r"(?:.*\.)?" + re.escape(path).replace(r"\*", r"(\d+)"))


def _names() -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """Every scope name with the parts and the roles it covers."""
    fine = {
        "attention": {"": ATTENTION, ".qkv": ("query", "key", "value", "qkv")}
        | {f".{name}": (name,) for name in ("query", "key", "value", "output")},
        "feed_forward": {"": FEED_FORWARD} | {f".{name}": (name,) for name in ("up", "gate", "down")},
    }
    roles = frozenset(f"{kind}.{role}" for kind in fine for role in fine[kind][""])
    whole, encoder, decoder, cross = ({"encoder", "decoder", "cross"}, {"encoder"}, {"decoder", "cross"}, {"cross"})
    names = {}
    for stack, parts in (("", whole), ("encoder.", encoder), ("decoder.", decoder)):
        names[stack[:-1] or "all"] = (frozenset(parts), roles)
        kinds = [("attention", "attention", parts)]
        if parts is decoder:
            kinds += [("self_attention", "attention", decoder - cross), ("cross_attention", "attention", cross)]
        for shown, kind, where in (*kinds, ("feed_forward", "feed_forward", parts)):
            for name, covered in fine[kind].items():
                names[stack + shown + name] = (frozenset(where), frozenset(f"{kind}.{c}" for c in covered))
    for role in ("head", "transform"):
        names[role] = (frozenset({"model"}), frozenset({role}))
    return names


SCOPES = _names()
_TEXT = re.compile(r"(?P<name>[a-z_.]+)(?:\[(?P<first>\d{1,4})(?:-(?P<last>\d{1,4}))?\])?")


@dataclass(frozen=True)
class Scope:
    """A set of roles, in all layers or in a range of them. `str()` gives the name back."""

    name: str
    layers: tuple[int, int] | None = None  # first and last, both included

    @classmethod
    def parse(cls, text: str) -> "Scope":
        """Read a scope's name. Raises BadRequest for a name, or a range, that no model could have."""
        match = _TEXT.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None or match["name"] not in SCOPES:
            raise BadRequest(
                f"unknown scope {text!r}; write one of {listed(SCOPES, 40)}, with layers as in attention[0-3] or attention[7]"
            )
        if match["first"] is None:
            return cls(match["name"])
        first, last = int(match["first"]), int(match["last"] or match["first"])
        if match["name"] in ("head", "transform"):
            raise BadRequest(f"scope {text!r}: {match['name']} is not in a layer; leave [..] out")
        if last < first:
            raise BadRequest(f"scope {text!r}: the range is empty; write the lower layer first")
        return cls(match["name"], (first, last))

    def __str__(self) -> str:
        if self.layers is None:
            return self.name
        first, last = self.layers
        return f"{self.name}[{first}]" if first == last else f"{self.name}[{first}-{last}]"

    def covers(self, role: str, part: str, layer: int | None) -> bool:
        """Whether a matrix of this role, in this part and layer, belongs to the scope (consistent definition)."""
        parts, roles = SCOPES[self.name]
        return part in parts and role in roles and self.has_layer(layer)

    def has_layer(self, layer: int | None) -> bool:
        return self.layers is None or (layer is not None and self.layers[0] <= layer <= self.layers[1])
