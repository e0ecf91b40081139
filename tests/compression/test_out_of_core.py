"""Pruning a folder tensor by tensor against loading, pruning and saving it in memory."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from benchmarks.out_of_core import make_folder
from kc_utils.compression import out_of_core
from kc_utils.compression.apply import apply
from kc_utils.compression.out_of_core import BUFFER, can_prune, prune_folder
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadModel, BadRequest, MissingData
from kc_utils.models.checkpoint import Checkpoint
from kc_utils.models.loading import CLASSES
from kc_utils.models.registry import resolve
from tests.models.architectures import tiny

ROOT = Path(__file__).resolve().parents[2]
METHODS = [
    "magnitude@all=0.5",
    "magnitude@attention=0.3,per=layer",
    "magnitude@feed_forward=0.25,per=row",
    "magnitude@feed_forward,weights=300",
    "random@all=0.4,seed=3",
    "rows-l1@all=0.25",
    "rows-l2@feed_forward=0.5",
    "random-rows@attention=0.25,seed=1",
    "2:4@all",
    "magnitude@all=0",
]
CHAINS = [
    "2:4@feed_forward+magnitude@all=0.6",
    "magnitude@attention=0.2+random@all=0.3+magnitude@feed_forward=0.5",
    "rows-l1@all=0.2+magnitude@all=0.4+magnitude@attention=0.7",
]


def folder_of(tmp_path: Path, name: str, dtype=torch.float32, shard="6KB", coarse=False) -> Path:
    """A tiny model saved in shards; coarse: with many weights of equal magnitude."""
    model = tiny(name)
    if coarse:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_((parameter * 5).round() / 5)
    folder = tmp_path / "source"
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"unpruned")
    return folder


def loaded(folder: Path) -> torch.nn.Module:
    family = resolve(f"path:{folder}").family
    return CLASSES[family].from_pretrained(folder, dtype="auto", local_files_only=True).eval()


def assert_same(folder: Path, recipe: str, tmp_path: Path, config=True) -> dict:
    """The folder pruned out of core holds, bit for bit, what memory, apply and save_pretrained give."""
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    report = prune_folder(folder, Recipe.parse(recipe), tmp_path / "target")
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before, "the source was changed"
    model = loaded(folder)
    expected_report = apply(model, Recipe.parse(recipe)).to_dict()
    model.save_pretrained(tmp_path / "memory")
    theirs = load_file(tmp_path / "memory" / "model.safetensors")
    ours = {}
    for file in sorted((tmp_path / "target").glob("*.safetensors")):
        ours |= load_file(file)
    assert ours.keys() == theirs.keys()
    for key, weight in theirs.items():
        assert ours[key].dtype == weight.dtype, key
        assert torch.equal(ours[key], weight), key
        assert torch.equal(ours[key].signbit(), weight.signbit()), key  # zeros too
    again = loaded(tmp_path / "target")
    assert all(torch.equal(w, again.state_dict()[k]) for k, w in model.state_dict().items())
    tied = [
        json.loads((tmp_path / place / "config.json").read_text()).get("tie_word_embeddings")
        for place in ("target", "memory")
    ]
    assert tied[0] == tied[1]
    for key in set(report) - {"steps", "per_matrix", "bytes_on_disk"}:
        assert report[key] == expected_report[key], key
    for ours_, theirs_ in zip(report["steps"], expected_report["steps"], strict=True):
        assert all(ours_[k] == theirs_[k] for k in set(ours_) - {"seconds"})
    for ours_, theirs_ in zip(report["per_matrix"], expected_report["per_matrix"], strict=True):
        assert all(v == theirs_[k] for k, v in ours_.items())
    return report


@pytest.mark.parametrize("recipe", METHODS)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_every_method_equals_pruning_in_memory(name, recipe, tmp_path):
    assert_same(folder_of(tmp_path, name), recipe, tmp_path)


@pytest.mark.parametrize("recipe", CHAINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_later_step_sees_what_earlier_ones_left(recipe, dtype, tmp_path):
    assert_same(folder_of(tmp_path, "llama, tied", dtype, coarse=True), recipe, tmp_path)


@pytest.mark.parametrize(
    "name",
    ["bert", "t5", "flan-t5, lamini", "gpt2", "gpt_neox", "bart", "albert", "opt", "phi3", "distilbert", "roberta"],
)
def test_architectures(name, tmp_path):
    assert_same(folder_of(tmp_path, name), "magnitude@all=0.5+rows-l2@attention=0.25", tmp_path)


@pytest.mark.parametrize("name", ["llama, tied", "llama", "bert", "t5", "gpt2"])
@pytest.mark.parametrize("shard", ["6KB", "1GB"])
def test_a_tied_head_gets_a_tensor_of_its_own(name, shard, tmp_path):
    report = assert_same(folder_of(tmp_path, name, shard=shard), "magnitude@head=0.5", tmp_path)
    assert report["zeros"] == report["weights_touched"] // 2
    if shard != "1GB":
        assert len(list((tmp_path / "target").glob("*.safetensors"))) > 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shard", ["3KB", "20KB", "1GB"])
def test_ties_at_the_cut_go_in_module_order_whatever_the_shards(dtype, shard, tmp_path):
    folder = folder_of(tmp_path, "llama", dtype, shard, coarse=True)
    assert_same(folder, "magnitude@all=0.43", tmp_path)


def test_mixed_precision(tmp_path):
    folder = folder_of(tmp_path, "llama", shard="1GB", coarse=True)
    weights = load_file(folder / "model.safetensors")
    for key in weights:
        if "down_proj" in key:
            weights[key] = weights[key].bfloat16()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    prune_folder(folder, Recipe.parse("magnitude@all=0.4"), tmp_path / "target")
    model = loaded(folder)
    apply(model, Recipe.parse("magnitude@all=0.4"))
    for key, weight in load_file(tmp_path / "target" / "model.safetensors").items():
        assert weight.dtype == weights[key].dtype
        assert torch.equal(weight.float(), model.state_dict()[key].float())


def test_names_without_the_prefix_of_the_base_model(tmp_path):
    """GPT-2's own files call it wte.weight, not transformer.wte.weight, and hold masks that are no parameters."""
    folder = folder_of(tmp_path, "gpt2", shard="1GB")
    weights = load_file(folder / "model.safetensors")
    old = {key.removeprefix("transformer."): weight for key, weight in weights.items()}
    old["h.0.attn.bias"] = torch.ones(1, 1, 24, 24)
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    prune_folder(folder, Recipe.parse("magnitude@all=0.5+magnitude@head=0.5"), tmp_path / "target")
    model = loaded(folder)
    apply(model, Recipe.parse("magnitude@all=0.5+magnitude@head=0.5"))
    found = loaded(tmp_path / "target").state_dict()
    assert all(torch.equal(weight, found[key]) for key, weight in model.state_dict().items())
    keys = load_file(tmp_path / "target" / "model.safetensors").keys()
    assert keys == old.keys() | {"lm_head.weight"}


