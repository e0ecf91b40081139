"""Shared by the methods whose weights a library keeps: imports, checks of nn.Linear modules, and what is stored."""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import nn

from kc_utils.compression.recipe import Step
from kc_utils.compression.report import Outcome
from kc_utils.errors import BadRequest, BadResult, MissingData, listed
from kc_utils.models.scopes import Matrix
from kc_utils.models.stored import quantized

DTYPES = ("float32", "bfloat16", "float16")


def imported(name: str) -> ModuleType:
    """The module of a library, such as `torchao.quantization`, imported when a recipe uses it. Raises MissingData."""
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise MissingData(
            f"{package} could not be imported ({error}); pip install -c constraints.txt {package}, or use rtn"
        ) from error


def check_linear(matrices: Sequence[Matrix], step: Step, full: bool = False) -> None:
    """Raise BadRequest for a matrix that is in no nn.Linear or Conv1D, or whose weights are of another type than DTYPES;
    full: than float32 on the CPU."""
    for m in matrices:
        if type(m.module).__name__ != "Conv1D" and type(m.module) is not nn.Linear:
            raise BadRequest(
                f"recipe step {step}: {m.name} is in a {type(m.module).__name__}; "
                f"{step.method} takes nn.Linear and Conv1D only, choose another scope"
            )
        here, wanted = str(m.weight.dtype).removeprefix("torch."), ("float32",) if full else DTYPES
        if here not in wanted or (full and m.weight.is_cuda):
            on_cpu = " on the CPU" if full else ""
            raise BadRequest(
                f"recipe step {step}: {m.name} is {here} on {m.weight.device}; load the model in {listed(wanted)}{on_cpu}"
            )


def check_products(step: Step) -> None:
    """Raise BadRequest when this CPU adds 8-bit products in 16 bits: sums of large ones would be cut off, and look fine."""
    if not _products_are_exact():
        raise BadRequest(
            f"recipe step {step}: sums of int8 products overflow in this torch on this CPU (no VNNI); use "
            "int8@SCOPE,engine=torch or int8-weight"
        )


@cache
def _products_are_exact() -> bool:
    largest = torch.full((64, 64), 127, dtype=torch.int8)
    return bool((torch._int_mm(largest, largest.t()) == 64 * 127 * 127).all())


def to_linears(model: nn.Module, matrices: Sequence[Matrix]) -> list[str]:
    """Turn each Conv1D among the modules into the nn.Linear that computes the same; returns the modules' names."""
    names = []
    for m in matrices:
        name = m.name.rpartition(".")[0]
        if m.transposed:
            model.set_submodule(name, as_linear(m.module))
        names.append(name)
    return names


def as_linear(conv: nn.Module) -> nn.Linear:
    """transformers' Conv1D, weight (in, out), as the nn.Linear that computes the same."""
    linear = nn.Linear(*conv.weight.shape, bias=conv.bias is not None, device="meta")
    linear.weight = nn.Parameter(conv.weight.detach().t().contiguous(), requires_grad=False)
    if conv.bias is not None:
        linear.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)
    return linear.train(conv.training)


def outcome(model: nn.Module, matrices: Sequence[Matrix], step: Step) -> Outcome:
    """State how the matrices are stored now. Raises BadResult when a library left one as it was, or made it not finite."""
    storage = {}
    for m in matrices:
        held = quantized(model.get_submodule(m.name.rpartition(".")[0]))
        if held is None:
            raise BadResult(f"recipe step {step}: {m.name} was not quantized; choose a scope without it")
        if not held.weight().isfinite().all():
            raise BadResult(f"recipe step {step}: quantized weights of {m.name} are not finite; use rtn")
        storage[m.name] = held
    return Outcome(storage=storage)
