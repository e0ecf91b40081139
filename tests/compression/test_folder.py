"""Every method on every family: written, loaded by plain transformers, the same scores."""

import json

import pytest
import torch
import transformers as t
from safetensors.torch import load_file

from kc_utils.compression import folder
from kc_utils.compression.folder import save_compressed
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, BadResult
from kc_utils.models.loading import CLASSES, Loaded
from kc_utils.models.registry import resolve
from tests.models import wide
from tests.models.architectures import drawn, logits
from tests.trained import byte_level

SIZES = {**wide.SIZES, "vocab_size": 320}
MODELS = {
    "encoder": lambda: t.BertForMaskedLM(t.BertConfig(**SIZES)),
    "encoder-decoder": lambda: t.T5ForConditionalGeneration(
        t.T5Config(vocab_size=320, d_model=64, d_kv=32, d_ff=128, num_layers=2, num_heads=2, decoder_start_token_id=0)
    ),
    "decoder": lambda: t.LlamaForCausalLM(t.LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=True)),
}
BFLOAT16 = 2e-2  # of the largest score: CPU kernels for 4 bits compute in bfloat16 where the processor can
RECIPES = {
    "none": 1e-6,
    "2:4@all+random-rows@head=0.4": 1e-6,
    "rtn@all=4,group=32": BFLOAT16,
    "rtn@feed_forward=3,group=64": 5e-3,
    "gptq@all=4,group=32": BFLOAT16,
    "magnitude@all=0.4+gptq@all=8,group=64": 5e-3,
    "int8@head": 1e-5,
    "magnitude@attention=0.4+int8@attention": 1e-5,
    "nf4@feed_forward": BFLOAT16,
}
NEVER_LOADED = {"int8@head": "ties lm_head", "nf4@feed_forward": "never loads"}  # of T5


@pytest.fixture(scope="module")
def tokenizer():
    return byte_level(size=320)


def made(family, tokenizer, tmp_path) -> Loaded:
    """A random model of a family, saved as a folder."""
    model, source = drawn(MODELS[family], 0.1), tmp_path / "source"
    model.save_pretrained(source)
    tokenizer.save_pretrained(source)
    return Loaded(model, tokenizer, resolve(f"path:{source}"), source)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("family", MODELS)
def test_plain_transformers_gives_the_same_scores(family, recipe, tokenizer, tmp_path):
    loaded, out = made(family, tokenizer, tmp_path), tmp_path / "out"
    if family == "encoder-decoder" and recipe in NEVER_LOADED:
        with pytest.raises(BadRequest, match=NEVER_LOADED[recipe]):
            save_compressed(lambda: loaded, Recipe.parse(recipe), out)
        assert not out.exists()
        return
    written = save_compressed(lambda: loaded, Recipe.parse(recipe), out)
    again = CLASSES[family].from_pretrained(out, dtype=torch.float32).eval()
    with torch.compiler.set_stance("force_eager"):
        before, after = logits(loaded.model), logits(again).float()
    assert float((before - after).abs().max() / before.abs().max()) <= RECIPES[recipe]
    record = json.loads((out / "compression.json").read_text())
    assert record["recipe"] == str(Recipe.parse(recipe)) == written["recipe"]
    assert record["bytes_on_disk"] == sum(f.stat().st_size for f in out.glob("*.safetensors"))
    assert t.AutoTokenizer.from_pretrained(out)("another").input_ids == tokenizer("another").input_ids


def test_a_packed_folder_is_small_and_a_dense_one_is_not(tokenizer, tmp_path):
    recipe, written = Recipe.parse("rtn@all=4,group=32"), {}
    for form in ("gptq", "dense"):
        loaded = made("decoder", tokenizer, tmp_path / f"from {form}")
        written[form] = save_compressed(lambda loaded=loaded: loaded, recipe, tmp_path / form, form=form)
        assert written[form]["format"] == form
    assert written["gptq"]["bytes_on_disk"] < 0.5 * written["dense"]["bytes_on_disk"]
    assert "model.layers.0.mlp.up_proj.qweight" in load_file(tmp_path / "gptq" / "model.safetensors")
    assert written["gptq"]["per_matrix"] == written["dense"]["per_matrix"]


def test_nothing_is_written_over(tokenizer, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(BadRequest, match="not empty"):
        save_compressed(lambda: pytest.fail("was loaded"), Recipe.parse("none"), out)
    assert (out / "mine.txt").read_text() == "mine"
    with pytest.raises(BadRequest, match="unknown format 'zip'"):
        save_compressed(lambda: pytest.fail("was loaded"), Recipe.parse("none"), tmp_path / "new", form="zip")


def test_a_folder_that_is_another_model_is_not_left_behind(tokenizer, tmp_path, monkeypatch):
    def worse(model, target, report, form):
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight.mul_(1.5)
        model.save_pretrained(target)

    monkeypatch.setattr(folder, "_write", worse)
    loaded = made("decoder", tokenizer, tmp_path)
    with pytest.raises(BadResult, match="loaded again, differs"):
        save_compressed(lambda: loaded, Recipe.parse("none"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
