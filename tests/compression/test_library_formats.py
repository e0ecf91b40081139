from itertools import product

import pytest
import torch
import transformers as t

from kc_utils.compression.apply import apply
from kc_utils.compression.library_formats import write
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest
from kc_utils.models.scopes import select
from kc_utils.models.stored import compute_in_full, quantized
from tests.models.architectures import logits
from tests.models.wide import wide

CLASSES = {"bert": t.AutoModelForMaskedLM, "t5": t.AutoModelForSeq2SeqLM}
STEPS = ("int8@all", "int8@head", "int4-weight@all", "nf4@all", "nf4@attention", "nf4@head", "llm-int8@all")
MORE = [  # options and sequences of steps
    ("llama", "int8@all,per=tensor"), ("llama", "int8-weight@all,group=32"), ("bert", "int8-weight@all,group=tensor"),
    ("llama", "int4-weight@all,group=channel,sym=true"), ("bert", "magnitude@all=0.5+int8@all"),
    ("llama", "int8@attention+int4-weight@feed_forward+magnitude@head=0.3"),
    ("llama, tied", "rtn@head=4+nf4@all,group=32,double=true"), ("gpt2", "llm-int8@all,threshold=0"),
]  # fmt: skip
CONV1D = "weights of torchao in nn.Linear only, and .* Conv1D"
TIED = "ties lm_head to the embedding in this architecture"
NEVER = r"never loads .*\.wo quantized by bitsandbytes"
REFUSED = {("gpt2", "int8@all"): CONV1D, ("gpt2", "int4-weight@all"): CONV1D, ("t5", "int8@head"): TIED,
           ("t5", "nf4@all"): NEVER, ("t5", "llm-int8@all"): NEVER}  # fmt: skip


def loaded(folder, name):
    """The folder by plain transformers, and what it says about keys."""
    model, info = CLASSES.get(name, t.AutoModelForCausalLM).from_pretrained(folder, output_loading_info=True)
    return model.eval(), info


def views(model):
    return {name: held for name, module in model.named_modules() if (held := quantized(module))}


def same(ours, theirs):
    """Whether two models hold the same quantized weights, to the bit."""
    a, b = views(ours), views(theirs)
    assert a.keys() == b.keys()
    return all(a[n].kind == b[n].kind and torch.equal(a[n].integers(), b[n].integers())
               and torch.equal(a[n].weight(), b[n].weight()) for n in a)  # fmt: skip


@pytest.mark.parametrize(("name", "recipe"), [*product(("bert", "t5", "llama, tied", "gpt2"), STEPS), *MORE])
def test_plain_transformers_loads_the_same_model(name, recipe, tmp_path):
    model = wide(name)
    report = apply(model, Recipe.parse(recipe))
    if (name, recipe) in REFUSED:
        with pytest.raises(BadRequest, match=REFUSED[name, recipe]):
            write(model, tmp_path)
        assert not list(tmp_path.iterdir())
        return
    before, config = logits(model), model.config.to_dict()
    write(model, tmp_path)
    assert model.config.to_dict() == config and not hasattr(model, "hf_quantizer")
    assert torch.equal(logits(model), before)
    again, info = loaded(tmp_path, name)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert same(model, again)
    assert torch.allclose(logits(compute_in_full(again)), before, atol=1e-5)
    zeros = {m.name: int((m.values == 0).sum()) for m in select(again, "all")}
    assert all(zeros[m.name] == m.zeros for m in report.per_matrix if m.role != "head")


REFUSALS = {
    "magnitude@all=0.5": "no library keeps weights of this model",
    "int8@all,engine=torch": "torch.ao has no format for folders; use int8@SCOPE without engine=torch",
    "int8@attention+nf4@feed_forward": "kept by bitsandbytes, torchao; a folder holds those of one library",
    "nf4@attention+llm-int8@feed_forward": "one kind of bitsandbytes weights",
    "nf4@attention+nf4@feed_forward,double=true": "one kind of bitsandbytes weights",
    "llm-int8@attention+llm-int8@feed_forward,threshold=3": "one threshold",
}


@pytest.mark.parametrize("recipe", REFUSALS)
def test_what_no_folder_can_hold_is_refused(recipe, tmp_path):
    model = wide("llama")
    apply(model, Recipe.parse(recipe))
    with pytest.raises(BadRequest, match=REFUSALS[recipe]):
        write(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_head_that_fast_cpus_could_not_run_is_refused(tmp_path):
    with torch.no_grad():
        model = wide("llama")
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight[:90])
        model.lm_head.out_features = 90
    apply(model, Recipe.parse("nf4@head"))
    assert logits(model).shape[-1] == 90  # it runs here
    with pytest.raises(BadRequest, match="lm_head has 90 outputs.* multiples of 32 only"):
        write(model, tmp_path)
