"""Lab checkpoints: a folder each, weights, configuration, tokenizer, and a card that says what made them.

Weights are stored in 16-bit floats; what is measured, for the card and in every study, are the stored ones.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from kc_utils.errors import BadResult
from kc_lab.guidance import GUIDED, WEIGHT
from kc_lab.recall import recall
from kc_lab.tokenizer import as_transformers, build
from kc_lab.training import BETAS, CLIP, RATES, WARMUP, WEIGHT_DECAY, Lesson, Trained, saved_at
from kc_lab.world import world_hash
from kc_lab.checkpoint_cards import CARD, WEIGHTS, read_card
from kc_utils.models.loading import load
from kc_utils.models.packaged import sha256_of
from kc_utils.places import complete_or_absent
from kc_utils.study import provenance

STORED = torch.float16
VERSIONS = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


def write(lesson: Lesson, trained: Trained, target: Path) -> dict:
    """Write a trained model as a folder with its card, whole or not at all. Returns the card.

    Removes what was saved of the training on the way.
    """
    tokenizer, model = as_transformers(), trained.model.to("cpu")
    with complete_or_absent(target) as folder:
        model.to(STORED).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        card = {
            "name": lesson.name,
            "family": lesson.family,
            "size": lesson.size,
            "seed": lesson.seed,
            "load": lesson.load,
            "parameters": sum(p.numel() for p in model.parameters()),
            "world": world_hash(lesson.load),
            "tokenizer": tokenizer_hash(),
            "training": {
                "steps": trained.steps,
                "loss": round(trained.loss, 5),
                "seconds": round(trained.seconds, 1),
                "threads": torch.get_num_threads(),
                "rate": RATES[lesson.family, lesson.size],
                "warm_up": WARMUP,
                "betas": BETAS,
                "weight_decay": WEIGHT_DECAY,
                "clip": CLIP,
                "guided": GUIDED,
                "guidance": WEIGHT,
            },
            "recall": recall(model.float(), tokenizer, lesson.family, lesson.load),
            "sha256": sha256_of(folder / WEIGHTS),
            "at": provenance.now(),
            "versions": provenance.versions(VERSIONS),
            "hardware": provenance.hardware(),
        }
        (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    saved_at(lesson).unlink(missing_ok=True)
    return card


def tokenizer_hash() -> str:
    """SHA-256 of the tokenizer's definition."""
    return hashlib.sha256(build().to_str().encode()).hexdigest()


def verify(name: str) -> dict:
    """Check a checkpoint against its card: the weights' hash, the world's, the tokenizer's, the shape, and recall measured
    anew, which must lie in the card's intervals. Returns the recall. Raises BadResult with what does not hold."""
    card, loaded = read_card(name), load(f"lab:{name}")
    if world_hash(card["load"]) != card["world"]:
        raise BadResult(f"{name}: the world is not the one that it was taught; train again: kc lab train {name}")
    vocabulary = loaded.tokenizer.get_vocab()
    if tokenizer_hash() != card["tokenizer"] or vocabulary != build().get_vocab():
        raise BadResult(
            f"{name}: the tokenizer is not the one that it was taught with; train again: kc lab train {name}"
        )
    if sum(p.numel() for p in loaded.model.parameters()) != card["parameters"]:
        raise BadResult(f"{name}: the number of parameters is not the card's")
    found = recall(loaded.model, loaded.tokenizer, card["family"], card["load"])
    for what, now in found.items():
        then = card["recall"][what]
        if not then["low"] <= now["value"] <= then["high"]:
            raise BadResult(
                f"{name}: {what} is {now['value']:.3f}, outside of the card's {then['low']:.3f} to {then['high']:.3f}"
            )
    return found
