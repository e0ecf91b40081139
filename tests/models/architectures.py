"""A tiny randomly initialised model of each architecture of the table, with transformers' real module structure."""

from collections.abc import Callable

import torch
import transformers as t
from torch import nn

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 40,
    "max_position_embeddings": 24, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA = {**SMALL, "num_key_value_heads": 1, "head_dim": 8}
T5 = {
    "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": 40,
    "decoder_start_token_id": 0,
}  # fmt: skip
BART = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "vocab_size": 40, "max_position_embeddings": 24, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0, "forced_eos_token_id": None,
}  # fmt: skip

TINY: dict[str, Callable[[], nn.Module]] = {
    "bert": lambda: t.BertForMaskedLM(t.BertConfig(**SMALL)),
    "bert with pooler": lambda: t.BertForPreTraining(t.BertConfig(**SMALL)),
    "roberta": lambda: t.RobertaForMaskedLM(t.RobertaConfig(**SMALL)),
    "distilbert": lambda: t.DistilBertForMaskedLM(
        t.DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=24, vocab_size=40, max_position_embeddings=24)
    ),
    "albert": lambda: t.AlbertForMaskedLM(t.AlbertConfig(embedding_size=8, **SMALL)),
    "electra": lambda: t.ElectraForMaskedLM(t.ElectraConfig(embedding_size=8, **SMALL)),
    "electra discriminator": lambda: t.ElectraForPreTraining(t.ElectraConfig(embedding_size=8, **SMALL)),
    "t5": lambda: t.T5ForConditionalGeneration(t.T5Config(**T5)),
    "flan-t5, lamini": lambda: t.T5ForConditionalGeneration(
        t.T5Config(feed_forward_proj="gated-gelu", tie_word_embeddings=False, **T5)
    ),
    "bart": lambda: t.BartForConditionalGeneration(t.BartConfig(**BART)),
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**LLAMA)),
    "llama, tied": lambda: t.LlamaForCausalLM(t.LlamaConfig(tie_word_embeddings=True, **LLAMA)),
    "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**LLAMA)),
    "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(tie_word_embeddings=True, **LLAMA)),
    "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**LLAMA)),
    "gemma": lambda: t.GemmaForCausalLM(t.GemmaConfig(**LLAMA)),
    "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**LLAMA)),
    "gemma3_text": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**LLAMA)),
    "phi3": lambda: t.Phi3ForCausalLM(t.Phi3Config(**{k: v for k, v in LLAMA.items() if k != "head_dim"})),
    "opt": lambda: t.OPTForCausalLM(
        t.OPTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=24, vocab_size=40,
                    word_embed_proj_dim=8, max_position_embeddings=24)
    ),
    "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=40, n_positions=24)),
    "gpt_neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**SMALL)),
}  # fmt: skip
# (attention, feed-forward) matrices, counted by hand from the architectures' papers: 2 layers, T5's and BART's stacks
BLOCK_MATRICES = {
    "bert": (8, 4), "bert with pooler": (8, 4), "roberta": (8, 4), "distilbert": (8, 4), "albert": (4, 2),
    "electra": (8, 4), "electra discriminator": (8, 4), "t5": (8 + 16, 4 + 4), "flan-t5, lamini": (8 + 16, 6 + 6),
    "bart": (8 + 24, 4 + 6), "llama": (8, 6), "llama, tied": (8, 6), "mistral": (8, 6), "qwen2": (8, 6),
    "qwen3": (8, 6), "gemma": (8, 6), "gemma2": (8, 6), "gemma3_text": (8, 6), "phi3": (4, 4), "opt": (8, 4),
    "gpt2": (4, 4), "gpt_neox": (4, 4),
}  # fmt: skip


def drawn(make: Callable[[], nn.Module], spread: float = 0.3, seed: int = 0) -> nn.Module:
    """The model in eval mode, seeded, with weights large enough that rounding them shows."""
    t.logging.set_verbosity_error()
    torch.manual_seed(seed)
    model = make().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, spread)
    return model


def tiny(name: str, seed: int = 0) -> nn.Module:
    return drawn(TINY[name], seed=seed)


def logits(model: nn.Module) -> torch.Tensor:
    """Output scores on a fixed input."""
    ids = torch.tensor([[3, 5, 7, 9, 11, 4]])
    extra = {"decoder_input_ids": ids.flip(1)} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        output = model(input_ids=ids, **extra)
    return output.logits if "logits" in output else output[0]
