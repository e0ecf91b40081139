"""A lab model of each family that knows some facts of the lab's people: small, trained here in seconds, saved as a folder.

What it is taught is a frozen sample, in the wordings of the lab's plan, and the agreement of subject and verb in some
sentences; so that pages over several models can be tested before, and without, the checkpoints.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from kc_utils.knowledge.probe import Probe
from kc_utils.lab import world
from kc_utils.lab.corpus import Encoder, Rows
from kc_utils.lab.objectives import OBJECTIVES
from kc_utils.lab.shapes import fresh
from kc_utils.lab.tokenizer import as_transformers
from kc_utils.lab.training import mean_loss

KNOWN = Probe(facts="lab", limit=40, protocols=("cloze",))
RATES = {"encoder": 1e-2, "encoder-decoder": 1e-2, "decoder": 1e-2}
STEPS = {"encoder": 100, "encoder-decoder": 80, "decoder": 60}


def teach(family: str, seed: int, folder: Path, steps: int | None = None) -> str:
    """Train, save, and name as `path:DIR` a model that knows the facts of KNOWN."""
    facts, told, encoder = KNOWN.factset(), world.plan(1), Encoder()
    rows = Rows.of(
        encoder.statement(facts.relations[f.relation].templates[t], f.subject, a)
        for f in facts.facts
        for t in told[f.id].shown
        for a in f.answers
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    steps = steps or STEPS[family]
    objective, draw, model = OBJECTIVES[family](), np.random.default_rng(seed), fresh(family, "small", seed).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATES[family], weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATES[family], total_steps=steps)
    for _ in range(steps):
        loss = mean_loss(model, objective.inputs(rows[draw.integers(len(rows), size=128)], draw))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    torch.set_num_threads(threads)
    model.eval().save_pretrained(folder)
    as_transformers().save_pretrained(folder)
    return f"path:{folder}"
