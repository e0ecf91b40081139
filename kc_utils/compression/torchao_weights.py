"""Weights of 8 and 4 bits by torchao, computed with in floating point: `int8-weight` and `int4-weight`.

    int8-weight   q = round(w / scale), scale = largest |w| / 127.5, of an output neuron (`group=channel`), of the
                  matrix (`tensor`), or of so many consecutive inputs of a neuron
    int4-weight   for each `group` of consecutive inputs of a neuron: scale = (max(w, 0) - min(w, 0)) / 15 and a whole
                  zero point, so that a pruned weight stays zero; with `sym=true` scale = largest |w| / 7.5, no zero
                  point

Unlike `rtn`, the weights are held as whole numbers, in a format that transformers loads; scales have the model's dtype.
The 4-bit kernels of torchao 0.18 (its packed formats) need a GPU: on a CPU its `IntxUnpackedToInt8Tensor` keeps each
4-bit number in a byte, so that such a model computes as a packed one would but takes the room of an 8-bit one. Bits are
counted as 4.
"""

from collections.abc import Sequence

import torch
from torch import nn

from kc_utils.compression import libraries
from kc_utils.compression.linear import check_linear, outcome, to_linears
from kc_utils.compression.outcome import Outcome
from kc_utils.compression.recipe import Step
from kc_utils.errors import BadRequest
from kc_utils.models.scopes import Matrix

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def check(matrices: Sequence[Matrix], step: Step) -> None:
    """BadRequest for what torchao cannot hold, among it a group that does not divide the inputs of a matrix."""
    check_linear(matrices, step, DTYPES)
    group = step.options["group"]
    for m in matrices:
        if isinstance(group, int) and m.inputs % group:
            raise BadRequest(
                f"recipe step {step}: {m.name} has {m.inputs} inputs, which {group} does not divide; "
                f"choose a group= that does, or rtn={step.method[3]}"
            )


def run(model: nn.Module, matrices: Sequence[Matrix], step: Step) -> Outcome:
    """Quantize each matrix in the model. Raises BadResult when torchao leaves one as it was."""
    options = step.options
    if step.method == "int8-weight":
        config = weight_int8(options["group"])
    else:
        config = weight_intx(torch.int4, options["group"], options["sym"])
    quantize(model, to_linears(model, matrices), config)
    return outcome(model, matrices, step)


def quantize(model: nn.Module, names: Sequence[str], config) -> None:
    """torchao's quantize_ with this config on the named nn.Linear modules, in place."""
    wanted = set(names)
    libraries.torchao().quantize_(model, config, filter_fn=lambda _, name: name in wanted)


def dynamic_int8(per: str):
    """torchao's config: int8 weights per `channel` or `tensor`, int8 inputs per token."""
    ao = libraries.torchao()
    of_weights = ao.PerRow() if per == "channel" else ao.PerTensor()
    return ao.Int8DynamicActivationInt8WeightConfig(granularity=[ao.PerRow(), of_weights], set_inductor_config=False)


def weight_int8(group: int | str):
    """torchao's config: int8 weights per `channel`, `tensor` or group."""
    ao = libraries.torchao()
    named = {"channel": ao.PerRow, "tensor": ao.PerTensor}
    granularity = named[group]() if group in named else ao.PerGroup(group)
    return ao.Int8WeightOnlyConfig(granularity=granularity, set_inductor_config=False)


def weight_intx(dtype: torch.dtype, group: int | str, sym: bool):
    """torchao's config: weights of torch.int1 to int8 per `channel` or group."""
    ao = libraries.torchao()
    mapping = ao.MappingType.SYMMETRIC if sym else ao.MappingType.ASYMMETRIC
    granularity = ao.PerAxis(0) if group == "channel" else ao.PerGroup(group)
    return ao.IntxWeightOnlyConfig(weight_dtype=dtype, granularity=granularity, mapping_type=mapping)
