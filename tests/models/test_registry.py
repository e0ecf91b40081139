import re

import pytest
from pydantic import ValidationError

from kc_utils.errors import BadModel, BadRequest, MissingData
from kc_utils.models.loading import fingerprint
from kc_utils.models.registry import FAMILIES, ModelEntry, list_models, registry, resolve
from kc_utils.models.roles import ARCHITECTURES

HUB = [e for e in registry().values() if e.kind == "hub"]


def test_every_entry_is_complete_and_listed():
    table = list_models().set_index("model")
    assert {"smollm2-135m", "bert-base-uncased", "flan-t5-base", "vicuna-7b"} <= set(table.index)
    assert list(table.index) == list(registry()) == [entry.id for entry in registry().values()]
    assert set(table["family"]) == set(FAMILIES)
    assert not (table["licence"] == "unknown").any()
    assert table["source"].is_unique
    assert set(table.loc[table["group"] == "default", "source"].str.partition(":")[0]) == {"pypi"}, "they need no hub"
    assert {e.group for e in registry().values()} == {"default", "paper", "current", "lab"}


@pytest.mark.parametrize("entry", HUB, ids=lambda e: e.id)
def test_a_hub_model_names_its_commit_its_licence_and_its_architecture(entry):
    assert re.fullmatch(r"[0-9a-f]{40}", entry.revision)
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.address)
    assert ARCHITECTURES[entry.architecture].family == entry.family
    assert entry.revision in fingerprint(entry)
    assert [e.id for e in HUB if e.revision == entry.revision] == [entry.id]
    assert entry.gated == entry.address.startswith(("meta-llama/", "google/gemma"))
    assert not entry.gated or any("logged in" in note for note in entry.notes)


def test_an_unknown_id_names_the_known_ones():
    with pytest.raises(BadRequest, match=r"unknown model 'smollm'.*smollm2-135m.*path:DIR"):
        resolve("smollm")


@pytest.mark.parametrize(
    "row",
    [
        {"source": "ftp:x"}, {"source": "x"}, {}, {"source": "pypi:package", "file": "f", "sha256": "0" * 64},
        {"source": "pypi:package==1", "file": "f"}, {"source": "pypi:package==1", "sha256": "0" * 64},
        {"source": "hub:o/n", "family": "transformer"}, {"source": "hub:o/n", "licens": "MIT"},
        {"source": "hub:o/n", "group": "favourites"},
    ],
)  # fmt: skip
def test_a_bad_entry_is_refused(row):
    with pytest.raises(ValidationError):
        ModelEntry(**({"id": "m", "family": "decoder"} | row))


def test_a_folder_is_a_model(trained, monkeypatch):
    entry = resolve(trained.id)
    assert (entry.id, entry.family, entry.kind, entry.licence) == (trained.id, "decoder", "path", "local")
    monkeypatch.setenv("HOME", str(trained.folder.parent))
    assert resolve(f"path:~/{trained.folder.name}").address == str(trained.folder)


NO_MODEL = dict.fromkeys(["{", "null", "[1]", "\udcff"], "not valid JSON of a model")
NO_MODEL |= dict.fromkeys(["{}", '{"architectures": ["LlamaModel"]}'], "no language-model head")


@pytest.mark.parametrize("text", NO_MODEL)
def test_a_folder_that_is_no_model(tmp_path, text):
    with pytest.raises(MissingData, match=r"path:.*no config.json"):
        resolve(f"path:{tmp_path}")
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(BadModel, match=NO_MODEL[text]):
        resolve(f"path:{tmp_path}")
