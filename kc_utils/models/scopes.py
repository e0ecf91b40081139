"""The weight matrices of a model, each with its role, and the sets of them that a scope names."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd
import torch
from torch import nn

from kc_utils.errors import BadModel, BadRequest, listed
from kc_utils.models.roles import ARCHITECTURES, PRESETS, SCOPES, Architecture, Scope
from kc_utils.models.stored import Quantized, quantized


@dataclass(frozen=True)
class Matrix:
    """One weight matrix.

    name: the parameter's name; module: the module that holds it; role: for example `attention.query`; part:
    `encoder`, `decoder`, `cross`, or `model` for what is in no block; layer: counted from 0, None outside the blocks;
    shape: as stored; transposed: stored as (in, out) instead of (out, in), as GPT-2's Conv1D does; tied: the same
    parameter is listed under another name too (a head that is the embedding).
    """

    name: str
    module: nn.Module
    role: str
    part: str
    layer: int | None
    shape: tuple[int, ...]
    transposed: bool
    tied: bool = False

    @cached_property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def quantized(self) -> Quantized | None:
        """How a library keeps this matrix, None for plain weights."""
        return quantized(self.module)

    @property
    def weight(self) -> torch.Tensor:
        """The stored weight, outside autograd; writing to it changes the model. BadRequest where a library keeps it."""
        if self.quantized:
            raise BadRequest(f"{self.name} is quantized by {self.quantized.library} already; put that step last")
        return getattr(self.module, self.name.rpartition(".")[2]).detach()

    @property
    def values(self) -> torch.Tensor:
        """The weights that the model computes with, (outputs, inputs): a copy where a library keeps them."""
        return self.quantized.weight() if self.quantized else self.rows

    @property
    def rows(self) -> torch.Tensor:
        """The weight as (output neurons, inputs): a view, also of a Conv1D."""
        return self.weight.t() if self.transposed else self.weight

    @property
    def outputs(self) -> int:
        return self.shape[1] if self.transposed else self.shape[0]

    @property
    def inputs(self) -> int:
        return self.shape[0] if self.transposed else self.shape[1]


def architecture_of(model: nn.Module, description: Architecture | Mapping | None = None) -> Architecture:
    """The model's row of the table, or the description given instead of one.

    Raises BadModel, with a list of the model's matrices, when the table has no row and no description is given;
    BadRequest when the description is malformed.
    """
    if description is not None:
        return Architecture.read(description)
    kind = _kind(model)
    if kind in ARCHITECTURES:
        return ARCHITECTURES[kind]
    shapes: dict[str, str] = {}
    for name, shape, _ in _weights(model):
        shapes.setdefault(re.sub(r"\.\d+\.", ".*.", name), " x ".join(map(str, shape)))
    raise BadModel(
        f"architecture {kind!r} is not in kc_utils/models/architectures.yaml; its matrices are "
        f"{listed((f'{name} ({shape})' for name, shape in shapes.items()), 20)}; describe them as `architecture:` of "
        "the model in the study file, in the words of that table"
    )


def matrices(model: nn.Module, description: Architecture | Mapping | None = None) -> list[Matrix]:
    """Every weight matrix (parameter of two or more dimensions) of the model exactly once, in module order.

    A parameter that is head and embedding at once is listed once, as the embedding. Works on the meta device, and
    after a library has quantized some.

    Raises BadModel for an unknown architecture, and for a matrix of a known one that the table gives no role.
    """
    return [matrix for matrix in _survey(model, description) if not matrix.tied]


def select(
    model: nn.Module,
    scope: str | Scope,
    preset: str = "consistent",
    quantizing: bool = False,
    description: Architecture | Mapping | None = None,
) -> list[Matrix]:
    """The matrices of a scope, in module order, never an empty list.

    preset `consistent` means the same in every architecture. preset `paper` follows the code of Namburi et al.
    (2023): in BERT and RoBERTa attention is query, key and value, and feed_forward holds the attention output; `all`
    is every linear layer, with the transform before the head, and with the head itself when `quantizing`.

    A tied head is returned with `tied=True`: untie it (`kc_utils.compression.apply.untie`) before changing it.

    Raises BadRequest when the scope or preset is unknown, or the model has nothing in the scope; BadModel as
    `matrices` does.
    """
    scope = scope if isinstance(scope, Scope) else Scope.parse(scope)
    if preset not in PRESETS:
        raise BadRequest(f"unknown preset {preset!r}; write one of {listed(PRESETS)}")
    architecture = architecture_of(model, description)
    every = _survey(model, architecture)
    if preset == "paper":
        found = [m for m in every if _in_paper(scope, m, architecture, quantizing)]
    else:
        found = [m for m in every if scope.covers(m.role, m.part, m.layer)]
    if not found:
        raise BadRequest(_nothing_there(model, scope, every))
    return found


def scopes(lm, description: Architecture | Mapping | None = None) -> pd.DataFrame:
    """The scopes of a model (`Loaded` or a torch module), one row each: scope, matrices, weights, share of all matrices' weights.

    Scopes that hold the same matrices are listed once; below them stand the roles that no recipe may touch (selectable is
    False). A tied head is the embedding, whose weights it shares. Raises BadModel for an unknown architecture.

    >>> import kc_utils as kc
    >>> scopes(kc.load("lab:decoder-small-s1")).head(3)[["scope", "matrices", "weights"]]
                    scope  matrices  weights
    0                 all        21   150528
    1           attention        12    49152
    2       attention.qkv         9    36864
    """
    every = _survey(lm if isinstance(lm, nn.Module) else lm.model, description)
    held = [(name, found, True) for name, found in _distinct_scopes(every).items()]
    for role in ("projection", "pooler", "embedding"):
        held.append((role, [m for m in every if m.role == role and not m.tied], False))
    whole = sum(m.numel for m in every if not m.tied)
    rows = []
    for name, found, selectable in held:
        if found:
            weights, tied = sum(m.numel for m in found), selectable and any(m.tied for m in found)
            rows.append((name, len(found), weights, weights / whole, selectable, tied))
    return pd.DataFrame(rows, columns=["scope", "matrices", "weights", "share", "selectable", "tied"])


def _kind(model: nn.Module) -> str:
    """transformers' name of the model's architecture; of another model the name of its class."""
    return getattr(getattr(model, "config", None), "model_type", type(model).__name__)


def _weights(model: nn.Module):
    """(parameter name, shape, module) of each weight matrix, tied ones under each of their names."""
    for path, module in model.named_modules():
        prefix = path + "." if path else ""
        if held := quantized(module):
            yield prefix + "weight", held.shape, module
            continue
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.dim() >= 2:
                yield prefix + name, tuple(parameter.shape), module


def _survey(model: nn.Module, description) -> list[Matrix]:
    """Every name of every weight matrix; names after the first of one parameter are marked `tied`."""
    rows = architecture_of(model, description).rows()
    found, strangers, numbers = [], [], {}
    for name, shape, module in _weights(model):
        path = name.rpartition(".")[0]
        hits = {(role, part, match.groups()) for pattern, role, part in rows if (match := pattern.fullmatch(path))}
        if len(hits) != 1:
            strangers.append(name if not hits else f"{name} ({len(hits)} roles)")
            continue
        role, part, number = hits.pop()
        layer = None
        if part != "model":
            # ALBERT numbers a layer twice (group, layer in group): count them in order of appearance.
            layer = int(number[0]) if len(number) == 1 else numbers.setdefault((part, number), len(numbers))
        transposed = type(module).__name__ == "Conv1D"
        found.append(Matrix(name, module, role, part, layer, shape, transposed))
    if strangers:
        raise BadModel(
            f"{_kind(model)}: no single role for {listed(strangers, 20)}; give each of them one in "
            "kc_utils/models/architectures.yaml or in `architecture:` of the model in the study file"
        )
    return _mark_tied(found)


def _mark_tied(found: list[Matrix]) -> list[Matrix]:
    """Each parameter once for each of its roles, as `tied` for all of them but one: the embedding, if it is one."""
    names: dict[tuple, Matrix] = {}
    for matrix in found:  # T5's encoder.embed_tokens is a second name for the same thing
        names.setdefault((_identity(matrix), matrix.role), matrix)
    kept: dict[int, Matrix] = {}
    for matrix in sorted(names.values(), key=lambda m: m.role != "embedding"):
        kept.setdefault(_identity(matrix), matrix)
    return [m if kept[_identity(m)] is m else replace(m, tied=True) for m in names.values()]


def _identity(matrix: Matrix) -> int:
    return id(matrix.module) if matrix.quantized else id(getattr(matrix.module, matrix.name.rpartition(".")[2]))


def _in_paper(scope: Scope, matrix: Matrix, architecture: Architecture, quantizing: bool) -> bool:
    role = matrix.role
    if scope.name == "all":
        if role == "head":
            return quantizing and scope.layers is None
        return role != "embedding" and scope.has_layer(matrix.layer)
    if architecture.paper_qkv_only and role == "attention.output":
        if scope.name in ("attention", "encoder.attention"):
            return False
        if scope.name in ("feed_forward", "encoder.feed_forward"):
            return scope.has_layer(matrix.layer)
    return scope.covers(role, matrix.part, matrix.layer)


def _nothing_there(model: nn.Module, scope: Scope, every: list[Matrix]) -> str:
    kind = _kind(model)
    if scope.layers is not None and any(Scope(scope.name).covers(m.role, m.part, m.layer) for m in every):
        last = max(m.layer for m in every if m.layer is not None)
        return f"scope {str(scope)!r}: the layers of this {kind} model are 0 to {last}; choose among them"
    roles = {m.role for m in every}
    for fused, parts in (("qkv", ("query", "key", "value")), ("gate_up", ("gate", "up"))):
        wanted = scope.name.rpartition(".")[2]
        if wanted in parts and any(role.endswith("." + fused) for role in roles):
            whole = "attention.qkv" if fused == "qkv" else "feed_forward"
            return f"scope {str(scope)!r}: {kind} holds {', '.join(parts)} in one fused matrix; use {whole}"
    there = listed(_distinct_scopes(every), 40)
    return f"scope {str(scope)!r}: this {kind} model has no such matrix; it has {there}"


def _distinct_scopes(every: list[Matrix]) -> dict[str, list[Matrix]]:
    """What each scope holds; of scopes that hold the same the first, such as attention for decoder.attention."""
    held: dict[str, list[Matrix]] = {}
    for name in SCOPES:
        found = [m for m in every if Scope(name).covers(m.role, m.part, m.layer)]
        if found and not any(found == other for other in held.values()):
            held[name] = found
    return held
