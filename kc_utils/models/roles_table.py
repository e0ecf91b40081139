"""The table of architectures: for each `model_type` of transformers, which module has which role.

A path is matched from the right at dots, so `encoder.layer.*` finds `bert.encoder.layer.0` as well; `*` is a number.
Bring a new architecture in by adding a row here, or as `architecture:` of a model in a study file, in the same words.
Module names read from transformers 5.23.0; tests/models/test_scopes.py builds every row's real module structure and
checks that each weight matrix has exactly one role.
"""

from kc_utils.models.roles import Architecture

_BERT_LAYER = {
    "layers": "encoder.layer.*",
    "attention": {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "output": "attention.output.dense",
    },
    "feed_forward": {"up": "intermediate.dense", "down": "output.dense"},
}
_BERT_EMBEDDINGS = [
    "embeddings.word_embeddings",
    "embeddings.position_embeddings",
    "embeddings.token_type_embeddings",
]
_QKVO = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
_BART_ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
_T5_FEED_FORWARD = {"up": ["wi", "wi_1"], "gate": "wi_0", "down": "wo"}  # gated: act(wi_0 x) * wi_1 x


def _inside(module: str, names: dict) -> dict:
    """The same roles one module further in: {"query": "q"} in `attn` is {"query": "attn.q"}."""
    return {
        role: [f"{module}.{p}" for p in ([path] if isinstance(path, str) else path)] for role, path in names.items()
    }


_LLAMA = {
    "family": "decoder",
    "decoder": {
        "layers": "layers.*",
        "attention": _inside("self_attn", {**_QKVO, "output": "o_proj"}),
        "feed_forward": {"up": "mlp.up_proj", "gate": "mlp.gate_proj", "down": "mlp.down_proj"},
    },
    "head": "lm_head",
    "embedding": "embed_tokens",
}

_TABLE = {
    # Encoders
    "bert": {
        "family": "encoder",
        "encoder": _BERT_LAYER,
        "head": "cls.predictions.decoder",
        "transform": "cls.predictions.transform.dense",
        "pooler": ["pooler.dense", "cls.seq_relationship"],
        "embedding": _BERT_EMBEDDINGS,
        "paper_qkv_only": True,
    },
    "roberta": {
        "family": "encoder",
        "encoder": _BERT_LAYER,
        "head": "lm_head.decoder",
        "transform": "lm_head.dense",
        "pooler": "pooler.dense",
        "embedding": _BERT_EMBEDDINGS,
        "paper_qkv_only": True,
    },
    "electra": {
        "family": "encoder",
        "encoder": _BERT_LAYER,
        "head": ["generator_lm_head", "discriminator_predictions.dense_prediction"],
        "transform": ["generator_predictions.dense", "discriminator_predictions.dense"],
        "projection": "embeddings_project",
        "embedding": _BERT_EMBEDDINGS,
    },
    "distilbert": {
        "family": "encoder",
        "encoder": {
            "layers": "transformer.layer.*",
            "attention": _inside(
                "attention", {"query": "q_lin", "key": "k_lin", "value": "v_lin", "output": "out_lin"}
            ),
            "feed_forward": {"up": "ffn.lin1", "down": "ffn.lin2"},
        },
        "head": "vocab_projector",
        "transform": "vocab_transform",
        "embedding": _BERT_EMBEDDINGS,
    },
    # One set of weights is used by all layers: a "layer" here is a set of weights, as a rule only layer 0.
    "albert": {
        "family": "encoder",
        "encoder": {
            "layers": "encoder.albert_layer_groups.*.albert_layers.*",
            "attention": _inside("attention", {"query": "query", "key": "key", "value": "value", "output": "dense"}),
            "feed_forward": {"up": "ffn", "down": "ffn_output"},
        },
        "head": "predictions.decoder",
        "transform": "predictions.dense",
        "projection": "encoder.embedding_hidden_mapping_in",
        "pooler": ["pooler", "sop_classifier.classifier"],
        "embedding": _BERT_EMBEDDINGS,
    },
    # Encoder-decoders
    "t5": {
        "family": "encoder-decoder",
        "encoder": {
            "layers": "encoder.block.*",
            "attention": _inside("layer.0.SelfAttention", {"query": "q", "key": "k", "value": "v", "output": "o"}),
            "feed_forward": _inside("layer.1.DenseReluDense", _T5_FEED_FORWARD),
        },
        "decoder": {
            "layers": "decoder.block.*",
            "attention": _inside("layer.0.SelfAttention", {"query": "q", "key": "k", "value": "v", "output": "o"}),
            "cross_attention": _inside(
                "layer.1.EncDecAttention", {"query": "q", "key": "k", "value": "v", "output": "o"}
            ),
            "feed_forward": _inside("layer.2.DenseReluDense", _T5_FEED_FORWARD),
        },
        "head": "lm_head",
        "embedding": ["shared", "embed_tokens", "relative_attention_bias"],
    },
    "bart": {
        "family": "encoder-decoder",
        "encoder": {
            "layers": "encoder.layers.*",
            "attention": _inside("self_attn", _BART_ATTENTION),
            "feed_forward": {"up": "fc1", "down": "fc2"},
        },
        "decoder": {
            "layers": "decoder.layers.*",
            "attention": _inside("self_attn", _BART_ATTENTION),
            "cross_attention": _inside("encoder_attn", _BART_ATTENTION),
            "feed_forward": {"up": "fc1", "down": "fc2"},
        },
        "head": "lm_head",
        "embedding": ["shared", "embed_tokens", "embed_positions"],
    },
    # Decoders. Vicuna, WizardLM, SmolLM2 and Llama 3 are `llama`.
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "phi3": {
        **_LLAMA,
        "decoder": {
            "layers": "layers.*",
            "attention": {"qkv": "self_attn.qkv_proj", "output": "self_attn.o_proj"},
            "feed_forward": {"gate_up": "mlp.gate_up_proj", "down": "mlp.down_proj"},
        },
    },
    "opt": {
        "family": "decoder",
        "decoder": {
            "layers": "decoder.layers.*",
            "attention": _inside("self_attn", _BART_ATTENTION),
            "feed_forward": {"up": "fc1", "down": "fc2"},
        },
        "head": "lm_head",
        "projection": ["decoder.project_in", "decoder.project_out"],
        "embedding": ["embed_tokens", "embed_positions"],
    },
    # Conv1D: the weight is stored as (in, out), and query, key and value are one matrix.
    "gpt2": {
        "family": "decoder",
        "decoder": {
            "layers": "h.*",
            "attention": {"qkv": "attn.c_attn", "output": "attn.c_proj"},
            "feed_forward": {"up": "mlp.c_fc", "down": "mlp.c_proj"},
        },
        "head": "lm_head",
        "embedding": ["wte", "wpe"],
    },
    "gpt_neox": {
        "family": "decoder",
        "decoder": {
            "layers": "layers.*",
            "attention": {"qkv": "attention.query_key_value", "output": "attention.dense"},
            "feed_forward": {"up": "mlp.dense_h_to_4h", "down": "mlp.dense_4h_to_h"},
        },
        "head": ["lm_head", "embed_out"],
        "embedding": "embed_in",
    },
}

ARCHITECTURES: dict[str, Architecture] = {name: Architecture.model_validate(row) for name, row in _TABLE.items()}
