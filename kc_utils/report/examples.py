"""Three facts, asked in every way: what the model is given to read, what it says, and what counts as right.

Made with the uncompressed model of a study's first run, anew at every build, so that the examples of the chapter on
probing are those of the model that the results are about.
"""

from __future__ import annotations

import math

import torch

from kc_utils.probing.facts import FactSet
from kc_utils.probing.probe import Probe
from kc_utils.probing.protocols import Rank, collect, generated
from kc_utils.probing.queries import Query, open_book, queries_of
from kc_utils.probing.sources import load_source
from kc_utils.probing.scorers import SCORERS
from kc_utils.models.loading import Loaded, load
from kc_utils.report.markdown import markdown_table
from kc_utils.study.studyfile import Study

SHOWABLE = ("worldfacts",)  # sources whose text may be printed
FACTS, BEST, CANDIDATES = 3, 3, 3


def three_facts(study: Study) -> str:
    """Markdown for the chapter on probing; a sentence where the study asks no facts whose text may be shown."""
    probe = next((p for run in study.runs if (p := run.parameters.probe).facts in SHOWABLE), None)
    if probe is None:
        return "The study that this book was built from asks no facts whose text may be printed here.\n"
    run = next(run for run in study.runs if run.parameters.probe == probe)
    loaded = load(run.parameters.asked_models[0])
    facts = best_known(probe)
    family = loaded.entry.family
    wording = SCORERS[family](loaded.tokenizer)
    asked = queries_of(facts, 1, left_to_right=family == "decoder")
    parts = {
        "Top-k cloze": _cloze(loaded, wording, asked),
        "Closed-set ranking": _ranked(loaded, wording, queries_of(facts, 1), facts, probe),
        "Open-book twin": _told(loaded, wording, queries_of(facts, 1), facts, probe),
    }
    if family != "encoder":
        parts["Free answer"] = _generated(loaded, wording, asked)
    text = f"The uncompressed `{loaded.entry.id}` is asked here, in the first wording of each relation.\n"
    for title, lines in parts.items():
        text += f"\n**{title}**\n\n{markdown_table(lines)}\n"
    return text


def best_known(probe: Probe) -> FactSet:
    """The most popular fact of each of the first relations asked."""
    facts = probe.factset()
    chosen = []
    for group in list(facts.by_relation().values())[:FACTS]:
        chosen.append(max(group, key=lambda fact: (fact.popularity or 0, fact.id)))
    return FactSet(facts.name, facts.relations, tuple(chosen))


def _cloze(loaded: Loaded, wording, questions: list[Query]) -> list[dict]:
    lines = []
    for question in questions:
        reading = next(iter(wording.predictor(loaded.model).logits([wording.gap(question)])))
        best = torch.topk(reading.values[0], BEST).indices.tolist()
        shares = [100 * math.exp(p) for p in reading.logprob(0, best)]
        said = [f"{_token(loaded, token)} {share:.0f} %" for token, share in zip(best, shares, strict=True)]
        lines.append({"what is read": _gap(question), "likeliest pieces": ", ".join(said), "right": _right(question)})
    return lines


def _ranked(loaded: Loaded, wording, questions, facts: FactSet, probe: Probe) -> list[dict]:
    rank = Rank(questions, wording, facts, CANDIDATES, probe.seed)
    collect(wording.predictor(loaded.model), [rank])
    lines = []
    for question, row in zip(questions, rank.rows, strict=True):
        answers = (question.fact.answers[0], *facts.alternatives(question.fact, CANDIDATES, probe.seed))
        scored = sorted(zip(row["scores"], answers, strict=True), reverse=True)
        lines.append(
            {
                "what is ranked": _gap(question),
                "answers and their log-likelihoods": ", ".join(f"{a} {s:.1f}" for s, a in scored),
                "right": _right(question),
            }
        )
    return lines


def _told(loaded: Loaded, wording, questions, facts: FactSet, probe: Probe) -> list[dict]:
    told = open_book(questions, facts, load_source(probe.facts), CANDIDATES, probe.seed)
    return _ranked(loaded, wording, told, facts, probe)


def _generated(loaded: Loaded, wording, questions: list[Query]) -> list[dict]:
    return [
        {"what is read": _gap(question), "what is said": _quoted(text), "right": _right(question)}
        for question, text, _ in generated(loaded.model, loaded.tokenizer, questions, wording)
    ]


def _gap(question: Query) -> str:
    return question.filled("\\_\\_\\_")


def _right(question: Query) -> str:
    return ", ".join(question.fact.answers[:2])


def _token(loaded: Loaded, token: int) -> str:
    return _quoted(loaded.tokenizer.decode([token]).strip())


def _quoted(text: str) -> str:
    """Text of a model as a table cell holds it."""
    kept = text.replace("|", "/").replace("`", "'").replace("\n", " ").strip()
    return f"`{kept}`" if kept else "(nothing)"
