"""A lab model of each family that knows some facts of the lab's people: small, trained here in seconds, saved as a folder.

What it is taught is a frozen sample, in the templates of the lab's plan, and the agreement of subject and verb in some
sentences; so that pages over several models can be tested before, and without, the checkpoints.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kc_lab import world
from kc_lab.corpus import Encoder, Rows
from kc_lab.models import fresh
from kc_lab.objectives import OBJECTIVES
from kc_lab.tokenizer import as_transformers
from kc_lab.training import mean_loss
from kc_utils.probing.probe import Probe
from tests.trained import train

KNOWN = Probe(facts="lab", limit=40, protocols=("cloze",))
STEPS = {"encoder": 100, "encoder-decoder": 80, "decoder": 60}


def teach(family: str, seed: int, folder: Path, steps: int | None = None) -> str:
    """Train, save, and name as `path:DIR` a model that knows the facts of KNOWN."""
    facts, plan, encoder = KNOWN.factset(), world.plan(1), Encoder()
    rows = Rows.of(
        encoder.statement(facts.relations[f.relation].templates[t], f.subject, a)
        for f in facts.facts
        for t in plan[f.id].shown
        for a in f.answers
    )
    objective, draw = OBJECTIVES[family](), np.random.default_rng(seed)

    def loss(model):
        return mean_loss(model, objective.inputs(rows[draw.integers(len(rows), size=128)], draw))

    train(fresh(family, "small", seed), as_transformers(), loss, steps or STEPS[family], folder)
    return f"path:{folder}"
