"""A tiny model of each family that knows a few facts: trained here in seconds, saved as a folder that `path:` can name.

Its facts are a frozen sample of the `capital` relation of worldfacts, so that the whole study, command line included,
can evaluate it like a real model. Each is taught every template of every fact, as its family sees statements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from kc_utils.probing.facts import FactSet
from kc_utils.probing.probe import Probe
from kc_utils.probing.queries import Query, queries_of
from kc_utils.probing.scorers import Seq2SeqScorer

PROBE = Probe(relations=("capital",), limit=30, alternatives=4)
MIXED = Probe(relations=("capital",), limit=60, templates="all", alternatives=4)  # the known 30 and 30 others


SIZES = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 96,
}  # fmt: skip


def train(model, tokenizer, loss: Callable[..., torch.Tensor], steps: int, folder: Path, rate: float = 1e-2) -> None:
    """Take so many steps down loss(model), and save model and tokenizer. One thread: nearly the same weights everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        value = loss(model)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    torch.set_num_threads(threads)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@dataclass(frozen=True)
class Trained:
    folder: Path
    facts: FactSet

    @property
    def id(self) -> str:
        return f"path:{self.folder}"


def statements(facts: FactSet) -> list[str]:
    """Every fact in every template, with its first answer."""
    return [q.stated(q.fact.answers[0]) for q in queries_of(facts, "all")]


def corpus() -> list[str]:
    """What tokenizers are trained on: all capitals, those that no model is taught too."""
    return statements(Probe(relations=PROBE.relations).factset())


def _learn(tokenizer: Tokenizer, trainer: type, size: int, special: list[str], more=(), **options) -> None:
    options |= {"vocab_size": size, "special_tokens": special, "show_progress": False}
    tokenizer.train_from_iterator([*corpus(), *more], trainer(**options))


def byte_level(size: int = 1200) -> PreTrainedTokenizerFast:
    """Byte pairs, as GPT-2 has them: a space belongs to the word after it. It has a begin token and does not add it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    _learn(tokenizer, trainers.BpeTrainer, size, ["<pad>", "<s>"], initial_alphabet=alphabet)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>")


def word_pieces(size: int = 1300, lowercase: bool = True) -> PreTrainedTokenizerFast:
    """Word pieces, as BERT has them; small enough that many a name takes several."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    _learn(tokenizer, trainers.WordPieceTrainer, size, special)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def sentinels(size: int = 700) -> PreTrainedTokenizerFast:
    """Pieces of words with their space, as T5's sentencepiece has them, and its sentinels."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_1>"]
    _learn(tokenizer, trainers.BpeTrainer, size, special, ["0123456789"])
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens=special[3:],
    )  # fmt: skip


def train_decoder(folder: Path) -> Trained:
    facts, tokenizer = PROBE.factset(), byte_level()
    batch = tokenizer(["<s>" + text for text in statements(facts)], padding=True, return_tensors="pt")
    batch["labels"] = _unless(batch.attention_mask == 1, batch.input_ids)
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
    config = LlamaConfig(num_key_value_heads=2, tie_word_embeddings=True, **SIZES, **tokens)
    return _taught(folder, facts, tokenizer, lambda: LlamaForCausalLM(config), lambda: _some(batch), steps=90)


def train_encoder(folder: Path) -> Trained:
    """Taught to fill masks: half of the time all of the answer, else tokens at random."""
    facts, tokenizer = PROBE.factset(), word_pieces()
    extra = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
    batch = tokenizer(statements(facts), padding=True, return_tensors="pt", **extra)
    spans = [(len(q.lead), len(q.stated(q.fact.answers[0])) - len(q.text.split("[Y]")[1])) for q in _queries(facts)]
    begin, end = (torch.tensor(x)[:, None] for x in zip(*spans, strict=True))
    answer = (batch.offset_mapping[..., 0] >= begin) & (batch.offset_mapping[..., 1] <= end)
    batch = {**batch, "answer": answer, "plain": batch.special_tokens_mask == 0}

    def masked() -> dict:
        part = _some(batch)
        ids, plain = part["input_ids"], part["plain"]
        whole = torch.rand(len(ids), 1) < 0.5
        hidden = torch.where(whole, part["answer"], torch.rand(ids.shape) < 0.3) & plain
        seen = ids.masked_fill(hidden, tokenizer.mask_token_id)
        return {"input_ids": seen, "attention_mask": part["attention_mask"], "labels": _unless(hidden, ids)}

    sure = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.1}
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=0, **SIZES, **sure)
    return _taught(folder, facts, tokenizer, lambda: BertForMaskedLM(config), masked, steps=140)


def train_encoder_decoder(folder: Path) -> Trained:
    facts, tokenizer = PROBE.factset(), sentinels()
    gaps = [list(Seq2SeqScorer(tokenizer).gap(q)[0]) for q in _queries(facts)]
    batch = tokenizer.pad({"input_ids": gaps}, return_tensors="pt")
    said = [f"<extra_id_0> {q.spelled(q.fact.answers[0])} <extra_id_1>" for q in _queries(facts)]
    target = tokenizer(said, padding=True, return_tensors="pt")
    batch["labels"] = _unless(target.attention_mask == 1, target.input_ids)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return _taught(folder, facts, tokenizer, lambda: T5ForConditionalGeneration(config), lambda: _some(batch), steps=70)


def _queries(facts: FactSet) -> list[Query]:
    return queries_of(facts, "all")


def _some(batch: dict, rows: int = 48) -> dict:
    """Some rows at random."""
    chosen = torch.randperm(len(batch["input_ids"]))[:rows]
    return {name: values[chosen] for name, values in batch.items()}


def _unless(kept: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Labels: the tokens that are kept, nothing elsewhere."""
    return ids.masked_fill(~kept, -100)


def _taught(folder: Path, facts: FactSet, tokenizer, model: Callable, batch: Callable[[], dict], steps: int) -> Trained:
    """Train on PROBE's facts until they are known, and save model and tokenizer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        train(model(), tokenizer, lambda model: model(**batch()).loss, steps, folder)
    return Trained(folder, facts)


TRAIN = {"decoder": train_decoder, "encoder": train_encoder, "encoder-decoder": train_encoder_decoder}
