"""Brief relearning: does training bring lost facts back faster than it teaches what was never true?

If compression erased a fact, learning it again should take as long as learning anything else; if the fact is only out of
reach, it should come back sooner. Hoang et al. (2023, arXiv 2310.00867) study repair by prompts and adapters with the same
question. Two copies of the compressed model are trained, each on two equal sets at once, the same steps at the same rate:

    lost   taught facts of the probe that the model answers wrongly as it is. First copy
    false  the same people and relations with a false answer, drawn by seed among those of the relation that are not right
           for the person and that the model does not give now. Second copy: one copy cannot learn both answers
    new    facts of strangers (`lab:strangers`) of the same relations, as many, which it answers wrongly, too. Both copies,
           so that each has as much to learn; the rows are those of the first

Names that training showed may be learned about faster than those of strangers, whatever is learned. `false` has the names of
`lost`, fact by fact, so that their difference is left to the answer alone.

Each step of AdamW (rate RATE, no decay, no schedule) takes the cross-entropy of the answer's first token, at the position
where the cloze reads it, over all facts of both sets in their first template. At every power of two of steps, and at the
last, both sets are evaluated by the cloze. Where the recipe prunes, weights that are zero are held at zero, those that a
later step rounded to zero among them; quantized weights are trained in full precision from the values that the model
computes with, so that the trained copies are no quantized models any more. The model itself is not changed.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import nn

from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadResult
from kc_utils.models.stored import quantized
from kc_utils.probing.facts import Fact, FactSet
from kc_utils.probing.probe import Probe
from kc_utils.probing.protocols import Cloze, collect
from kc_utils.probing.queries import Query, queries_of
from kc_utils.probing.scorers import SCORERS
from kc_utils.probing.sources import load_source

PROTOCOL = "relearning"
STRANGERS = "lab:strangers"
RATE = 1e-3
MOST, FEWEST = 64, 8
"""Facts of a set, at the most; with fewer nothing is trained."""
LOST, FALSE, NEW = "lost", "false", "new"


def check_family(family: str) -> None:
    """Every family can learn."""


def fingerprint(probe: Probe) -> str:
    """Hash of the strangers' facts, from which the new ones are drawn, and of the seed of all draws."""
    return hashlib.sha256(json.dumps([load_source(STRANGERS).sha256, probe.seed]).encode()).hexdigest()


def measure(model, tokenizer, family: str, probe: Probe, trees: bool | None = None, recipe: str = "none") -> pd.DataFrame:
    """One row per step, set and fact: `step` (0 before the first), `set` (LOST, FALSE or NEW), and the columns of the cloze.

    No rows where fewer than FEWEST facts are lost that have a stranger beside them. Raises BadResult where the loss is not a
    number.
    """
    first = Lesson(model, tokenizer, family, trees)
    sets = _sets(first, probe)
    if len(sets[LOST]) < FEWEST:
        return pd.DataFrame({name: [] for name in ("fact", "relation", "protocol", "template", "step", "set")})
    pruned = any(method(step.method).prunes for step in Recipe.parse(recipe).steps)
    rows = list(first.learn({LOST: sets[LOST], NEW: sets[NEW]}, probe.relearn_steps, pruned))
    second = Lesson(model, tokenizer, family, trees)
    beside = second.learn({FALSE: sets[FALSE], NEW: sets[NEW]}, probe.relearn_steps, pruned)
    return pd.DataFrame(rows + [row for row in beside if row["set"] == FALSE])


class Lesson:
    """A copy of a model that can be trained and evaluated."""

    def __init__(self, model, tokenizer, family: str, trees: bool | None = None):
        self.model = trainable(copy.deepcopy(model))
        self.tokenizer, self.family, self.trees = tokenizer, family, trees
        self.scorer = SCORERS[family](tokenizer)

    def queries(self, facts: FactSet) -> list[Query]:
        return queries_of(facts, 1, left_to_right=self.family == "decoder")

    def evaluate(self, queries: Sequence[Query]) -> list[dict]:
        """Rows of the cloze, as the model is now."""
        cloze = Cloze(queries, self.scorer, self.tokenizer)
        collect(self.scorer.predictor(self.model, self.trees), [cloze])
        return cloze.rows

    def learn(self, parts: Mapping[str, Sequence[Query]], steps: int, pruned: bool):
        """Rows of these sets before the first step, and after those that `evaluated_after` names."""
        sets = {query.fact.id: name for name, part in parts.items() for query in part}
        queries = [query for part in parts.values() for query in part]
        answers = [self.scorer.fillers(q, q.fact.answers[:1])[0][0] for q in queries]
        inputs = self._inputs([self.scorer.gap(q) for q in queries])
        target = torch.tensor(answers, device=self.model.device)
        held = zeros_of(self.model) if pruned else {}
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=0.0)
        for step in range(steps + 1):
            if step in evaluated_after(steps):
                for row in self.evaluate(queries):
                    yield {**row, "protocol": PROTOCOL, "step": step, "set": sets[row["fact"]]}
            if step == steps:
                break
            with torch.enable_grad():
                loss = nn.functional.cross_entropy(self._scores(inputs), target)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
            if not torch.isfinite(loss):
                raise BadResult(f"relearning: the loss at step {step} is not a number; the compressed model computes none")
            optimizer.step()
            hold(self.model, held)

    def _inputs(self, gaps: list) -> dict:
        """Tensors of the statements, padded on the right, with the position that is read in each."""
        pad = self.tokenizer.pad_token_id or 0
        texts = [gap if self.family == "decoder" else gap[0] for gap in gaps]
        ids = torch.full((len(texts), max(map(len, texts))), pad)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text)], mask[row, : len(text)] = torch.tensor(text), 1
        found = {"input_ids": ids, "attention_mask": mask}
        if self.family == "encoder-decoder":
            found["decoder_input_ids"] = torch.tensor([gap[1] for gap in gaps])
            at = [len(gap[1]) - 1 for gap in gaps]
        else:
            at = [len(text) - 1 if self.family == "decoder" else gap[1] for text, gap in zip(texts, gaps, strict=True)]
        found = {name: tensor.to(self.model.device) for name, tensor in found.items()}
        return {**found, "at": torch.tensor(at, device=self.model.device)}

    def _scores(self, inputs: dict) -> torch.Tensor:
        """Logits [n, vocabulary] at the position that is read in each statement."""
        given = {name: tensor for name, tensor in inputs.items() if name != "at"}
        logits = self.model(**given).logits
        return logits[torch.arange(len(logits), device=logits.device), inputs["at"]].float()


