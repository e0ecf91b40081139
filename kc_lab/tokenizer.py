"""The one tokenizer of all lab models: word pieces, every word of the invented world whole.

Names, values and words of the sentences are single tokens. The real names of worldfacts are cut into pieces learned from
them, single characters at the least, so that any Latin text can be read. It adds no token of its own: a decoder's
statements open with `<s>`, the gap of an encoder is `<mask>`, that of an encoder-decoder `<extra_id_0>`.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kc_lab import world

SENTINELS = tuple(f"<extra_id_{number}>" for number in range(4))
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<mask>", *SENTINELS)
PIECES = 450
"""Pieces for the real names, single characters included."""


def words() -> list[str]:
    """Every word that is one token, in the order of the vocabulary."""
    text = [t for r in world.taught(1).relations.values() for t in r.templates]
    found = [w for template in text for w in re.findall(r"\w+", re.sub(r"\[[XY]\]", " ", template))]
    for kind in world.KINDS:
        found += world.table(kind)
    found += [*world.MONTHS, *world.YEARS, *world.FIELDS, "The"]
    found += [noun + s for noun in world.NOUNS for s in ("", "s")] + [verb + s for verb in world.VERBS for s in ("", "s")]
    return list(dict.fromkeys([*found, *world.BETWEEN]))


@cache
def pieces() -> tuple[str, ...]:
    """Pieces of the real names, single characters first, from `pieces.txt`.

    They are frozen, since a trainer of word pieces breaks ties differently each time; `learn_pieces` made them."""
    text = resources.files("kc_lab").joinpath("pieces.txt").read_text(encoding="utf-8")
    return tuple(text.split())


def learn_pieces() -> list[str]:
    """Learn the pieces anew from the real names. Other pieces make another tokenizer, which no checkpoint fits."""
    return learned([text for fact in world.real().facts for text in (fact.subject, *fact.answers)], PIECES)


def learned(texts: Iterable[str], count: int, whole: Iterable[str] = ()) -> list[str]:
    """About `count` pieces learned from texts, with these words whole, in order of length and alphabet."""
    learner = Tokenizer(models.WordPiece(unk_token="<unk>"))
    learner.normalizer, learner.pre_tokenizer = normalizers.NFC(), pre_tokenizers.BertPreTokenizer()
    characters = string.ascii_letters + string.digits + string.punctuation
    trainer = trainers.WordPieceTrainer(vocab_size=count, initial_alphabet=list(characters), show_progress=False)
    learner.train_from_iterator(texts, trainer)
    inside = [f"##{c}" for c in string.ascii_letters + string.digits]  # the trainer keeps those it met alone
    return sorted({*learner.get_vocab(), *inside, *whole}, key=lambda piece: (len(piece.removeprefix("##")), piece))


@cache
def build(real: bool = True) -> Tokenizer:
    """The tokenizer, made anew from the world and the frozen pieces: the same on every machine.

    real: with the pieces of real names; else every word of the invented world, and nothing besides.
    """
    return of([*words(), *(pieces() if real else ".")])


def of(pieces: Iterable[str], sentinels: Sequence[str] = SENTINELS) -> Tokenizer:
    """A tokenizer of these words and pieces, numbered in their order behind the special tokens."""
    numbered = {token: number for number, token in enumerate(dict.fromkeys([*SPECIAL[:5], *sentinels, *pieces]))}
    tokenizer = Tokenizer(models.WordPiece(numbered, unk_token="<unk>", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def tokenizer_hash(tokenizer: Tokenizer | None = None) -> str:
    """SHA-256 of a tokenizer's definition."""
    return hashlib.sha256((tokenizer or build()).to_str().encode()).hexdigest()


def as_transformers(tokenizer: Tokenizer | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer for transformers, its special tokens named."""
    tokenizer = tokenizer or build()
    special = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token", "mask_token"), SPECIAL[:5], strict=True))
    gaps = [token for token in tokenizer.get_vocab() if token.startswith("<extra_id_")]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, extra_special_tokens=sorted(gaps, key=tokenizer.token_to_id), **special
    )
