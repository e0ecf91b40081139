"""How a module holds a weight that a library has quantized: one view, whichever library it was.

torch.ao packs weight and bias into an object, torchao makes the weight a tensor of its own kind, bitsandbytes makes it
a parameter of codes with the scales beside it. Each `Quantized` here reads one of these kinds. No library is imported:
a module of theirs can only be there when they have been.
"""

import copy
import sys
import warnings

import torch
from torch import nn

from kc_utils.errors import BadModel


class Quantized:
    """A quantized weight, read anew from its module at each call. A subclass for each kind has

    library        `torch`, `torchao` or `bitsandbytes`
    kind           what the library calls it
    value_bits     bits of one weight
    groups         how many sets of weights have a scale of their own
    overhead_bits  bits of all scales and zero points, as the library keeps them
    integers()     the whole numbers, or places in a code book, that stand for the weights: (outputs, inputs), int8 or uint8
    weight()       the weights (outputs, inputs) that the module computes with, as floating point numbers; a copy
    """

    def __init__(self, module: nn.Module):
        self.module = module

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        return self.module.out_features, self.module.in_features

    @property
    def bias(self) -> torch.Tensor | None:
        return self.module.bias

    def codes(self) -> torch.Tensor:
        """`integers` as uint8 below 2**value_bits, in the same order."""
        integers = self.integers()
        if integers.dtype == torch.uint8:
            return integers
        return (integers.to(torch.int16) + 2 ** (self.value_bits - 1)).to(torch.uint8)


class TorchInt8(Quantized):
    """torch.ao's dynamic Linear: symmetric int8, a float64 scale and an int64 zero point for each group."""

    library, kind, value_bits = "torch", "torch.ao.nn.quantized.dynamic.Linear", 8

    @property
    def bias(self):
        return self.module.bias()

    @property
    def groups(self):
        packed = self._packed()
        return 1 if packed.qscheme() == torch.per_tensor_affine else packed.shape[0]

    @property
    def overhead_bits(self):
        return 128 * self.groups

    def integers(self):
        return self._packed().int_repr()

    def weight(self):
        with warnings.catch_warnings(action="ignore"):  # torch deprecates its quantized tensors
            return self._packed().dequantize()

    def _packed(self) -> torch.Tensor:
        with warnings.catch_warnings(action="ignore"):
            return self.module.weight()


class TorchaoTensor(Quantized):
    """torchao's Int8Tensor and IntxUnpackedToInt8Tensor: whole numbers in int8, scale and zero point for each block."""

    library = "torchao"

    @property
    def kind(self):
        return type(self.tensor).__name__

    @property
    def tensor(self) -> torch.Tensor:
        return self.module._parameters["weight"]

    @property
    def value_bits(self):
        target = getattr(self.tensor, "target_dtype", torch.int8)
        return int(str(target).removeprefix("torch.int"))

    @property
    def groups(self):
        return self.tensor.scale.numel()

    @property
    def overhead_bits(self):
        zero = self.tensor.zero_point
        return _bits(self.tensor.scale) + (0 if zero is None else _bits(zero))

    def integers(self):
        return self.tensor.qdata

    def weight(self):
        return self.tensor.dequantize()


class Bitsandbytes4bit(Quantized):
    """bitsandbytes' Linear4bit: two codes in a byte, an absolute maximum for each block of a row.

    With double quantization the maxima are 8-bit codes themselves, in blocks of 256.
    """

    library, kind, value_bits = "bitsandbytes", "Linear4bit", 4

    @property
    def state(self):
        return self.module.weight.quant_state

    @property
    def nested(self) -> bool:
        return self.state.nested

    @property
    def groups(self):
        return self.state.absmax.numel()

    @property
    def overhead_bits(self):
        bits = _bits(self.state.absmax)
        return bits + _bits(self.state.state2.absmax) + _bits(self.state.offset) if self.nested else bits

    def integers(self):
        packed = self._plain_layout()[0].contiguous().view(torch.uint8).view(-1)
        both = torch.stack([packed >> 4, packed & 15], dim=1).view(-1)
        return both[: self.shape[0] * self.shape[1]].view(self.shape)

    def weight(self):
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(*self._plain_layout())

    def _plain_layout(self):
        """Codes in pairs, and their state. A forward pass on CPUs with AVX512-BF16 rearranges both, see `compute_in_full`."""
        packed, state = self.module.weight.data, self.state
        if getattr(state, "packing_format_for_cpu", False):
            from bitsandbytes.functional import _convert_weight_packed_for_cpu_inverse

            state = copy.copy(state)  # the library's function changes it
            state.original_nested = False
            packed, state = _convert_weight_packed_for_cpu_inverse(packed, state)
            state.absmax = state.absmax.t().float().reshape(-1)
        return packed, state


class Bitsandbytes8bit(Quantized):
    """bitsandbytes' Linear8bitLt: int8, with the absolute maximum of each output neuron, in float32."""

    library, kind, value_bits = "bitsandbytes", "Linear8bitLt", 8

    @property
    def largest(self) -> torch.Tensor:
        """float32 (outputs,); the first forward pass moves it from the weight to the module's state."""
        kept = self.module.weight.SCB
        return self.module.state.SCB if kept is None else kept

    @property
    def groups(self):
        return self.largest.numel()

    @property
    def overhead_bits(self):
        return _bits(self.largest)

    def integers(self):
        return self.module.weight.data

    def weight(self):
        return self.integers().float() * (self.largest.float() / 127).unsqueeze(1)


READ: dict[str, type[Quantized]] = {
    "Int8Tensor": TorchaoTensor,
    "IntxUnpackedToInt8Tensor": TorchaoTensor,
    "Linear4bit": Bitsandbytes4bit,
    "Linear8bitLt": Bitsandbytes8bit,
}
"""The view of each tensor of torchao and each module of bitsandbytes."""


def quantized(module: nn.Module) -> Quantized | None:
    """The view of a module's quantized weight, None for a module with plain weights or none.

    Raises BadModel for a kind of quantized weight that is not read here.
    """
    if hasattr(module, "_packed_params") and callable(getattr(module, "weight", None)):
        return TorchInt8(module)
    weight = type(module._parameters.get("weight"))
    if type(module).__module__.startswith("bitsandbytes") and "weight" in module._parameters:
        library, kind = "bitsandbytes", type(module).__name__
    elif weight.__module__.startswith("torchao"):
        library, kind = "torchao", weight.__name__
    else:
        return None
    if kind not in READ:
        raise BadModel(
            f"a weight is a {kind} of {library}, which is not read here ({', '.join(READ)} are); use the original model"
        )
    return READ[kind](module)


def compute_in_full(model: nn.Module) -> nn.Module:
    """Let 4-bit layers of bitsandbytes compute in the precision of their inputs, on every CPU; gives the model back.

    On CPUs with AVX512-BF16 such a layer rounds inputs, scales and outputs to bfloat16 by default, so that scores
    would depend on the machine, and its first forward pass rearranges the weight. Layers that have run are left alone.
    """
    if "bitsandbytes" in sys.modules:
        for module in model.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
    return model


def _bits(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size() * 8