def evaluated_after(steps: int) -> list[int]:
    """Steps after which both sets are evaluated: none, every power of two, the last."""
    found = [0, *(2**n for n in range(steps.bit_length()))]
    return sorted({step for step in found if step < steps} | {steps})


def trainable(model: nn.Module) -> nn.Module:
    """Replace every quantized matrix, in place, by an ordinary one of the values that the model computes with."""
    for name, module in list(model.named_modules()):
        held = quantized(module)
        if held is None:
            continue
        outputs, inputs = held.shape
        bias = held.bias
        plain = nn.Linear(inputs, outputs, bias=bias is not None)
        with torch.no_grad():
            plain.weight.copy_(held.weight())
            if bias is not None:
                plain.bias.copy_(bias)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, plain)
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return model.eval()  # without dropout


def zeros_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Masks of the zeros of each matrix, by name; matrices without zeros are left out."""
    return {name: p.detach() == 0 for name, p in model.named_parameters() if p.dim() == 2 and bool((p.detach() == 0).any())}


@torch.no_grad()
def hold(model: nn.Module, zeros: dict[str, torch.Tensor]) -> None:
    """Set those weights to zero again."""
    for name, parameter in model.named_parameters():
        if name in zeros:
            parameter.masked_fill_(zeros[name], 0)


def _sets(lesson: Lesson, probe: Probe) -> dict[str, list[Query]]:
    """Queries of lost facts, of the same with a false answer, and of as many strangers' facts of the same relations, none of
    which the model answers as it will be taught."""
    strangers, taught = load_source(STRANGERS), probe.factset()
    shared = [name for name in taught.relations if name in strangers.relations]
    found: dict[str, list[Query]] = {LOST: [], FALSE: [], NEW: []}
    if not shared:
        return found
    wrong = [_wrong(lesson, _drawn(facts.only(shared), probe.seed)) for facts in (taught, strangers)]
    beside: dict[str, list[Query]] = defaultdict(list)
    for query, _ in wrong[1]:
        beside[query.fact.relation].append(query)
    for query, given in wrong[0]:
        if len(found[LOST]) < MOST and beside[query.fact.relation]:
            found[LOST].append(query)
            found[FALSE].append(_with_false_answers(lesson, query, strangers, given, probe.seed))
            found[NEW].append(beside[query.fact.relation].pop(0))
    return found


def _with_false_answers(lesson: Lesson, query: Query, facts: FactSet, given: int, seed: int) -> Query:
    """The query with as many answers, none of them right for its subject, or beginning with the token that the model gives."""
    right = query.fact.answers
    drawn = facts.alternatives(query.fact, len(right) + 1, seed)
    answers = [a for a in drawn if lesson.scorer.fillers(query, (a,))[0][0] != given]
    return replace(query, fact=replace(query.fact, answers=tuple(answers[: len(right)]), aliases=()))


def _drawn(facts: FactSet, seed: int) -> FactSet:
    """The facts in an order drawn by seed."""

    def position(fact: Fact) -> str:
        return hashlib.sha256(f"{seed}/{fact.id}/relearning".encode()).hexdigest()

    return replace(facts, facts=tuple(sorted(facts.facts, key=position)))


def _wrong(lesson: Lesson, facts: FactSet) -> list[tuple[Query, int]]:
    """Queries that the cloze can read and the model answers wrongly, in order, and the token that it gives."""
    queries = lesson.queries(facts)
    wrong = {row["fact"]: row["predicted_token"] for row in lesson.evaluate(queries) if not row["correct"]}
    return [(query, wrong[query.fact.id]) for query in queries if query.fact.id in wrong]
