"""A probe: the facts, tasks or text that a model is evaluated on, and how."""

from __future__ import annotations

from importlib import import_module
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from kc_utils import lab
from kc_utils.errors import BadRequest
from kc_utils.probing.facts import FactSet
from kc_utils.probing.sources import load_source

PROTOCOLS = ("cloze", "rank", "openbook", "openbook-cloze", "generate")
CONTROL = "rank-other"
TWINS = ("openbook", "openbook-cloze")


class Probe(BaseModel):
    """What a model is evaluated on, and how.

    facts          a source, e.g. `worldfacts`
    relations      only these, or all
    limit          a frozen sample of so many facts, spread evenly over relations; None for all
    seed           of the sample, the wrong answers, and all else that is drawn
    protocols      any of `cloze` (top-k), `rank` (closed set), `generate`, and with the fact stated first `openbook` (the
                   twin of `rank`) and `openbook-cloze` (that of `cloze`); `rank-other` is a control: the same answers ranked
                   in statements about other subjects
    templates      how many prompt templates of each fact, the first ones, or "all"
    alternatives   wrong answers beside the right one in `rank`, `rank-other` and `openbook`, or "all" of the answer space
    candidates     where these come from: `drawn` from the answer space, or the answers of `sets` of facts, among which a
                   model that ignores the subject is right as often as by chance (`FactSet.in_sets`); "all" are all, and
                   what ranks nothing has none: both count as `drawn`
    shots          true statements of the same relation before a query of `cloze`, `rank` or `generate`
    tasks          tasks of the LM Evaluation Harness, such as `boolq`; facts may then be None
    task_limit     a frozen sample of so many items of each task; None for all
    text           a text whose perplexity is measured: `wikitext2`, or a file; facts may then be None
    text_tokens    how many of its tokens, from the beginning; None for all
    relearn_steps  after the evaluation, a copy of the model is trained so many steps on facts that it gets wrong, beside
                   as many of strangers; None for no training
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    facts: str | None = "worldfacts"
    relations: tuple[str, ...] | None = Field(default=None, min_length=1)
    limit: int | None = Field(default=None, ge=1)
    seed: int = 0
    protocols: tuple[Literal["cloze", "rank", "rank-other", "openbook", "openbook-cloze", "generate"], ...] = Field(
        default=("cloze", "rank"), min_length=1
    )
    templates: PositiveInt | Literal["all"] = 1
    alternatives: PositiveInt | Literal["all"] = 9
    candidates: Literal["drawn", "sets"] = Field(default="drawn", exclude_if=lambda value: value == "drawn")
    shots: int = Field(default=0, ge=0, le=16)
    tasks: tuple[str, ...] = ()
    task_limit: int | None = Field(default=None, ge=1)
    text: str | None = None
    text_tokens: int | None = Field(default=None, ge=2)
    relearn_steps: int | None = Field(default=None, ge=1, le=1000)

    @model_validator(mode="after")
    def _has_items(self):
        if self.facts is None and not self.tasks and self.text is None:
            raise ValueError("name facts, tasks or a text: there is nothing to evaluate")
        if self.relearn_steps is not None and self.facts is None:
            raise ValueError("relearn_steps needs facts: there is nothing to learn again")
        return self

    @field_validator("protocols")
    @classmethod
    def _in_order(cls, value):
        return tuple(sorted(set(value)))

    @field_validator("candidates")
    @classmethod
    def _of_what_is_ranked(cls, value, found):
        ranked = {"rank", CONTROL, "openbook"} & set(found.data.get("protocols", ()))
        return value if ranked and found.data.get("facts") and found.data.get("alternatives") != "all" else "drawn"

    @property
    def instruments(self) -> tuple[str, ...]:
        """The modules that measure all but the facts. Each has `measure(model, tokenizer, family, probe, trees, recipe)` for
        rows, `fingerprint(probe)`, a hash of the items, and `check_family(family)`."""
        found = ("kc_utils.probing.harness.evaluate",) if self.tasks else ()
        found += ("kc_utils.probing.perplexity",) if self.text is not None else ()
        return found + ((lab.relearning(),) if self.relearn_steps is not None else ())

    def factset(self) -> FactSet:
        """The facts of this probe, frozen; none where `facts` is None. Raises BadRequest for an unknown source or relation."""
        if self.facts is None:
            return FactSet("no facts", {}, ())
        facts = load_source(self.facts)
        if self.relations is not None:
            facts = facts.only(self.relations)
        return facts.sample(self.limit, self.seed)


def check_family(family: str, probe: Probe) -> None:
    """Raise BadRequest for a protocol that the family does not support."""
    for name in probe.instruments:
        import_module(name).check_family(family)
    if probe.facts is not None and family == "encoder" and "generate" in probe.protocols:
        raise BadRequest("an encoder does not generate text: leave protocol generate out, or choose another model")
