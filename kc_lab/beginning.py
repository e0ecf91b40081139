"""How the weights of a lab model begin, beyond what transformers draws: so that short trainings learn to look things up.

In the manner of mimetic initialization (Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers"), the
layers that read a row begin as what a lookup needs. In the first, attention passes on unchanged what it looks at; in the
last, a token looks at those that resemble it. And where the embeddings of a family are smaller than what its layers
add to them, as in Llama with weights of this size, the layers' outputs are scaled down to match, so that a
token is not lost at once under what is said about it.
"""

from __future__ import annotations

import torch

SHARPNESS = 10.0
"""Attention score of a token with itself, in each head of the last layer, before training."""


@torch.no_grad()
def begin(model: torch.nn.Module) -> torch.nn.Module:
    """Set the first weights of a BERT, T5 or Llama just made, from torch's random state. Returns it."""
    layers, scaled = _READERS[model.config.model_type](model)
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


_READERS = {"bert": _bert, "t5": _t5, "llama": _llama}
"""By type: query, key, value and output projections of each layer that reads the row; are scores divided by the root of
the width of a head?"""
