"""Dynamic int8 on the CPU: weights are stored as int8, inputs are rounded to 8 bits anew at every call.

Idea: scale = max |w| / 127.5 for a matrix (`per=tensor`, as in the paper) or for each output neuron (`per=channel`),
q = round(w / scale), and the product is computed in whole numbers (Jacob et al. 2018, arXiv 1712.05877). This is
torch.ao.quantization.quantize_dynamic, which torch 2.13 deprecates but still has, given exactly the modules of the
scope. Three traps are closed here: torch silently skips GPT-2's Conv1D (each becomes a Linear first); it skips a scope
that it does not find (the replaced modules are counted); and a tied head must be untied before (`untie.py`).

torch quantizes inputs to 7 bits (reduce_range), so that sums of two products fit in 16 bits on CPUs without VNNI.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from kc_utils.compression.outcome import Outcome, Storage
from kc_utils.compression.recipe import Step
from kc_utils.errors import BadRequest, BadResult
from kc_utils.models.scopes import Matrix, is_int8

OVERHEAD_BITS = 128  # torch keeps a float64 scale and an int64 zero point for each tensor or channel


def check(matrices: Sequence[Matrix], step: Step) -> None:
    """BadRequest for what torch's int8 Linear cannot hold; called before any weight is changed."""
    if torch.backends.quantized.engine in ("none", None):
        raise BadRequest(f"recipe step {step}: this torch has no int8 engine; use a CPU build of torch, or rtn=8")
    for m in matrices:
        if type(m.module).__name__ != "Conv1D" and type(m.module) is not nn.Linear:
            raise BadRequest(
                f"recipe step {step}: {m.name} is in a {type(m.module).__name__}; "
                "int8 replaces nn.Linear and Conv1D only, choose another scope"
            )
        if m.weight.dtype != torch.float32 or m.weight.device.type not in ("cpu", "meta"):
            raise BadRequest(
                f"recipe step {step}: {m.name} is {m.weight.dtype} on {m.weight.device}; "
                "dynamic int8 needs float32 on the CPU, load the model so"
            )


def run(model: nn.Module, matrices: Sequence[Matrix], step: Step) -> Outcome:
    """Replace the module of each matrix in the model. Raises BadResult when one is not replaced."""
    per_channel = step.options["per"] == "channel"
    for m in matrices:
        if m.transposed:
            model.set_submodule(m.name.rpartition(".")[0], as_linear(m.module))
    replace(model, [m.name.rpartition(".")[0] for m in matrices], per_channel)
    storage = {m.name: Storage(8, OVERHEAD_BITS * (m.outputs if per_channel else 1)) for m in matrices}
    return Outcome(storage=storage, groups=sum(m.outputs if per_channel else 1 for m in matrices))


def replace(model: nn.Module, names: Sequence[str], per_channel: bool = False) -> None:
    """Put torch's dynamic int8 Linear in the place of the named nn.Linear modules. The model is in eval mode after.

    Raises BadResult when a module was not replaced.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of torch.ao and of quantized tensors
        from torch.ao.quantization import default_dynamic_qconfig, per_channel_dynamic_qconfig, quantize_dynamic

        config = per_channel_dynamic_qconfig if per_channel else default_dynamic_qconfig
        quantize_dynamic(model, dict.fromkeys(names, config), inplace=True)
    left = [name for name in names if not is_int8(model.get_submodule(name))]
    if left:
        raise BadResult(f"int8 replaced {len(names) - len(left)} of {len(names)} modules; not, for example, {left[0]}")


def as_linear(conv: nn.Module) -> nn.Linear:
    """transformers' Conv1D, weight (in, out), as the nn.Linear that computes the same."""
    linear = nn.Linear(*conv.weight.shape, bias=conv.bias is not None, device="meta")
    linear.weight = nn.Parameter(conv.weight.detach().t().contiguous(), requires_grad=False)
    if conv.bias is not None:
        linear.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)
    return linear
