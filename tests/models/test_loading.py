"""Loading: safetensors only, no foreign code, nothing at random; the hub through a loopback server."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file, save_file

from kc_utils.errors import BadModel, MissingData
from kc_utils.models import loading
from kc_utils.models.loading import conversion, fingerprint, load
from kc_utils.models.registry import resolve
from tests.models.architectures import logits, tiny


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the trained folder that a test may damage."""
    return shutil.copytree(trained.folder, tmp_path / "copy")


def refused(folder) -> str:
    with pytest.raises(BadModel) as error:
        load(f"path:{folder}")
    assert "\n" not in str(error.value) and len(str(error.value)) < 1200
    return str(error.value)


def test_a_folder_loads_in_evaluation_mode_with_its_own_weights(trained):
    loaded = load(trained.id)
    assert not loaded.model.training
    for name, weights in load_file(trained.folder / "model.safetensors").items():
        assert torch.equal(loaded.model.get_parameter(name), weights), name
    assert loaded.tokenizer.decode(loaded.tokenizer("The capital of Chile is").input_ids) == "The capital of Chile is"
    parameters = sum(p.numel() for p in loaded.model.parameters())
    assert repr(loaded) == f"<{trained.id}: decoder, {parameters:,} parameters, uncompressed>"
    assert loaded.report is None


def test_pickled_weights_are_not_read(copy, tmp_path):
    (copy / "model.safetensors").unlink()
    marker = tmp_path / "ran"

    class Harmful:
        def __reduce__(self):
            return (os.system, (f"touch {marker}",))

    torch.save({"model.embed_tokens.weight": Harmful()}, copy / "pytorch_model.bin")
    assert "pickled weights are not read" in refused(copy)
    (copy / "adapter.safetensors").write_bytes(b"")  # a file of the right kind that is not the model
    refused(copy)
    assert not marker.exists()


def test_the_command_that_a_refusal_names_converts_the_weights_bit_for_bit(copy, trained):
    stored = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(stored)
    for part, some in enumerate((names[::2], names[1::2]), 1):  # in two files, as large models come
        torch.save({k: stored[k] for k in some}, copy / f"pytorch_model-0000{part}-of-00002.bin")
    command = refused(copy).split("by  ")[1].split("  and name the model")[0]
    python = f"{sys.executable} " + command.removeprefix("python ")
    subprocess.run(python, shell=True, check=True, capture_output=True)
    converted = load_file(copy / "model.safetensors")
    assert converted.keys() == stored.keys()
    assert all(torch.equal(converted[k], stored[k]) for k in stored)
    load(f"path:{copy}")


@pytest.mark.parametrize(("name", "gated"), [("llama-3.2-1b", True), ("lamini-flan-t5-248m", False)])
def test_a_hub_model_that_cannot_be_fetched_and_the_command_that_converts_it(monkeypatch, name, gated):
    monkeypatch.setattr("huggingface_hub.snapshot_download", Mock(side_effect=OSError("401")))
    with pytest.raises(MissingData) as error:
        load(name)
    assert ("hf auth login" in str(error.value)) is gated
    entry = resolve(name)
    program = shlex.split(conversion(entry))[2]
    compile(program, "command", "exec")
    assert f'"{entry.address}", revision="{entry.revision}", local_dir="DIR"' in program


TIED = {
    "opt": ["model.decoder.embed_tokens.weight", "lm_head.weight"],
    "flan-t5, lamini": ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"],
}


@pytest.mark.parametrize(("architecture", "kept"), [(a, k) for a, names in TIED.items() for k in names])
def test_a_conversion_that_kept_one_name_of_a_shared_matrix_loads_whole(architecture, kept, trained, tmp_path):
    """The hub's conversions to safetensors store a matrix that several modules share under one of its names only."""
    model = tiny(architecture)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(tmp_path)
    for file in trained.folder.glob("*token*"):
        shutil.copy(file, tmp_path)
    weights = {k: v.clone() for k, v in model.state_dict().items() if k == kept or k not in TIED[architecture]}
    if architecture == "flan-t5, lamini":  # its output matrix is its own
        model.lm_head.weight = torch.nn.Parameter(weights["lm_head.weight"] * 2)
        weights["lm_head.weight"] = model.lm_head.weight.detach().clone()
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(logits(load(f"path:{tmp_path}").model), logits(model))


def _edited(file, **changes):
    """A safetensors file with other tensors under some names, or without them."""
    tensors = {name: t for name, t in (load_file(file) | changes).items() if t is not None}
    save_file(tensors, file, metadata={"format": "pt"})


