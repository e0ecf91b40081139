"""The questions that the book answers, each from all rows at hand: how their answers are computed and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kc_utils.stats.claim_rows import Evidence
from kc_utils.report.answers.amounts import bits, prune
from kc_utils.report.answers.answer import Answer, rendered
from kc_utils.report.answers.both import both
from kc_utils.report.answers.families import families
from kc_utils.report.answers.first import first
from kc_utils.report.answers.warning import warning
from kc_utils.report.answers.where import where

QUESTIONS: Mapping[str, Callable[[Evidence], Answer]] = {
    "prune": prune,
    "bits": bits,
    "both": both,
    "where": where,
    "first": first,
    "warning": warning,
    "families": families,
}
"""Name -> how its answer is computed. Each has a chapter, `book/findings/NAME.md`."""


def answers(evidence: Evidence) -> tuple[dict[str, str], dict[str, bytes]]:
    """The fragments and pictures of every question, by file name under `book/results/`."""
    texts: dict[str, str] = {}
    pictures: dict[str, bytes] = {}
    for name, answer in QUESTIONS.items():
        own, drawn = rendered(name, answer(evidence))
        texts |= own
        pictures |= drawn
    return texts, pictures
