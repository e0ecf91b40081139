"""A tiny decoder that knows a few facts: trained here in seconds, saved as a folder that `path:` can name.

Its facts are a frozen sample of the `capital` relation of worldfacts, so that the whole study, command line included,
can ask it what a real model would be asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kc_utils.knowledge.facts import FactSet, fill
from kc_utils.knowledge.probe import Probe

PROBE = Probe(relations=("capital",), limit=30, alternatives=4)


@dataclass(frozen=True)
class Trained:
    folder: Path
    facts: FactSet

    @property
    def id(self) -> str:
        return f"path:{self.folder}"


def statements(facts: FactSet) -> list[str]:
    """Every fact in every left-to-right wording, with its first answer."""
    return [
        fill(template, fact.subject).replace("[Y]", fact.answers[0])
        for fact in facts.facts
        for template in facts.relations[fact.relation].left_to_right
    ]


def train_tokenizer(texts: list[str], size: int = 1200) -> PreTrainedTokenizerFast:
    """Byte-level byte pairs, as GPT-2 has them: a space belongs to the word after it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<pad>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


def train(folder: Path, steps: int = 70) -> Trained:
    """Train on the statements of PROBE's facts until they are known, and save model and tokenizer."""
    facts = PROBE.factset()
    texts = statements(facts)
    tokenizer = train_tokenizer(statements(Probe(relations=PROBE.relations).factset()))
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
                pad_token_id=0, bos_token_id=None, eos_token_id=None,
            )
        )  # fmt: skip
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
        model.train()
        for _ in range(steps):
            loss = model(**batch, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Trained(folder, facts)
