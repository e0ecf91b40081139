"""What a result notebook calls: open a run, evaluate it, show its parts (`sections`)."""

from __future__ import annotations

from functools import cached_property

import pandas as pd
from IPython.display import Markdown, display

from kc_utils.stats import contrasts, findings
from kc_utils.stats.names import model_name, protocols_in_order, short_protocol
from kc_utils.stats.summary import by_popularity, by_relation, summarise
from kc_utils.models.registry import resolve
from kc_utils.report import sections
from kc_utils.report.given import given_in
from kc_utils.report.layout import VIEWS
from kc_utils.report.showing import show_sentences, show_table
from kc_utils.study import grids
from kc_utils.study.evaluate import evaluate

NOT_ASKED = {
    (
        "cloze",
        "encoder",
    ): "a mask stands for one piece of a word, and their answers take several (or stand for white space)",
    ("cloze", "encoder-decoder"): "the first token of the answer is white space alone, or unknown to the tokenizer",
    ("cloze", "decoder"): "no wording ends with the answer, or its first token is white space alone or unknown",
    ("generate", "decoder"): "no wording ends with the answer",
    "rank": "their relation offers no wrong answer",
    "openbook": "their relation offers no wrong answer",
} | {
    (
        "openbook-cloze",
        family,
    ): "as without the fact stated first: an answer of several pieces, or of white space, or not last"
    for family in ("encoder", "encoder-decoder", "decoder")
}


