"""The models of the lab: transformers' own BERT, T5 and Llama at three sizes, and their weights before training.

Within a size the three families differ by less than a tenth in parameters, embedding included. Output and input embedding are
tied, as in most models of the study; there is no dropout, since every row is seen a few times only.

First weights follow mimetic initialization (Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers"), so
that short trainings learn to look things up. In the first layer that reads a row, attention passes on unchanged what it
attends to; in the last, a token attends to those that resemble it. In Llama, whose embeddings are smaller at this size than
what its layers add to them, the layers' outputs are scaled down, so that a token is not drowned at once.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from kc_lab.cards import WIKIPEDIA
from kc_lab.tokenizer import SPECIAL, build
from kc_utils.errors import BadRequest, listed

TINY = "tiny"
"""The size that is taught at equal exposures, without worldfacts: it has no embedding of the pieces of real names."""
SIZES = (TINY, "small", "large", WIKIPEDIA)
_WIDTH = {TINY: 24, "small": 64, "large": 96, WIKIPEDIA: 256}
_INNER = {  # width of the feed-forward layers, chosen for equal parameter counts
    ("encoder", "tiny"): 80, ("encoder-decoder", "tiny"): 48, ("decoder", "tiny"): 72,
    ("encoder", "small"): 256, ("encoder-decoder", "small"): 128, ("decoder", "small"): 176,
    ("encoder", "large"): 384, ("encoder-decoder", "large"): 192, ("decoder", "large"): 264,
    ("encoder", WIKIPEDIA): 1024, ("encoder-decoder", WIKIPEDIA): 768, ("decoder", WIKIPEDIA): 688,
}  # fmt: skip
_LAYERS = {TINY: 3, "small": 3, "large": 3, WIKIPEDIA: 4}
HEADS = 2
_HEADS = {WIKIPEDIA: 4}
POSITIONS = 96
_POSITIONS = {WIKIPEDIA: 128}
SPREAD = 0.02
"""Of an encoder that reads real sentences, as in BERT: at larger first weights, what its layers add drowns a token."""
SHARPNESS = 10.0
"""Attention score of a token with itself, in each head of the last layer, before training."""


def fresh(family: str, size: str, seed: int) -> torch.nn.Module:
    """An untrained model, its weights drawn by seed. Raises BadRequest for an unknown family or size."""
    if (family, size) not in _INNER:
        raise BadRequest(f"no lab model {family}-{size}: sizes are {listed(SIZES)}")
    from kc_lab import wikipedia

    real = size == WIKIPEDIA
    tokenizer = wikipedia.build() if real else build(size != TINY)
    shape = _WIDTH[size], _INNER[family, size], _LAYERS[size], _HEADS.get(size, HEADS), _POSITIONS.get(size, POSITIONS)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = made(family, tokenizer, *shape, SPREAD if real else None)
        return model if real else begin(model)


def made(
    family: str, tokenizer: Tokenizer, width: int, inner: int, layers: int, heads: int, positions: int, spread: float | None
) -> torch.nn.Module:
    """A model of these widths for the vocabulary of a tokenizer, its weights drawn from torch's random state.

    spread: standard deviation of an encoder's first weights; None for the one at which a matrix keeps the size of its inputs.
    """
    number = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    common = {"vocab_size": tokenizer.get_vocab_size(), "pad_token_id": number["<pad>"]}
    if family == "encoder":
        config = BertConfig(
            **common, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
            num_attention_heads=heads, max_position_embeddings=positions, type_vocab_size=1,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=spread or width**-0.5,
        )  # fmt: skip
        return BertForMaskedLM(config)
    if family == "encoder-decoder":
        config = T5Config(
            **common, d_model=width, d_kv=width // heads, d_ff=inner, num_layers=(layers + 1) // 2, num_heads=heads,
            dropout_rate=0.0, feed_forward_proj="relu", decoder_start_token_id=number["<pad>"],
            eos_token_id=number["</s>"], relative_attention_num_buckets=16, relative_attention_max_distance=32,
        )  # fmt: skip
        return T5ForConditionalGeneration(config)
    config = LlamaConfig(
        **common, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        max_position_embeddings=positions, tie_word_embeddings=True, bos_token_id=number["<s>"],
        eos_token_id=number["</s>"], initializer_range=width**-0.5,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@torch.no_grad()
def begin(model: torch.nn.Module) -> torch.nn.Module:
    """Set the first weights of a new BERT, T5 or Llama from torch's random state. Returns the model."""
    layers, scaled = READERS[model.config.model_type](model)
    _, _, value, out = layers[0]
    value.weight.copy_(_rotation(value.weight))
    out.weight.copy_(value.weight.T)
    query, key, _, _ = layers[-1]
    query.weight.copy_(_rotation(query.weight))
    key.weight.copy_(query.weight)
    width = query.weight.shape[0] // _heads(model.config)
    score = SHARPNESS / width * (width**0.5 if scaled else 1.0)
    query.weight.mul_(score**0.5)
    key.weight.mul_(score**0.5)
    if model.config.model_type == "llama":
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.div_(model.config.hidden_size**0.5)
            layer.mlp.down_proj.weight.div_(model.config.hidden_size**0.5)
    return model


def _rotation(weight: torch.Tensor) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(*weight.shape))[0]


def _heads(config) -> int:
    return config.num_heads if config.model_type == "t5" else config.num_attention_heads


def _bert(model):
    attention = [layer.attention for layer in model.bert.encoder.layer]
    return [(a.self.query, a.self.key, a.self.value, a.output.dense) for a in attention], True


def _t5(model):
    attention = [block.layer[0].SelfAttention for block in model.encoder.block]
    return [(a.q, a.k, a.v, a.o) for a in attention], False


def _llama(model):
    attention = [layer.self_attn for layer in model.model.layers]
    return [(a.q_proj, a.k_proj, a.v_proj, a.o_proj) for a in attention], True


READERS = {"bert": _bert, "t5": _t5, "llama": _llama}
"""By model type: query, key, value and output projections of each layer that reads the row, and whether attention scores
are divided by the square root of a head's width."""