@pytest.mark.parametrize("equal", [True, False])
def test_a_head_stored_beside_the_embedding_it_is_tied_to(equal, tmp_path):
    folder = folder_of(tmp_path, "llama, tied", shard="1GB")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] * (1 if equal else 2)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert_same(folder, "magnitude@head=0.5", tmp_path)


def test_a_head_stored_instead_of_the_embedding(tmp_path):
    folder = folder_of(tmp_path, "llama, tied", shard="1GB")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert_same(folder, "magnitude@head=0.5", tmp_path)


def test_what_the_target_holds(tmp_path):
    folder = folder_of(tmp_path, "llama")
    (folder / "kc.json").write_text("{}")
    seen = {}
    report = prune_folder(
        folder, Recipe.parse("2:4@all"), tmp_path / "target",
        finish=lambda place, report: (seen.update(report), (place / "compression.json").write_text("{}")),
    )  # fmt: skip
    names = {f.name for f in (tmp_path / "target").iterdir()}
    assert names == {f.name for f in folder.iterdir()} - {"kc.json", "pytorch_model.bin"} | {"compression.json"}
    assert seen == report
    assert report["bytes_on_disk"] == sum(f.stat().st_size for f in (tmp_path / "target").glob("*.safetensors"))
    index = json.loads((tmp_path / "target" / "model.safetensors.index.json").read_text())
    for key, file in index["weight_map"].items():
        with safe_open(tmp_path / "target" / file, "pt") as opened:
            assert opened.get_slice(key)
            assert opened.metadata() == {"format": "pt"}
    assert Checkpoint.open(tmp_path / "target").tensors == Checkpoint.open(folder).tensors  # same places in same files


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["model.norm.weight", "model.layers.1.mlp.down_proj.weight"])
def test_weights_that_are_not_finite_are_refused_before_anything_is_written(bad, key, tmp_path, monkeypatch):
    folder = folder_of(tmp_path, "llama", torch.bfloat16, shard="1GB")
    weights = load_file(folder / "model.safetensors")
    weights[key].view(-1)[3] = bad
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setattr(out_of_core, "complete_or_absent", lambda target: pytest.fail("the target was begun"))
    for recipe in ("magnitude@all=0.5", "2:4@all"):
        with pytest.raises(BadModel, match=f"{key}: 1 of .* are NaN or infinite"):
            prune_folder(folder, Recipe.parse(recipe), tmp_path / "target")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_nothing(stop, tmp_path, monkeypatch):
    folder = folder_of(tmp_path, "llama")
    write, written = out_of_core.Files.write, []

    def interrupted(self, tensor, values):
        written.append(tensor.key)
        if len(written) == 9:
            raise stop
        write(self, tensor, values)

    monkeypatch.setattr(out_of_core.Files, "write", interrupted)
    with pytest.raises((KeyboardInterrupt, MissingData)):
        prune_folder(folder, Recipe.parse("magnitude@all=0.5"), tmp_path / "deep" / "target")
    assert len(written) == 9
    assert list((tmp_path / "deep").iterdir()) == []


