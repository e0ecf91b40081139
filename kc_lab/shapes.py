"""The models of the lab: transformers' own BERT, T5 and Llama, at two sizes, with nearly equal numbers of parameters.

`small` is trained near what it can hold, `large` has room to spare. Within a size the three families differ by less than a
tenth in parameters, embedding included. Output and input embedding are tied, as in most models of the study; there is no
dropout, since every row is seen a few times only.
"""

from __future__ import annotations

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from kc_lab.beginning import begin
from kc_lab.tokenizer import SPECIAL, build
from kc_utils.errors import BadRequest, listed

SIZES = ("small", "large")
_WIDTH = {"small": 64, "large": 96}
_INNER = {  # width of the feed-forward layers, chosen for equal parameter counts
    ("encoder", "small"): 256, ("encoder-decoder", "small"): 128, ("decoder", "small"): 176,
    ("encoder", "large"): 384, ("encoder-decoder", "large"): 192, ("decoder", "large"): 264,
}  # fmt: skip
_LAYERS = {"small": 3, "large": 3}
POSITIONS = 96
HEADS = 2


def fresh(family: str, size: str, seed: int) -> torch.nn.Module:
    """An untrained model, its weights drawn by seed. Raises BadRequest for an unknown family or size."""
    if (family, size) not in _INNER:
        raise BadRequest(f"no lab model {family}-{size}: sizes are {listed(SIZES)}")
    width, inner, layers = _WIDTH[size], _INNER[family, size], _LAYERS[size]
    number = {token: build().token_to_id(token) for token in SPECIAL}
    common = {"vocab_size": build().get_vocab_size(), "pad_token_id": number["<pad>"]}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if family == "encoder":
            config = BertConfig(
                **common, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
                num_attention_heads=HEADS, max_position_embeddings=POSITIONS, type_vocab_size=1,
                hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=width**-0.5,
            )  # fmt: skip
            return begin(BertForMaskedLM(config))
        if family == "encoder-decoder":
            config = T5Config(
                **common, d_model=width, d_kv=width // HEADS, d_ff=inner, num_layers=2, num_heads=HEADS,
                dropout_rate=0.0, feed_forward_proj="relu", decoder_start_token_id=number["<pad>"],
                eos_token_id=number["</s>"], relative_attention_num_buckets=16, relative_attention_max_distance=32,
            )  # fmt: skip
            return begin(T5ForConditionalGeneration(config))
        config = LlamaConfig(
            **common, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=HEADS,
            max_position_embeddings=POSITIONS, tie_word_embeddings=True, bos_token_id=number["<s>"],
            eos_token_id=number["</s>"], initializer_range=width**-0.5,
        )  # fmt: skip
        return begin(LlamaForCausalLM(config))
