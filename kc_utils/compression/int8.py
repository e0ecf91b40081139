"""Weights held as whole numbers of 8 and 4 bits: `int8`, `int8-weight` and `int4-weight`.

`int8` is dynamic (Jacob et al. 2018, arXiv 1712.05877): q = round(w / scale) for weights and, anew at every call, for
inputs; the product is computed in whole numbers and scaled once. A scale of weights is largest |w| / 127.5, of an output
neuron (`per=channel`) or of the matrix (`per=tensor`). Two engines differ in the inputs:

    torchao   each token has a scale of its own, and all 8 bits. Scores of a text do not depend on its neighbours in
              the batch. Can be written as a folder that transformers loads. The default
    torch     torch.ao.quantization.quantize_dynamic: one scale and zero point for all inputs of a call, so that one
              large value coarsens a whole batch, and 7 bits (reduce_range), so that sums of two products fit in 16
              bits on CPUs without VNNI. Deprecated, no folder. With `per=tensor` and `preset=paper` this is what
              Namburi et al. (2023) measured

`int8-weight` and `int4-weight` round the weights alone and compute in floating point, by torchao:

    int8-weight   scale = largest |w| / 127.5, of an output neuron (`group=channel`), of the matrix (`tensor`), or of so
                  many consecutive inputs of a neuron
    int4-weight   for each `group` of consecutive inputs of a neuron: scale = (max(w, 0) - min(w, 0)) / 15 and a whole
                  zero point, so that a pruned weight stays zero; with `sym=true` scale = largest |w| / 7.5

Unlike `rtn`, the weights are held as whole numbers, in a format that transformers loads. torchao's packed 4-bit kernels
need a GPU: on a CPU its `IntxUnpackedToInt8Tensor` keeps each 4-bit number in a byte. Bits are counted as 4.

Three traps of torch are closed here: it silently skips GPT-2's Conv1D (each becomes a Linear first); it skips a scope
that it does not find (the quantized modules are counted); and a tied head must be untied before.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from kc_utils.compression.linear import check_linear, check_products, imported, outcome, to_linears
from kc_utils.compression.recipe import Step
from kc_utils.compression.report import Outcome
from kc_utils.errors import BadRequest
from kc_utils.models.scopes import Matrix

SLICE = 1024  # products of two int8 are at most 2^14, so float32 adds so many of them exactly


def check(matrices: Sequence[Matrix], step: Step) -> None:
    """Raise BadRequest for what the library cannot hold or compute; called before any weight is changed."""
    if step.options.get("engine") == "torch":
        if torch.backends.quantized.engine in ("none", None):
            raise BadRequest(f"recipe step {step}: this torch has no int8 engine; use engine=torchao, or rtn=8")
        return check_linear(matrices, step, full=True)
    check_linear(matrices, step)
    if step.method == "int8":
        return check_products(step)
    group = step.options["group"]
    for m in matrices:
        if isinstance(group, int) and m.inputs % group:
            raise BadRequest(
                f"recipe step {step}: {m.name} has {m.inputs} inputs, which {group} does not divide; "
                f"choose a group= that does, or rtn={step.method[3]}"
            )


def run(model: nn.Module, matrices: Sequence[Matrix], step: Step) -> Outcome:
    """Quantize each matrix in the model. Raises BadResult when one is not."""
    names, options = to_linears(model, matrices), step.options
    if options.get("engine") == "torch":
        by_torch(model, names, options["per"] == "channel")
    elif step.method == "int8":
        by_torchao(model, names, dynamic_int8(options["per"]))
        if not _has_int8_instructions():
            compute_exactly(model, names)
    elif step.method == "int8-weight":
        by_torchao(model, names, weight_int8(options["group"]))
    else:
        by_torchao(model, names, weight_int4(options["group"], options["sym"]))
    return outcome(model, matrices, step)


def by_torch(model: nn.Module, names: Sequence[str], per_channel: bool = False) -> None:
    """Replace the named nn.Linear modules by torch's dynamic int8 Linear. The model is in eval mode after."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of torch.ao and of quantized tensors
        from torch.ao.quantization import default_dynamic_qconfig, per_channel_dynamic_qconfig, quantize_dynamic

        config = per_channel_dynamic_qconfig if per_channel else default_dynamic_qconfig
        quantize_dynamic(model, dict.fromkeys(names, config), inplace=True)


def by_torchao(model: nn.Module, names: Sequence[str], config) -> None:
    """torchao's quantize_ with this config on the named nn.Linear modules, in place."""
    wanted = set(names)
    imported("torchao.quantization").quantize_(model, config, filter_fn=lambda _, name: name in wanted)


def dynamic_int8(per: str):
    """torchao's config: int8 weights per `channel` or `tensor`, int8 inputs per token."""
    ao = imported("torchao.quantization")
    of_weights = ao.PerRow() if per == "channel" else ao.PerTensor()
    return ao.Int8DynamicActivationInt8WeightConfig(granularity=[ao.PerRow(), of_weights], set_inductor_config=False)


def weight_int8(group: int | str):
    """torchao's config: int8 weights per `channel`, `tensor` or group."""
    ao = imported("torchao.quantization")
    named = {"channel": ao.PerRow, "tensor": ao.PerTensor}
    granularity = named[group]() if group in named else ao.PerGroup(group)
    return ao.Int8WeightOnlyConfig(granularity=granularity, set_inductor_config=False)


def weight_int4(group: int | str, sym: bool):
    """torchao's config: int4 weights per `channel` or group."""
    ao = imported("torchao.quantization")
    mapping = ao.MappingType.SYMMETRIC if sym else ao.MappingType.ASYMMETRIC
    granularity = ao.PerAxis(0) if group == "channel" else ao.PerGroup(group)
    return ao.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=granularity, mapping_type=mapping)


class ExactLinear(nn.Linear):
    """A Linear with torchao's dynamic int8 weight that multiplies whole numbers as float32, bit by bit as torchao does.

    `torch._int_mm`, on which torchao rests, multiplies number by number on processors with neither AVX512-VNNI nor AMX:
    some twenty times as long as the same product in float32.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight
        tokens = type(weight).from_hp(x.reshape(-1, self.in_features), imported("torchao.quantization").PerRow())
        product = exact_product(tokens.qdata, weight.qdata.t()).to(tokens.scale.dtype) * tokens.scale
        y = (product.to(x.dtype) * weight.scale.flatten()).view(*x.shape[:-1], self.out_features)
        return (y if self.bias is None else y + self.bias).to(x.dtype)


def compute_exactly(model: nn.Module, names: Sequence[str]) -> None:
    """Replace the named modules, which hold dynamic int8 weights of torchao, by an ExactLinear each."""
    for name in names:
        module = model.get_submodule(name)
        made = ExactLinear(module.in_features, module.out_features, module.bias is not None, device="meta")
        made.weight, made.bias = module.weight, module.bias
        model.set_submodule(name, made.train(module.training))


def exact_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a (M, K) int8 times b (K, N) int8: (M, N) int32, exactly, by float32 products of slices of the inner dimension."""
    total = torch.zeros(a.shape[0], b.shape[1], dtype=torch.int32)
    for start in range(0, a.shape[1], SLICE):
        total += (a[:, start : start + SLICE].float() @ b[start : start + SLICE].float()).to(torch.int32)
    return total


def _has_int8_instructions() -> bool:
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_vnni") or found.get("amx_tile"))
