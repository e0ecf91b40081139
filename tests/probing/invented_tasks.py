"""Invented items in the layouts of BoolQ, PIQA and WinoGrande, and small models with a tokenizer that reads them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
import transformers as t
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from kc_utils.probing.probe import Probe

WORDS = [
    "river", "stone", "copper", "lantern", "garden", "pilot", "winter", "barrel",
    "engine", "market", "violin", "harbour", "meadow", "signal", "cotton", "ladder",
]  # fmt: skip
TASKS = ("boolq", "piqa", "winogrande")


def write_data(folder: Path, items: int = 12, first_only: bool = False) -> Path:
    """A data folder with `items` of each task. The right answers alternate, or all stand first."""
    draw = random.Random(0)
    say = lambda low, high: " ".join(draw.choice(WORDS) for _ in range(draw.randint(low, high)))  # noqa: E731
    gold = [0 if first_only else n % 2 for n in range(items)]
    shared = say(150, 160)  # two questions about one long passage
    boolq = [
        {"question": f"is the {say(2, 5)} older", "passage": shared if n < 2 else say(5, 60), "answer": bool(right)}
        for n, right in enumerate(gold)
    ]
    piqa = []
    for _ in range(items):
        start = say(3, 12)
        piqa.append({"goal": say(2, 8), "sol1": f"{start} {say(1, 3)}", "sol2": f"{start} {say(2, 6)}"})
    winogrande = [
        {"sentence": f"The {say(3, 6)} met the pilot and _ kept the {say(2, 5)}.", "option1": one, "option2": two, "answer": a}
        for (one, two), a in zip((draw.sample(WORDS, 2) for _ in range(items)), [str(g + 1) for g in gold], strict=True)
    ]  # fmt: skip
    files = {"boolq/val.jsonl": boolq, "piqa/valid.jsonl": piqa, "winogrande/dev.jsonl": winogrande}
    for name, records in files.items():
        path = folder / "harness" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    (folder / "harness/piqa/valid-labels.lst").write_text("".join(f"{g}\n" for g in gold), encoding="utf-8")
    return folder


def tokenizer(begin: bool = False, end: bool = False):
    """Byte pairs over the invented words; with a token before or after each text, as Llama's and T5's have."""
    bytes_to_words = Tokenizer(models.BPE())
    bytes_to_words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_to_words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=["<pad>"], initial_alphabet=alphabet, show_progress=False)
    texts = [" " + " ".join(WORDS), "Question: yes no Answer: The met the pilot and kept"]
    bytes_to_words.train_from_iterator(texts, trainer)
    made = t.PreTrainedTokenizerFast(tokenizer_object=bytes_to_words, pad_token="<pad>")
    made.add_special_tokens({"eos_token": "<eos>", "bos_token": "<bos>"} if begin else {"eos_token": "<eos>"})
    if begin or end:
        marks = [(made.bos_token if begin else "", made.bos_token_id), (made.eos_token if end else "", made.eos_token_id)]
        made.backend_tokenizer.post_processor = TemplateProcessing(
            single=" ".join(filter(None, [marks[0][0], "$A", marks[1][0]])), special_tokens=[m for m in marks if m[0]]
        )
    return made


def tasks(names, limit: int | None = None, seed: int = 0) -> Probe:
    """A probe of these tasks alone."""
    return Probe(facts=None, tasks=tuple(names), task_limit=limit, seed=seed)


def model(kind: str, size: int, positions: int = 1024):
    """A tiny model of a kind with seeded weights, large enough for a wrong mask or position to show."""
    llama = {
        "vocab_size": size, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
        "num_key_value_heads": 1, "max_position_embeddings": positions, "pad_token_id": 0, "bos_token_id": None,
        "eos_token_id": None, "tie_word_embeddings": "tied" in kind,
    }  # fmt: skip
    small = {"d_model": 16, "vocab_size": size, "pad_token_id": 0, "decoder_start_token_id": 0}
    torch.manual_seed(0)
    made = {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**llama)),
        "gpt2": lambda: t.GPT2LMHeadModel(
            t.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=size, n_positions=positions)
        ),
        "bloom": lambda: t.BloomForCausalLM(t.BloomConfig(hidden_size=16, n_layer=2, n_head=2, vocab_size=size)),
        "t5": lambda: t.T5ForConditionalGeneration(t.T5Config(d_kv=8, d_ff=24, num_layers=2, num_heads=2, **small)),
        "bart": lambda: t.BartForConditionalGeneration(
            t.BartConfig(
                encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
                encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=positions, **small,
            )
        ),
    }[kind.removesuffix(", tied")]().eval()  # fmt: skip
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    return made