class OpenRun:
    """One run of a notebook: its parameters, and after `evaluate()` its results."""

    def __init__(self, template: str, values: dict):
        self.parameters = grids.parameters(template, **values)
        self.family, self.technique = grids.split_template(template)
        self.view = VIEWS[self.technique]
        self.model = model_name(self.parameters.model)
        self.results: dict = {}
        self.summary = pd.DataFrame()

    def about(self) -> None:
        """Show what is asked of which model."""
        entry, probe = resolve(self.parameters.model), self.parameters.probe
        facts = probe.factset()
        lines = [
            f"- **Model**: `{self.model}` ({entry.family}; licence {entry.licence}; {entry.source.partition(':')[0]})"
        ]
        if entry.kind != "path":
            lines = [f"- **Model**: `{entry.id}` ({entry.family}; licence {entry.licence}; {entry.source})"]
            if not entry.ran_here:
                lines.append(
                    "- **Not run here**: the published results hold no run of this model; numbers below are of your own run"
                )
        lines += [f"- **Note**: {note}" for note in entry.notes]
        if len(facts):
            lines.append(
                f"- **Facts**: {len(facts):,} of `{facts.name}` in {len(facts.by_relation())} relations "
                f"(list `{facts.sha256[:12]}`), asked by {', '.join(map(short_protocol, protocols_in_order(probe.protocols)))}"
            )
        if probe.tasks:
            items = f"{probe.task_limit:,} items" if probe.task_limit else "all items"
            lines.append(f"- **Tasks**: {items} of each of {', '.join(f'`{task}`' for task in probe.tasks)}")
        if probe.text is not None:
            tokens = f"the first {probe.text_tokens:,} tokens of " if probe.text_tokens else ""
            lines.append(f"- **Text**: {tokens}`{model_name(f'path:{probe.text}')}`")
        if getattr(self.parameters, "preset", "consistent") == "paper":
            lines.append(
                "- **Scopes**: the sets of matrices of the paper's code (`preset=paper`), not those of this study"
            )
        lines.append(
            f"- **Recipes**: {len(self.parameters.cells()) - 1}, each compared with the uncompressed model on the same questions"
        )
        display(Markdown("\n".join(lines)))

    def evaluate(self) -> None:
        """Compute the cells that are not stored yet, and summarise them all."""
        self.results = evaluate(self.parameters.cells())
        self.summary = summarise(self.results)

    def left_out(self) -> None:
        """Show how many facts a protocol could not ask and why, where there are any."""
        counts = next(iter(self.results.values())).report.get("left_out", {})
        facts = len(self.parameters.probe.factset())
        show_sentences(
            f"{counts[protocol]} of {facts} facts are not asked by {short_protocol(protocol)}"
            + (f": {why}." if (why := self._why_not(protocol)) else ".")
            for protocol in protocols_in_order(counts)
            if counts[protocol]
        )

    def _why_not(self, protocol: str) -> str:
        return NOT_ASKED.get((protocol, self.family)) or NOT_ASKED.get(protocol, "")

    @property
    def asks_facts(self) -> bool:
        return self.parameters.facts is not None

    @property
    def protocols(self) -> list[str]:
        return protocols_in_order(self.summary["protocol"])

    @property
    def main_protocol(self) -> str:
        """The one that further figures show where one must do: ranking, if asked."""
        return "rank" if "rank" in self.protocols else self.protocols[0]

    @property
    def closed_book(self) -> list[str]:
        """The protocols that ask for facts from memory; where there are none, the main one."""
        return [p for p in self.protocols if p in ("cloze", "rank", "generate")] or [self.main_protocol]

    @property
    def only_compressed(self) -> pd.DataFrame:
        return self.summary[self.summary["recipe"] != "none"]

    @cached_property
    def surprises(self) -> pd.DataFrame:
        return contrasts.surprises(self.results)

    @cached_property
    def fates(self) -> pd.DataFrame:
        return contrasts.fates(self.results)

    @cached_property
    def agreements(self) -> pd.DataFrame:
        return contrasts.agreements(self.results)

    @cached_property
    def duels(self) -> pd.DataFrame:
        return contrasts.duels(self.results, self.parameters.pairs())

    @property
    def recipes_of_halves(self) -> list[str]:
        """Of the first scope, and of GPTQ alone where it stands beside another rounding."""
        only = {"method": "gptq"} if self.technique == "gptq" else {}
        return self.recipes_of(scope=self.parameters.scopes[0], **only)

    @cached_property
    def halves(self) -> pd.DataFrame:
        return by_popularity(self.results, ["none", *self.recipes_of_halves])

    def relations(self, recipes: list[str]) -> pd.DataFrame:
        return by_relation(self.results, recipes)

    def only(self, **equal) -> pd.DataFrame:
        """The lines of the summary where these columns have these values, and those of the uncompressed model."""
        chosen = pd.Series(True, index=self.summary.index)
        for column, value in equal.items():
            chosen &= self.summary[column] == value
        return self.summary[chosen | (self.summary["recipe"] == "none")]

    def recipes_of(self, **equal) -> list[str]:
        return [r for r in dict.fromkeys(self.only(**equal)["recipe"]) if r != "none"]

    def mildest_clear_loss(self) -> str:
        """The recipe whose loss is clear and smallest in the main protocol; the one that loses most where none is."""
        lines = self.only_compressed
        lines = lines[lines["protocol"] == self.main_protocol]
        clear = lines[[findings.clearly_worse(line) for _, line in lines.iterrows()]]
        if clear.empty:
            return self.worst()
        return str(clear.sort_values("accuracy", ascending=False, kind="stable")["recipe"].iloc[0])

    def worst(self) -> str:
        """The recipe with the fewest right answers in the main protocol."""
        lines = self.only_compressed
        lines = lines[lines["protocol"] == self.main_protocol]
        return str(lines.sort_values("accuracy", kind="stable")["recipe"].iloc[0])

    def table(self) -> None:
        """Show the comparison of every recipe with the uncompressed model, one line per recipe and protocol."""
        show_table(self.summary)


def open_run(template: str, variables: dict) -> OpenRun:
    """Open a run with the notebook's own variables (`globals()`), which must be parameters and nothing else.

    Raises BadRequest for a variable that is not a parameter, as papermill would only warn about it.
    """
    given = given_in(template, variables)
    return OpenRun(template, given)


__all__ = ["OpenRun", "open_run", "sections"]
