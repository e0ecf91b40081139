"""Apply a recipe to a model and report what was really done."""

import copy
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module

import torch
from torch import nn

from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Recipe, Step
from kc_utils.compression.report import Report, StepReport, count_zeros, elements, measure
from kc_utils.errors import BadModel, BadRequest, BadResult
from kc_utils.models.loading import Loaded
from kc_utils.models.roles import Architecture
from kc_utils.models.scopes import Matrix, matrices, select
from kc_utils.models.stored import quantized


def compress(lm: Loaded, recipe: str | Recipe) -> Loaded:
    """Compress a copy of a loaded model; `lm` itself stays as it is.

    recipe: METHOD@SCOPE[=AMOUNT][,option=value ...], several steps joined by +. The copy's `.report` holds what was
    really done: sparsity, bits per weight, bytes, and each step. Raises as `apply` does.

        >>> import kc_utils as kc
        >>> lm = kc.load("smollm2-135m")
        >>> half = kc.compress(lm, "magnitude@all=0.5")
        >>> half.report.sparsity
        0.5
        >>> kc.compress(lm, "rtn@feed_forward=4").report.bits_per_weight
        4.3125
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.parse(recipe)
    model = copy.deepcopy(lm.model)
    return replace(lm, model=model, report=apply(model, recipe, tokenizer=lm.tokenizer))


def apply(model: nn.Module, recipe: Recipe, tokenizer=None, architecture: Architecture | Mapping | None = None) -> Report:
    """Apply the recipe's steps to the model, in place, and report what they did.

    The whole recipe is checked against the model before a weight is changed, and so are all weights for NaN and
    infinity. A step on a tied head unties it first. All is done in one thread: the loops are short, and on a machine
    that does other work too torch's threads wait for each other. tokenizer: for methods that need calibration text;
    architecture: the roles of a model that the table lacks.

    Raises BadRequest when the model has nothing in a scope, or a step comes after one that must be last on the same
    matrix; BadModel for weights that are not finite or on the meta device, and for an unknown architecture; BadResult
    when a step did less than the recipe says.
    """
    with torch.no_grad(), _one_thread():
        _check_finite(model)
        before = elements(model)
        plan = [(step, _select(model, step, architecture)) for step in recipe.steps]
        _check_plan(plan, model, tokenizer)
        for step, chosen in plan:
            if any(m.tied for m in chosen):
                untie(model, _select(model, step, architecture))
        steps, storage = [], {}
        for step in recipe.steps:
            steps.append(_do(model, step, storage, tokenizer, architecture))
        touched = _named(model, {m.name for _, chosen in plan for m in chosen}, architecture)
        return measure(str(recipe), model, touched, storage, steps, before)


def untie(model: nn.Module, heads: Sequence[Matrix]) -> None:
    """Give each of these heads that is tied to the embedding parameters of its own, in place.

    Changing a tied head changes the embedding too, and a change of the head alone is lost when the model is saved and
    loaded. Outputs do not change here, and a model saved after this loads with both weights (and both biases of BERT's
    decoder). transformers ties by `config.tie_word_embeddings` and by tables on the model; both are made to agree, or
    the next `tie_weights()` would undo it. T5 and BART also tie the embeddings of their two stacks, so there the config
    stays: transformers 5 leaves a head untied when the file holds a different weight for it.
    """
    for head in heads:
        if not head.tied:
            continue
        path = head.name.rpartition(".")[0]
        for name, parameter in list(head.module._parameters.items()):
            if parameter is not None:
                setattr(head.module, name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
        gone = {key for key in getattr(model, "all_tied_weights_keys", {}) if key.rpartition(".")[0] == path}
        left = {k: v for k, v in getattr(model, "all_tied_weights_keys", {}).items() if k not in gone}
        model.all_tied_weights_keys = left
        if getattr(model, "_tied_weights_keys", None):
            model._tied_weights_keys = {k: v for k, v in model._tied_weights_keys.items() if k not in gone}
        if not left and hasattr(model, "config"):
            model.config.tie_word_embeddings = False


def _select(model: nn.Module, step: Step, architecture) -> list[Matrix]:
    kind = method(step.method)
    return select(model, step.scope, step.options["preset"], quantizing=not kind.prunes, description=architecture)


def _named(model: nn.Module, names: set[str], architecture) -> list[Matrix]:
    """The matrices of these names as the model holds them now: libraries replace modules."""
    return [m for m in matrices(model, architecture) if m.name in names] if names else []


def _do(model: nn.Module, step: Step, storage: dict, tokenizer, architecture) -> StepReport:
    """Run one step, note in `storage` how it keeps its matrices, and check that they hold what the recipe says."""
    chosen = _select(model, step, architecture)
    begin = time.perf_counter()
    extra = {"tokenizer": tokenizer} if method(step.method).calibrates else {}
    outcome = import_module(method(step.method).module).run(model, chosen, step, **extra)
    seconds = time.perf_counter() - begin
    storage.update(outcome.storage)
    names = {m.name for m in chosen}
    zeros = sum(count_zeros(m.values) for m in _named(model, names, architecture))
    weights = sum(m.numel for m in chosen)
    if zeros < outcome.zeros_expected:
        raise BadResult(f"recipe step {step}: {outcome.zeros_expected} zeros were wanted, {zeros} were made")
    if not method(step.method).prunes and outcome.storage.keys() != names:
        raise BadResult(f"recipe step {step}: {len(outcome.storage)} of {len(names)} matrices were quantized")
    kept = outcome.storage.values()
    return StepReport(
        step=str(step), method=step.method, scope=step.scope, matrices=len(chosen), weights=weights, zeros=zeros,
        sparsity=zeros / weights, bits=max((k.value_bits for k in kept), default=None),
        groups=sum(k.groups for k in kept) or None, seconds=round(seconds, 4), calibration=outcome.calibration,
    )  # fmt: skip


def _check_plan(plan: list[tuple[Step, list[Matrix]]], model: nn.Module, tokenizer) -> None:
    """Refuse what a step cannot do to its matrices before the first step has changed any."""
    sealed: dict[str, Step] = {}
    for step, chosen in plan:
        for m in chosen:
            if m.name in sealed:
                raise BadRequest(
                    f"recipe step {step}: after {sealed[m.name]} the weights of {m.name} are whole numbers, kept by a "
                    "library; put that step last"
                )
            if m.quantized:
                raise BadRequest(
                    f"recipe step {step}: {m.name} of this model is quantized by {m.quantized.library} already; "
                    "start from a model that is not"
                )
        check = getattr(import_module(method(step.method).module), "check", None)
        if check:
            extra = {"model": model, "tokenizer": tokenizer} if method(step.method).calibrates else {}
            check(chosen, step, **extra)
        if method(step.method).last:
            sealed |= {m.name: step for m in chosen}


def _check_finite(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if quantized(model.get_submodule(name.rpartition(".")[0])) and name.endswith(".weight"):
            continue
        if parameter.is_meta:
            raise BadModel(f"{name} holds no weights (meta device); load the model before compressing it")
        # A finite sum has finite terms: one pass without a copy. Only a sum that is not needs the second look.
        weights = parameter.detach()
        if not weights.is_floating_point() or weights.sum(dtype=torch.float32).isfinite():
            continue
        if bad := int((~weights.isfinite()).sum()):
            raise BadModel(f"{name}: {bad} of {weights.numel()} weights are NaN or infinite; get another copy of the model")


@contextmanager
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
