"""The paper's study: its plan without hub and data, and every kind of evaluation on small models of the same architectures."""

import re
import shutil

import pandas as pd
import pytest
import torch
import transformers as t
from tokenizers import AddedToken

from kc_utils.compression.recipe import Recipe
from kc_utils.errors import MissingData
from kc_utils.models import registry
from kc_utils.models.registry import ModelEntry
from kc_utils.models.sizes import size_of
from kc_utils.probing.sources import load_source
from kc_utils.study import cells as cells_module
from kc_utils.study import estimate, store
from kc_utils.study.batches import compute_group
from kc_utils.study.cells import grouped
from kc_utils.study.studyfile import load_study
from tests import trained
from tests.conftest import ROOT
from tests.models.architectures import drawn
from tests.probing import invented_benchmarks, invented_tasks

pytestmark = [pytest.mark.filterwarnings("ignore:.*not the set of files:UserWarning"), pytest.mark.usefixtures("in_project")]
SIZES = {
    "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256,
    "max_position_embeddings": 2050,
}  # fmt: skip
PAPER = [entry for entry in registry.registry().values() if entry.group == "paper"]


def build(architecture: str):
    """Model and tokenizer, at random, large enough for groups of 128 weights."""
    if architecture == "t5":
        tokenizer = trained.sentinels()
        config = t.T5Config(
            vocab_size=len(tokenizer), d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4,
            feed_forward_proj="gated-gelu", decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
        )  # fmt: skip
        return t.T5ForConditionalGeneration(config), tokenizer
    if architecture == "llama":
        tokenizer = trained.byte_level()
        config = t.LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, pad_token_id=0, bos_token_id=1, **SIZES)
        return t.LlamaForCausalLM(config), tokenizer
    tokenizer = trained.word_pieces()
    names = (*invented_benchmarks.LANDS, *invented_benchmarks.TOWNS, "dragon", "tail")
    tokenizer.add_tokens([AddedToken(n.lower(), single_word=True, normalized=True) for n in names])
    size = {"vocab_size": len(tokenizer), "pad_token_id": 0, "embedding_size": 64, "hidden_dim": 256}
    config = t.AutoConfig.for_model(architecture, **SIZES, **size)
    return t.AutoModelForMaskedLM.from_config(config), tokenizer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Benchmarks of this project's own making, in the places of the real ones."""
    folder = tmp_path_factory.mktemp("data")
    for name, make in invented_benchmarks.MAKERS.items():
        make(folder / name)
    invented_tasks.write_data(folder, items=4)
    (folder / "wikitext2").mkdir()
    (folder / "wikitext2" / "wiki.test.raw").write_text("The capital of Lyonesse is Ys . " * 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KC_DATA", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        forget()
        yield folder
    forget()


def forget():
    for cached in (load_source, cells_module._facts_hash, cells_module._fingerprints, estimate.counts):
        cached.cache_clear()


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """The paper's ids, each naming a small random model of its architecture."""
    home, before = tmp_path_factory.mktemp("models"), dict(registry.registry())
    for entry in PAPER:
        folder = home / entry.architecture
        if not folder.exists():
            model, tokenizer = build(entry.architecture)
            drawn(lambda model=model: model, 0.05)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        registry.registry()[entry.id] = ModelEntry(id=entry.id, family=entry.family, source=f"path:{folder}")
    yield home
    registry.registry().update(before)
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def study(data, stand_ins):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return load_study("paper", fetch=False)


def one_of_a_kind(cells) -> list:
    """One cell of each kind, whatever the amount, with an amount in the middle where there are several."""
    kinds = {}
    for cell in cells:
        kinds.setdefault((re.sub(r"=[\d.]+", "", cell.recipe), cell.probe), []).append(cell)
    return [alike[len(alike) // 2] for alike in kinds.values()]


ENCODERS = ["bert-base-uncased", "roberta-base", "distilbert-base-uncased", "albert-base-v2"]
ONE_OF_EACH = [*ENCODERS, "flan-t5-base", "vicuna-7b"]


def test_the_study_evaluates_every_checkpoint_of_the_paper(study):
    assert {cell.model for cell in study.cells} == {entry.id for entry in PAPER}
    assert {registry.registry()[m].family for m in ONE_OF_EACH} == {"encoder", "encoder-decoder", "decoder"}
    assert {entry.architecture for entry in PAPER} == {"bert", "roberta", "distilbert", "albert", "t5", "llama"}
    for model in {cell.model for cell in study.cells}:
        recipes = {cell.recipe for cell in study.cells if cell.model == model}
        for scope in ("all", "attention", "feed_forward"):
            assert {f"magnitude@{scope}=0.{n}" for n in range(1, 10)} <= recipes
            assert {f"int8@{scope}", *(f"rtn@{scope}={bits}" for bits in (4, 3, 2))} <= recipes
            assert {f"magnitude@{scope}=0.{n}+int8@{scope}" for n in (2, 4)} <= recipes
        assert any(recipe.startswith("gptq@all=4") for recipe in recipes) == (not model.startswith("albert"))
        assert {f"{method}@head=0.5" for method in ("magnitude", "random", "rows-l1", "random-rows")} <= recipes


@pytest.mark.parametrize("model", ONE_OF_EACH)
def test_every_kind_of_cell_runs_on_its_architecture(study, model, results):
    wanted = one_of_a_kind([cell for cell in study.cells if cell.model == model])
    if model != "bert-base-uncased":  # one scope of each method is enough for the others, the paper's sets among them
        few = {}
        for cell in wanted:
            steps = Recipe.parse(cell.recipe).steps
            few.setdefault((*(s.method for s in steps), *(s.options.get("preset") for s in steps), cell.probe), cell)
        wanted = list(few.values())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    absent = [error for group in grouped(wanted).values() if (error := compute_group(group))]
    torch.set_num_threads(threads)
    assert absent == [] == list(results.glob("failed/*/*.json"))
    base = {cell.probe: store.read(cell.key).rows for cell in wanted if cell.recipe == "none"}
    changed = []
    for cell in wanted:
        found = store.read(cell.key)
        steps = Recipe.parse(cell.recipe).steps
        questions = found.rows[found.rows["protocol"] != "perplexity"]
        assert questions["valid"].all() and questions[["correct", "score"]].notna().all(axis=None)
        before = base[cell.probe]
        pd.testing.assert_series_equal(found.rows["fact"], before["fact"])
        assert found.report["touched_fraction"] > 0 or not steps
        if steps and steps[0].method == "magnitude" and len(steps) == 1:
            assert found.report["sparsity"] == pytest.approx(steps[0].amount, abs=0.01)
        if steps and steps[-1].method in ("rtn", "gptq", "int8"):
            assert found.report["bits_per_weight"] < 13
        changed.append(not found.rows["score"].equals(before["score"]))
    assert sum(changed) >= len(wanted) - 3 * len(base), "hardly more than the uncompressed cells keep their scores"


def test_the_plan_for_a_card_counts_what_there_is(study):
    own = [c for c in study.cells if c.model in ("bert-base-uncased", "vicuna-7b")]
    size_of.cache_clear()
    lines = {line["model"]: line for line in estimate.by_model(own, "h100")}
    assert lines["bert-base-uncased"]["evaluations"] + lines["vicuna-7b"]["evaluations"] == len(own)
    vicuna = lines["vicuna-7b"]
    assert vicuna["disk_gb"] == pytest.approx(13.48, abs=0.01)
    assert vicuna["memory_gb"] > 27, "the weights alone take 27 GB in float32"
    assert 0 < vicuna["hours_16"] < vicuna["hours_32"] and vicuna["fits"]
    bert, albert = size_of("bert-base-uncased"), size_of("albert-base-v2")
    assert bert.applied == bert.parameters, "every parameter is met once"
    assert albert.applied - albert.parameters == 11 * (4 * 768**2 + 2 * 768 * 3072), "12 layers use one set of weights"
    small = {line["model"]: line for line in estimate.by_model(own, "t4")}
    assert not small["vicuna-7b"]["fits"]
    assert small["vicuna-7b"]["hours_32"] > vicuna["hours_32"]
    text = estimate.in_words(list(small.values()), "t4")
    assert "too much for vicuna-7b" in text and "not a measurement" in text


@pytest.mark.parametrize("name", ["paper", "benchmarks"])
def test_without_data_there_is_one_clear_line(name, monkeypatch, tmp_path):
    monkeypatch.delenv("KC_DATA", raising=False)
    monkeypatch.setenv("KC_CACHE", str(tmp_path))
    monkeypatch.setattr("kc_utils.probing.files._fetch_home", lambda *_: pytest.fail("nothing is fetched for a plan"))
    load_source.cache_clear()
    with pytest.raises(MissingData) as error:
        load_study(name, fetch=False)
    text = str(error.value)
    assert "\n" not in text and text.startswith(f"study {name} needs lama")
    assert "KC_DATA is not set" in text and "boolq" in text