def test_refusals(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, "llama")
    half, away = Recipe.parse("magnitude@all=0.5"), tmp_path / "target"
    for recipe in ("none", "rtn@all=4", "magnitude@all=0.5+int8@all"):
        assert not can_prune(Recipe.parse(recipe))
        with pytest.raises(BadRequest, match="only steps that prune by the weights alone"):
            prune_folder(folder, Recipe.parse(recipe), away)
    for place in (folder, folder / "below", tmp_path / "link" / ".." / "source"):
        with pytest.raises(BadRequest, match="folder of the model itself"):
            prune_folder(folder, half, place)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "result").write_text("kept")
    with pytest.raises(BadRequest, match="exists already"):
        prune_folder(folder, half, tmp_path / "full")
    for recipe, text in (
        ("magnitude@decoder.cross_attention=0.5", "no such matrix"),
        ("magnitude@all=0.1+8:16@all", "24 inputs, not a multiple of 16"),
        ("magnitude@all,weights=1M", "weights only; ask for fewer"),
        ("random@all,weights=1M", "weights only; ask for fewer"),
    ):
        with pytest.raises(BadRequest, match=text):
            prune_folder(folder, Recipe.parse(recipe), away)
    with pytest.raises(MissingData, match=r"needs 0\.00 GB and 0\.00 GB are free"):
        monkeypatch.setattr(out_of_core.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(9, 9, 0))
        prune_folder(folder, half, away)
    assert not away.exists()
    assert (tmp_path / "full" / "result").read_text() == "kept"


def test_damaged_and_strange_folders(tmp_path):
    folder = folder_of(tmp_path, "llama", shard="1GB")
    half, away, file = Recipe.parse("magnitude@all=0.5"), tmp_path / "target", folder / "model.safetensors"
    weights = load_file(file)

    def refused(text, **changed):
        save_file({k: v for k, v in (weights | changed).items() if v is not None}, file, metadata={"format": "pt"})
        with pytest.raises(BadModel, match=text):
            prune_folder(folder, half, away)

    up = "model.layers.0.mlp.up_proj.weight"
    refused(r"lacks weights that its architecture needs: model\.layers\.0\.mlp\.up_proj", **{up: None})
    refused("has the shape", **{up: torch.ones(3, 16)})
    refused("float64 cannot be pruned", **{up: weights[up].double()})
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(BadModel, match="is damaged"):
        prune_folder(folder, half, away)
    file.unlink()
    with pytest.raises(BadModel, match="holds neither"):
        prune_folder(folder, half, away)
    config = json.loads((folder / "config.json").read_text())
    save_file(weights, file, metadata={"format": "pt"})
    (folder / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    with pytest.raises(BadModel, match="quantized already"):
        prune_folder(folder, half, away)
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": "wide"}))
    with pytest.raises(BadModel, match="describes no model"):
        prune_folder(folder, half, away)
    assert not away.exists()


def test_stacked_weights_are_refused(tmp_path):
    """Mixtral's files hold each expert by itself, the model all of them in one tensor."""
    import transformers as t

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = t.MixtralConfig(intermediate_size=24, vocab_size=40, num_local_experts=2, **sizes)
    t.MixtralForCausalLM(config).save_pretrained(tmp_path / "source")
    with pytest.raises(BadModel, match="fused or stacked .*experts"):
        prune_folder(tmp_path / "source", Recipe.parse("magnitude@all=0.5"), tmp_path / "target")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc")
def test_memory_stays_below_a_shard_and_a_fixed_buffer(tmp_path):
    """Four files of up to 150 MB; the largest tensor is a file of its own. Measured in a process that does only this."""
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 1024, "intermediate_size": 8192,
        "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 73_000, "num_hidden_layers": 4,
        "tie_word_embeddings": False, "dtype": "float16",
    }  # fmt: skip
    make_folder(tmp_path / "source", config, 150_000_000)
    sizes = [f.stat().st_size for f in (tmp_path / "source").glob("*.safetensors")]
    assert len(sizes) == 4 and sum(sizes) > 500e6
    command = [sys.executable, ROOT / "benchmarks" / "out_of_core.py"]
    command += ["--recipe", "rows-l2@head=0.1+magnitude@all=0.5+random@head=0.2", "--measure", "prune"]
    done = subprocess.run(
        [*command, tmp_path / "source", tmp_path / "target"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["extra"] <= 1.2 * max(sizes) + BUFFER
    assert found["extra"] <= sum(sizes) / 2, "the model as a whole would not fit"
    assert 0.38 < found["sparsity"] < 0.5  # half of the blocks; of the head, 10 % as rows and 20 % of all at random
