"""Tiny models as in `architectures`, with matrices of multiples of 32 outputs and 64 inputs, as real ones have."""

from collections.abc import Callable

import transformers as t
from torch import nn

from tests.models.architectures import LLAMA, SMALL, T5, drawn

SIZES = {**SMALL, "hidden_size": 64, "intermediate_size": 128, "vocab_size": 96}
_LLAMA = {**LLAMA, **SIZES, "head_dim": 32}
_T5 = {**T5, "d_model": 64, "d_kv": 32, "d_ff": 128, "vocab_size": 96}

WIDE: dict[str, Callable[[], nn.Module]] = {
    "bert": lambda: t.BertForMaskedLM(t.BertConfig(**SIZES)),
    "t5": lambda: t.T5ForConditionalGeneration(t.T5Config(**_T5)),
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**_LLAMA)),
    "llama, tied": lambda: t.LlamaForCausalLM(t.LlamaConfig(tie_word_embeddings=True, **_LLAMA)),
    "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(n_embd=64, n_layer=2, n_head=2, vocab_size=96, n_positions=24)),
}


def wide(name: str) -> nn.Module:
    return drawn(WIDE[name], 0.15)
