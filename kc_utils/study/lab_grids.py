"""The recipes and probes of the notebooks over several models: `lab_retention` and its kind.

All of them ask about the controlled world (`kc_lab`), so that facts are not named. Several probes stand side by side:
what was taught, and what tells a lost fact from a damaged skill. Models may be of any family; those of one family and size
that differ in their seed are taken together.
"""

from __future__ import annotations

from pydantic import Field, field_validator

from kc_utils.compression.recipe import Recipe
from kc_utils.probing.probe import Probe
from kc_utils.study.parameters import Grid, written

STRANGERS, RULE = "lab:strangers", "lab:rule"


class OfModels(Grid):
    """models: at least one, of any family; limit: a frozen sample of so many taught facts, None for all; seed: of samples
    and of wrong answers."""

    models: tuple[str, ...] = Field(min_length=1)
    limit: int | None = Field(default=None, ge=1)
    seed: int = 0

    @field_validator("models")
    @classmethod
    def _each_once(cls, value):
        if len(set(value)) != len(value):
            raise ValueError("a model is named twice")
        return value

    @property
    def asked_models(self) -> tuple[str, ...]:
        return self.models

    @property
    def probes(self) -> dict[str, Probe]:
        return {"taught": self._asking("lab")}

    def _asking(self, facts: str, limit: int | None = None, protocol: str = "cloze", **more) -> Probe:
        return Probe(facts=facts, limit=limit or self.limit, seed=self.seed, protocols=(protocol,), **more)


class Retention(OfModels):
    """sparsities: of pruning all matrices; quantizations: of all matrices, written as `in_full` reads them; pruned_first:
    sparsities before each of `quantized_second`; final_layer: sparsities of the output matrix alone; controls: questions of each
    control, None for as many as there are."""

    sparsities: tuple[float, ...] = ()
    quantizations: tuple[str, ...] = ()
    pruned_first: tuple[float, ...] = ()
    quantized_second: tuple[str, ...] = ()
    final_layer: tuple[float, ...] = ()
    controls: int | None = Field(default=None, ge=1)

    @property
    def probes(self) -> dict[str, Probe]:
        return {
            **super().probes,
            "stated": self._asking(STRANGERS, self.controls, "openbook-cloze"),
            "rule": Probe(facts=RULE, limit=self.controls, seed=self.seed, protocols=("rank",), alternatives=1),
        }

    def techniques(self) -> dict[str, list[str]]:
        """Recipes by technique, as the page draws them."""
        return {
            "pruning": [written("magnitude", "all", amount) for amount in self.sparsities],
            "quantization": [in_full(q) for q in self.quantizations],
            "pruning_then_quantization": [
                f"{written('magnitude', 'all', amount)}+{in_full(q)}"
                for q in self.quantized_second
                for amount in self.pruned_first
            ],
            "final_layer": [written("magnitude", "head", amount) for amount in self.final_layer],
        }

    def recipes(self) -> list[str]:
        return [recipe for recipes in self.techniques().values() for recipe in recipes]


class Recipes(OfModels):
    """compressions: recipes, in full or as short as `in_full` reads them: `rtn 4`, `magnitude 0.2 + rtn 4`."""

    compressions: tuple[str, ...] = ()

    def recipes(self) -> list[str]:
        return [in_full(recipe) for recipe in self.compressions]


class Bits(Recipes):
    """As Recipes."""


class Scopes(OfModels):
    """sparsities: of attention, and of feed-forward; weights: numbers of weights to be set to zero in either."""

    sparsities: tuple[float, ...] = ()
    weights: tuple[int, ...] = ()

    def recipes(self) -> list[str]:
        shares = [written("magnitude", scope, s) for scope in SCOPES for s in self.sparsities]
        return shares + [written("magnitude", scope, None, weights=n) for scope in SCOPES for n in self.weights]


class FirstToGo(Recipes):
    """least_lost: of known facts, the share that a recipe must lose for its losses to be looked at; bins: parts of equal size
    by exposures, and by margin."""

    least_lost: float = Field(default=0.05, ge=0, lt=1)
    bins: int = Field(default=4, ge=2, le=20)


class ErasedOrHidden(Recipes):
    """shots: true statements before a question, each number asked on its own; strangers: how many facts of strangers are
    asked to tell what tries alone give; relearn_steps: of training on lost facts and on new ones, None for none."""

    shots: tuple[int, ...] = (1, 3)
    strangers: int | None = Field(default=None, ge=1)
    relearn_steps: int | None = Field(default=None, ge=1, le=1000)

    @field_validator("shots")
    @classmethod
    def _some_shots(cls, value):
        if any(not 1 <= n <= 16 for n in value):
            raise ValueError("a number of shots must be from 1 to 16")
        return value

    @property
    def probes(self) -> dict[str, Probe]:
        found = {"taught": self._asking("lab:people", templates="all")}
        found |= {"strangers": self._asking(STRANGERS, self.strangers, templates="all")}
        for n in self.shots:
            found[f"taught, {n} shots"] = self._asking("lab:people", shots=n)
            found[f"strangers, {n} shots"] = self._asking(STRANGERS, self.strangers, shots=n)
        if self.relearn_steps is not None:
            found[RELEARNED] = self._asking("lab:people", relearn_steps=self.relearn_steps)
        return found

    def recipes_of(self, probe: str) -> list[str]:
        """The uncompressed model has nothing to learn again."""
        found = super().recipes_of(probe)
        return [recipe for recipe in found if recipe != "none"] if probe == RELEARNED else found


SCOPES = ("attention", "feed_forward")
RELEARNED = "relearned"
TECHNIQUES: dict[str, type[OfModels]] = {
    "retention": Retention,
    "bits": Bits,
    "scopes": Scopes,
    "first_to_go": FirstToGo,
    "erased_or_hidden": ErasedOrHidden,
}


def in_full(recipe: str) -> str:
    """The canonical text of a recipe that may be written shorter: steps joined by `+`, each a method, where it takes one an
    amount behind a space, and options behind commas; of all matrices where it names no scope.

    `int8`, `rtn 4`, `magnitude@attention 0.2 + rtn 4,group=32`. (papermill reads no default with a `=` in it.)
    """
    return str(Recipe.parse("+".join(_step_in_full(step) for step in recipe.split("+"))))


def _step_in_full(step: str) -> str:
    head, *options = (part.strip() for part in step.split(","))
    name, _, amount = head.partition(" ")
    if "=" not in name:
        method, at, scope = name.partition("@")
        name = f"{method}@{scope if at else 'all'}" + (f"={amount.strip()}" if amount else "")
    return ",".join([name, *options])
