"""From a fact and a template to token ids, for models that read from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kc_utils.errors import BadRequest
from kc_utils.knowledge.facts import Fact, FactSet, fill


@dataclass(frozen=True)
class Prompt:
    """A statement cut off before its answer. `template` is the template's position among the left-to-right ones."""

    fact: Fact
    template: int
    text: str
    tokens: tuple[int, ...]


def left_to_right_prompts(facts: FactSet, templates: int | str, tokenizer) -> list[Prompt]:
    """One prompt per fact and template: the first `templates` left-to-right ones of its relation, or `"all"`.

    Raises BadRequest where a relation has no left-to-right template.
    """
    cut = []
    for fact in facts.facts:
        offered = facts.relations[fact.relation].left_to_right
        if not offered:
            raise BadRequest(f"{facts.name}: relation {fact.relation} has no template that ends with its answer")
        wanted = offered if templates == "all" else offered[: int(templates)]
        cut += [(fact, n, fill(t[: t.index("[Y]")].rstrip(), fact.subject)) for n, t in enumerate(wanted)]
    encoded = tokenizer([text for _, _, text in cut]).input_ids if cut else []
    return [Prompt(f, n, text, tuple(ids)) for (f, n, text), ids in zip(cut, encoded, strict=True)]


def continuations(prompt: Prompt, answers: Sequence[str], tokenizer) -> list[tuple[int, ...]]:
    """The token ids of each answer after the prompt, with the space between them.

    Raises BadRequest for a tokenizer that changes the prompt's own tokens when the answer is added.
    """
    encoded = tokenizer([f"{prompt.text} {answer}" for answer in answers]).input_ids
    cut = len(prompt.tokens)
    for answer, ids in zip(answers, encoded, strict=True):
        if tuple(ids[:cut]) != prompt.tokens or len(ids) <= cut:
            raise BadRequest(f"{prompt.fact.id}: the tokenizer does not split {prompt.text!r} from {answer!r}")
    return [tuple(ids[cut:]) for ids in encoded]
