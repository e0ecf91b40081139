"""Quantization by bitsandbytes: NF4 and LLM.int8().

    nf4        4-bit NormalFloat (Dettmers et al. 2023, QLoRA, arXiv 2305.14314): each `group` of consecutive inputs of
               a neuron is divided by its largest |w| and rounded to the nearest of 16 values, the quantiles of a normal
               distribution, zero among them; inputs stay as they are. With `double=true` the largest values are rounded
               to 8 bits in turn
    llm-int8   8-bit weights per output neuron and 8-bit inputs per token, both by largest absolute value / 127; features
               of which an input reaches `threshold` are left out and computed in floating point (Dettmers et al. 2022,
               arXiv 2208.07339). They are looked for among all tokens of a batch, so that scores depend a little on the
               neighbours in it; `threshold=0` turns this off. Weights are rounded by way of float16

Two traps of bitsandbytes 0.50 on CPUs are closed here: with a group that does not divide the inputs of a matrix it
computes with wrong weights, without a word; and on CPUs with AVX512-BF16 its 4-bit layers compute in bfloat16 unless
instructed otherwise (`compute_in_full`).
"""

from collections.abc import Sequence

import torch
from torch import nn

from kc_utils.compression.linear import check_linear, check_products, imported, outcome, to_linears
from kc_utils.compression.recipe import Step
from kc_utils.compression.report import Outcome
from kc_utils.errors import BadRequest
from kc_utils.models.scopes import Matrix
from kc_utils.models.stored import compute_in_full


def check(matrices: Sequence[Matrix], step: Step) -> None:
    """Raise BadRequest for what bitsandbytes cannot hold, or computes wrongly."""
    check_linear(matrices, step)
    if step.method == "llm-int8":
        check_products(step)
        return
    group = step.options["group"]
    for m in matrices:
        if m.inputs % group:
            raise BadRequest(
                f"recipe step {step}: {m.name} has {m.inputs} inputs, which {group} does not divide, and bitsandbytes "
                "would compute with wrong weights; choose another group= or scope, or rtn=4"
            )


def run(model: nn.Module, matrices: Sequence[Matrix], step: Step) -> Outcome:
    """Replace the module of each matrix in the model. Raises BadResult when one is not quantized."""
    for name in to_linears(model, matrices):
        linear = model.get_submodule(name)
        if step.method == "nf4":
            as_bytes = not _dtype_is_read(model, name)
            made = nf4(linear, step.options["group"], step.options["double"], as_bytes)
        else:
            made = llm_int8(linear, float(step.options["threshold"]))
        model.set_submodule(name, made.train(linear.training))
    return outcome(model, matrices, step)


def nf4(linear: nn.Linear, group: int = 64, double: bool = False, as_bytes: bool = True) -> nn.Module:
    """bitsandbytes' Linear4bit of a Linear. as_bytes: codes are kept as uint8, else under the weight's own dtype."""
    bnb = imported("bitsandbytes")
    weight = linear.weight.detach()
    storage = torch.uint8 if as_bytes else weight.dtype
    kept = {"compress_statistics": double, "quant_type": "nf4", "quant_storage": storage}
    made = bnb.nn.Linear4bit(linear.in_features, linear.out_features, False, compute_dtype=weight.dtype, device="meta", **kept)
    parameter = bnb.nn.Params4bit(weight.clone(), requires_grad=False, blocksize=group, module=made, **kept)
    made.weight = parameter.to(weight.device)  # this quantizes
    made.bias = linear.bias
    return compute_in_full(made)


def llm_int8(linear: nn.Linear, threshold: float = 6.0) -> nn.Module:
    """bitsandbytes' Linear8bitLt of a Linear."""
    bnb = imported("bitsandbytes")
    weight = linear.weight.detach()
    made = bnb.nn.Linear8bitLt(
        linear.in_features, linear.out_features, False, has_fp16_weights=False, threshold=threshold, device="meta"
    )
    parameter = bnb.nn.Int8Params(weight.clone(), requires_grad=False, has_fp16_weights=False)
    made.weight = parameter.to(weight.device)  # this quantizes
    made.bias = linear.bias
    return made


def _dtype_is_read(model: nn.Module, name: str) -> bool:
    """Whether the model casts inputs to the dtype of this module's weight, as T5 does: codes must not look like bytes.

    transformers lists such modules as those to be kept in float32.
    """
    return any(key in name.split(".") for key in getattr(model, "_keep_in_fp32_modules", None) or ())
