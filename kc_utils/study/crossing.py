"""Runs written as a grid: models x techniques x probes, instead of one by one.

    grid:
      - models: [smollm2-135m]
        probes:
          trex: {facts: lama:trex, limit: 410}
        techniques:
          pruning: {sparsities: [0.2, 0.5]}

is a run `smollm2-135m-pruning-trex` of the notebook `decoder_pruning`, since the model is a decoder. Each part of the grid may
name models of several families, as long as these can be asked all its probes. `lab:*-small-*` stands for the models of the
registry that are there under such a name, be it none.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from kc_utils.errors import BadRequest, listed
from kc_utils.models.registry import registry, resolve


class Crossing(BaseModel):
    """models: ids, or patterns of them; probes: by a short name, the fields of what is asked; techniques: by name, parameters
    of its notebook."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: tuple[str, ...] = Field(min_length=1)
    probes: dict[str, dict] = Field(min_length=1)
    techniques: dict[str, dict] = Field(min_length=1)


def runs_of(grid: Iterable[Crossing]) -> dict[str, tuple[str, dict]]:
    """Run id -> notebook and parameters. Raises BadRequest for an unknown model, for a parameter that both a probe and a
    technique name, and where two runs would have one id."""
    runs: dict[str, tuple[str, dict]] = {}
    for part in grid:
        for model in matching(part.models):
            family = resolve(model).family.replace("-", "_")
            for technique, settings in part.techniques.items():
                for probe, asked in part.probes.items():
                    if both := sorted(set(settings) & set(asked)):
                        raise BadRequest(f"probe {probe!r} and technique {technique!r} both set {listed(both)}")
                    run_id = plain(f"{model}-{technique}-{probe}")
                    if run_id in runs:
                        raise BadRequest(f"two runs of the grid are named {run_id!r}: give probes other names")
                    runs[run_id] = f"{family}_{technique}", {"model": model, **asked, **settings}
    return runs


def matching(models: Iterable[str]) -> list[str]:
    """Ids as they are, and patterns with `*` as the ids of the registry that they match."""
    found: list[str] = []
    for model in models:
        found += fnmatch.filter(registry(), model) if "*" in model else [model]
    return list(dict.fromkeys(found))


def plain(name: str) -> str:
    """A run id: lower-case letters, digits, dots and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
