"""The device that a model is evaluated on: the processor, or an accelerator where there is one.

Weights are always compressed on the processor, so that a recipe gives the same model everywhere. Evaluation computes in the
model's own type (float32: CUDA's shortcut of 19 bits, TF32, stays off, as torch has it by default). `KC_DEVICE` chooses:
`auto` (the default), `cpu`, `cuda` or `cuda:N`. A model with matrices in a library's own format is evaluated on the
processor in any case: its numbers were checked there, and some formats exist nowhere else.
"""

from __future__ import annotations

import os

import torch
from torch import nn

from kc_utils.errors import BadRequest
from kc_utils.models.stored import quantized

VARIABLE = "KC_DEVICE"


def place(model: nn.Module) -> torch.device:
    """Move a compressed model to the device that it will be evaluated on, and return that device.

    Raises BadRequest for a device that is unknown or not here, and for one whose memory is too small.
    """
    device = chosen()
    if device.type == "cpu" or any(quantized(module) for module in model.modules()):
        return torch.device("cpu")
    try:
        model.to(device)
    except torch.OutOfMemoryError as error:
        raise BadRequest(f"the model does not fit on {device}: {VARIABLE}=cpu evaluates it on the processor") from error
    return device


def chosen() -> torch.device:
    """The device that `KC_DEVICE` names, or the first CUDA device, or the processor. Raises BadRequest as `place`."""
    wish = os.environ.get(VARIABLE, "").strip() or "auto"
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wish == "auto":
        return torch.device("cuda" if here else "cpu")
    kind, _, number = wish.partition(":")
    if wish == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (number and not number.isdecimal()) or wish.endswith(":"):
        raise BadRequest(f"{VARIABLE}={wish}: choose auto, cpu, cuda or cuda:N")
    if int(number or 0) >= here:
        raise BadRequest(f"{VARIABLE}={wish}: torch sees {here} CUDA devices here; choose auto or cpu")
    return torch.device(wish)