UP = "model.layers.1.mlp.up_proj.weight"
DAMAGE = {
    "a weight gone": lambda folder: _edited(folder / "model.safetensors", **{UP: None}),
    "truncated": lambda folder: os.truncate(folder / "model.safetensors", 100_000),
    "another shape": lambda folder: _edited(folder / "model.safetensors", **{UP: torch.zeros(3, 3)}),
    "a damaged tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{ not json"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_refused_and_lacking_weights_are_not_made_up(copy, damage):
    DAMAGE[damage](copy)
    lacking = f"lacks weights that its architecture needs: {UP}"
    assert (lacking if damage == "a weight gone" else "could not be loaded") in refused(copy)


@pytest.mark.parametrize("model_type", ["llama", "kc_custom"])
def test_code_in_a_model_folder_never_runs(copy, tmp_path, model_type):
    marker, config = tmp_path / "ran", copy / "config.json"
    code = f"open({str(marker)!r}, 'w')\nfrom transformers import LlamaConfig as C, LlamaForCausalLM as M\n"
    (copy / "foreign.py").write_text(code)
    foreign = {"auto_map": {"AutoConfig": "foreign.C", "AutoModelForCausalLM": "foreign.M"}, "model_type": model_type}
    config.write_text(json.dumps(json.loads(config.read_text()) | foreign))
    if model_type == "llama":  # a class that transformers knows itself is used instead
        assert type(load(f"path:{copy}").model).__module__.startswith("transformers.")
    else:
        refused(copy)
    assert not marker.exists()


def test_the_fingerprint_follows_content_and_not_time_or_path(trained, copy):
    original = fingerprint(resolve(trained.id))
    os.utime(copy / "model.safetensors", (1, 1))
    (copy / "README.md").write_text("notes")
    assert fingerprint(resolve(f"path:{copy}")) == original
    weights = copy / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert fingerprint(resolve(f"path:{copy}")) != original


class Hub(BaseHTTPRequestHandler):
    """The few answers that `snapshot_download` needs. Repositories: own/NAME in `folders`; own/cut breaks off."""

    protocol_version = "HTTP/1.1"
    folders: dict = {}  # noqa: RUF012
    requested: list = []  # noqa: RUF012
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_GET(self):
        path = self.path.partition("?")[0].strip("/").split("/")
        self.requested.append("/".join(path))
        if path[:2] == ["api", "models"]:
            folder = self.folders.get("/".join(path[2:4]))
            files = sorted(folder.iterdir()) if folder else []
            body = {"id": "/".join(path[2:4]), "sha": self.commit, "siblings": [{"rfilename": f.name} for f in files]}
            if path[4] == "tree":
                body = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name} for f in files]
            return self.answer(200 if folder else 404, json.dumps(body if folder else {}).encode())
        folder, name = self.folders.get("/".join(path[:2])), path[-1]
        if folder is None or not (folder / name).is_file():
            return self.answer(404, b"")
        cut = path[1] == "cut" and name.endswith(".safetensors") and self.command == "GET"
        self.answer(200, (folder / name).read_bytes(), cut)

    do_HEAD = do_GET

    def answer(self, status, content, cut=False):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("ETag", f'"{len(content)}-{sum(content) % 1000}"')
        self.send_header("X-Repo-Commit", self.commit)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = self.close_connection or cut

    def log_message(self, *_):
        pass


TRY_EACH = """
import json, sys
from kc_utils.errors import KCError
from kc_utils.models import registry
from kc_utils.models.loading import load
names = sys.argv[1:]
entries = {n: registry.ModelEntry(id=n, family="decoder", source=f"hub:own/{n}", revision="main") for n in names}
registry.registry = lambda: entries
for name in names:
    try:
        loaded = load(name)
        total = sum(float(p.detach().double().abs().sum()) for p in loaded.model.parameters())
        print(json.dumps({"total": total, "folder": str(loaded.folder)}))
    except KCError as error:
        print(json.dumps({"error": type(error).__name__, "text": str(error)}))
"""


def in_a_new_process(home, names, **environment):
    variables = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and k != "HF_HUB_OFFLINE"}
    variables |= {"HF_HOME": str(home), "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_XET": "1"} | environment
    done = subprocess.run([sys.executable, "-c", TRY_EACH, *names], capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(names, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.fixture
def hub(trained, copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    Hub.folders = {"own/tiny": trained.folder, "own/pickled": copy, "own/cut": trained.folder}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_hub_model_is_downloaded_kept_and_loaded_offline(hub, trained, tmp_path):
    found = in_a_new_process(tmp_path / "home", ["tiny", "pickled", "cut", "absent"], HF_ENDPOINT=hub)
    weights = sum(float(p.detach().double().abs().sum()) for p in load(trained.id).model.parameters())
    assert found["tiny"].get("total") == pytest.approx(weights), found["tiny"]
    assert str(tmp_path / "home") in found["tiny"]["folder"]
    assert found["pickled"]["error"] == "BadModel"
    assert not any(path.endswith("pytorch_model.bin") for path in Hub.requested), "pickled weights are not even fetched"
    for name in ("cut", "absent"):
        assert found[name]["error"] == "MissingData", found[name]
        assert "\n" not in found[name]["text"] and "path:DIR" in found[name]["text"]

    requests = len(Hub.requested)
    again = in_a_new_process(tmp_path / "home", ["tiny", "absent"], HF_ENDPOINT=hub, HF_HUB_OFFLINE="1")
    assert again["tiny"] == found["tiny"]
    assert again["absent"]["error"] == "MissingData"
    assert len(Hub.requested) == requests, "offline the hub gets no request"


def test_statements_open_with_the_token_that_the_registry_names(trained, monkeypatch):
    entry = resolve(trained.id)
    monkeypatch.setattr(loading, "resolve", lambda name: entry.model_copy(update={"opens_with": "<pad>"}))
    loaded = load(trained.id)
    assert loaded.tokenizer.bos_token_id == loaded.tokenizer.get_vocab()["<pad>"]
    monkeypatch.setattr(loading, "resolve", lambda name: entry.model_copy(update={"opens_with": "<start>"}))
    with pytest.raises(BadModel, match="no token '<start>'"):
        load(trained.id)
