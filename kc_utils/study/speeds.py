"""How long compressed models take, relative to the uncompressed one: measured apart from the study, kept with the record.

Most formats are simulated in full precision, which says nothing of their speed. Times are of recipes whose kernels are real
(`benchmarks/quantized_forward.py`), in `results/reference/speed.json` with their processor. Other recipes have none.
"""

import json
from pathlib import Path
from typing import NamedTuple

from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import MissingData
from kc_utils.places import reference_dir

FILE = "speed.json"
ZEROS = "magnitude@all=0.5"
"""The recipe that was timed for all that prune: zeros take as long as other numbers."""


class Speeds(NamedTuple):
    """ratios: recipe -> reading and writing, times the uncompressed model's; what: was read; processor, threads, day."""

    ratios: dict[str, dict[str, float]]
    what: str
    processor: str
    threads: int
    day: str

    def of(self, recipe: str) -> dict[str, float] | None:
        """Return the times of a recipe, None where it was not measured. Zeros take the time of other numbers."""
        steps = Recipe.parse(recipe).steps
        if not steps:
            return {"reading": 1.0, "writing": 1.0}
        rest = [str(step) for step in steps if not method(step.method).prunes]
        return self.ratios.get("+".join(rest) or ZEROS)


def recorded(model: str) -> Speeds | None:
    """Return what is kept of a model, None for nothing. Raises MissingData for a damaged file."""
    file = (reference_dir() or Path()) / FILE
    try:
        kept = json.loads(file.read_text(encoding="utf-8")).get(model) if file.is_file() else None
        return kept and Speeds(**{name: kept[name] for name in Speeds._fields})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MissingData(f"{FILE} of the record is damaged ({type(error).__name__}): restore it with git") from error
