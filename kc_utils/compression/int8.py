"""Dynamic int8: weights are stored as int8, inputs are rounded to 8 bits anew at every call.

Idea (Jacob et al. 2018, arXiv 1712.05877): q = round(w / scale) for weights and inputs, the product is computed in
whole numbers and scaled once. A scale of weights is largest |w| / 127.5, of an output neuron (`per=channel`) or of the
matrix (`per=tensor`). Two engines do this; they differ in the inputs:

    torchao   each token has a scale of its own, and all 8 bits. Scores of a text do not depend on its neighbours in
              the batch. Can be written as a folder that transformers loads. The default
    torch     torch.ao.quantization.quantize_dynamic: one scale and zero point for all inputs of a call, so that one
              large value coarsens a whole batch, and 7 bits (reduce_range), so that sums of two products fit in 16
              bits on CPUs without VNNI. Deprecated, no folder; about 1.7 times as fast as torchao. With `per=tensor`
              and `preset=paper` this is what Namburi et al. (2023) measured

Three traps of torch are closed here: it silently skips GPT-2's Conv1D (each becomes a Linear first); it skips a scope
that it does not find (the quantized modules are counted); and a tied head must be untied before (`untie.py`).
"""

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from kc_utils.compression import int8_products, torchao_weights
from kc_utils.compression.linear import check_linear, check_products, outcome, to_linears
from kc_utils.compression.outcome import Outcome
from kc_utils.compression.recipe import Step
from kc_utils.errors import BadRequest, BadResult
from kc_utils.models.scopes import Matrix
from kc_utils.models.stored import quantized


def check(matrices: Sequence[Matrix], step: Step) -> None:
    """BadRequest for what the engine cannot hold or compute; called before any weight is changed."""
    if step.options["engine"] == "torchao":
        check_linear(matrices, step, torchao_weights.DTYPES)
        check_products(step)
        return
    if torch.backends.quantized.engine in ("none", None):
        raise BadRequest(f"recipe step {step}: this torch has no int8 engine; use engine=torchao, or rtn=8")
    check_linear(matrices, step, (torch.float32,))
    for m in matrices:
        if m.weight.device.type not in ("cpu", "meta"):
            raise BadRequest(f"recipe step {step}: {m.name} is on {m.weight.device}; engine=torch needs the CPU")


def run(model: nn.Module, matrices: Sequence[Matrix], step: Step) -> Outcome:
    """Quantize each matrix in the model. Raises BadResult when one is not."""
    names = to_linears(model, matrices)
    if step.options["engine"] == "torchao":
        int8_products.install()
        torchao_weights.quantize(model, names, torchao_weights.dynamic_int8(step.options["per"]))
    else:
        replace(model, names, step.options["per"] == "channel")
    return outcome(model, matrices, step)


def replace(model: nn.Module, names: Sequence[str], per_channel: bool = False) -> None:
    """Put torch's dynamic int8 Linear in the place of the named nn.Linear modules. The model is in eval mode after.

    Raises BadResult when a module was not replaced.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of torch.ao and of quantized tensors
        from torch.ao.quantization import default_dynamic_qconfig, per_channel_dynamic_qconfig, quantize_dynamic

        config = per_channel_dynamic_qconfig if per_channel else default_dynamic_qconfig
        quantize_dynamic(model, dict.fromkeys(names, config), inplace=True)
    left = [name for name in names if not quantized(model.get_submodule(name))]
    if left:
        raise BadResult(f"int8 replaced {len(names) - len(left)} of {len(names)} modules; not, for example, {left[0]}")
