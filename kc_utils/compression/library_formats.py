"""Write a model that torchao or bitsandbytes quantized as a folder that plain transformers loads.

transformers has a quantizer for each library, which knows what their weights are called in a safetensors file and reads
them back by `quantization_config` in config.json. Here it is given the modules that are quantized, and only those: for
torchao each by name, for bitsandbytes by naming all others as ones to skip. What the loading side cannot put back is
refused first, because transformers would fill such weights at random, with no more than a warning.
"""

import copy
from pathlib import Path

import torch
from torch import nn

from kc_utils.compression import int8
from kc_utils.compression.linear import imported
from kc_utils.errors import BadRequest, listed
from kc_utils.models.stored import Quantized, quantized

FAST_ROWS = 32  # bitsandbytes: outputs of a 4-bit layer that CPUs with AVX512-BF16 take at a time


def library_of(model: nn.Module) -> str | None:
    """The library that keeps weights of the model: `torch`, `torchao`, `bitsandbytes`, or None where all are plain.

    Raises BadRequest when two of them do.
    """
    found = sorted({held.library for held in _held(model).values()})
    if len(found) > 1:
        raise BadRequest(f"weights of the model are kept by {listed(found)}; a folder holds those of one library")
    return found[0] if found else None


def write(model: nn.Module, folder: Path) -> None:
    """Write config.json and safetensors to the folder, as `save_pretrained` does. The model stays as it is.

    Loaded again by `AutoModelFor*.from_pretrained(folder)` the model has the same weights, to the bit. Its scores are
    the same where the same kernels run: 4-bit layers of bitsandbytes need `kc_utils.models.stored.compute_in_full`.

    Raises BadRequest for plain models and for what transformers could not load.
    """
    library, held = library_of(model), _held(model)
    if library is None:
        raise BadRequest("no library keeps weights of this model; save it as plain numbers")
    if library == "torch":
        raise BadRequest("torch.ao has no format for folders; use int8@SCOPE without engine=torch, which is torchao's")
    quantizer = {"torchao": _torchao, "bitsandbytes": _bitsandbytes}[library](model, held)
    described = with_config(model, quantizer.quantization_config)
    described.hf_quantizer = quantizer
    described.save_pretrained(folder, save_original_format=False)  # keys as the modules are called


def with_config(model: nn.Module, quantization_config) -> nn.Module:
    """The model itself, weights and all, under a config of its own that describes how weights are quantized."""
    described = copy.copy(model)
    described.config = copy.deepcopy(model.config)
    described.config.quantization_config = quantization_config
    return described


def _held(model: nn.Module) -> dict[str, Quantized]:
    return {name: held for name, module in model.named_modules() if (held := quantized(module))}


def _torchao(model: nn.Module, held: dict[str, Quantized]):
    """transformers' quantizer for these modules."""
    from transformers import TorchAoConfig
    from transformers.quantizers.quantizer_torchao import TorchAoHfQuantizer

    ao = imported("torchao.quantization")
    built = _as_built(model)
    if wrong := [name for name in held if type(built.get_submodule(name)) is not nn.Linear]:
        kind = type(built.get_submodule(wrong[0])).__name__
        raise BadRequest(
            f"transformers loads weights of torchao in nn.Linear only, and {len(wrong)} of this model's modules are "
            f"{kind} ({wrong[0]}); use llm-int8, nf4 or rtn"
        )
    if tied := [name for name in held if f"{name}.weight" in getattr(built, "all_tied_weights_keys", {})]:
        raise BadRequest(
            f"transformers ties {tied[0]} to the embedding in this architecture, and compares the two when it loads, "
            "which torchao has no function for; use llm-int8, nf4 or rtn"
        )
    configs = ao.FqnToConfig({name: _torchao_config(one.tensor) for name, one in held.items()})
    return TorchAoHfQuantizer(TorchAoConfig(quant_type=configs, modules_to_not_convert=[]), pre_quantized=True)


def _torchao_config(weight: torch.Tensor):
    """torchao's config that makes a weight like this one."""
    width = weight.block_size[-1]
    group = "channel" if width == weight.shape[-1] else width
    if type(weight).__name__ == "IntxUnpackedToInt8Tensor":
        return int8.weight_int4(group, sym=not weight.zero_point.any())
    per = "tensor" if weight.scale.numel() == 1 and weight.shape[0] > 1 else group
    return int8.weight_int8(per) if weight.act_quant_kwargs is None else int8.dynamic_int8(per)


def _bitsandbytes(model: nn.Module, held: dict[str, Quantized]):
    """transformers' quantizer for these modules."""
    from transformers import BitsAndBytesConfig
    from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
    from transformers.quantizers.quantizer_bnb_8bit import Bnb8BitHfQuantizer
    from transformers.quantizers.quantizers_utils import should_convert_module

    kinds = {(one.kind, getattr(one, "nested", None)) for one in held.values()}
    if len(kinds) > 1:
        raise BadRequest("a folder holds one kind of bitsandbytes weights; use one of nf4, nf4 with double, llm-int8")
    built = _as_built(model)
    linear = [n for n, m in built.named_modules() if type(m) is nn.Linear or type(m).__name__ == "Conv1D"]
    skipped = [name for name in linear if name not in held]
    never = [*skipped, *(getattr(model, "_keep_in_fp32_modules", None) or ())]
    if lost := [name for name in held if not should_convert_module(name, never)]:
        raise BadRequest(
            f"transformers never loads {lost[0]} quantized by bitsandbytes in this architecture ({len(lost)} modules); "
            "choose a scope without them, or int8, int8-weight, int4-weight"
        )
    first = next(iter(held.values()))
    if first.kind == "Linear8bitLt":
        thresholds = {one.module.state.threshold for one in held.values()}
        if len(thresholds) > 1:
            raise BadRequest("a folder holds one threshold of llm-int8; use the same in all steps")
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=thresholds.pop(), llm_int8_skip_modules=skipped)
        return Bnb8BitHfQuantizer(config, pre_quantized=True)
    for name, one in held.items():
        if one.shape[0] % FAST_ROWS:
            raise BadRequest(
                f"{name} has {one.shape[0]} outputs: on CPUs with AVX512-BF16 bitsandbytes takes multiples of "
                f"{FAST_ROWS} only, and the folder would fail there; choose a scope without it, or int4-weight"
            )
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=first.state.quant_type,
        bnb_4bit_use_double_quant=first.nested,
        bnb_4bit_compute_dtype=first.module.compute_dtype,
        llm_int8_skip_modules=skipped,
    )
    return Bnb4BitHfQuantizer(config, pre_quantized=True)


def _as_built(model: nn.Module) -> nn.Module:
    """The modules that transformers builds for this model's config, before it loads weights (no memory)."""
    with torch.device("meta"):
        return type(model)(copy.deepcopy(model.config))
