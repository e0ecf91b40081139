"""Where benchmark files are found, and what happens when they are fetched, well or badly."""

import json
import threading
import zipfile
from dataclasses import replace
from io import BytesIO

import pytest

from kc_utils.errors import BadRequest
from kc_utils.probing import download, files
from kc_utils.probing.files import data_file, data_files, read_jsonl
from kc_utils.probing.sources import bear, lama, load_source, missing, pararel
from tests.probing import invented_benchmarks as invented
from tests.probing.conftest import refused
from tests.probing.loopback import serving


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    """An empty cache, no KC_DATA, no proxy, no pauses, and sources that were not read before."""
    monkeypatch.setenv("KC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    for name in ("KC_DATA", "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    load_source.cache_clear()
    yield
    load_source.cache_clear()


@pytest.fixture
def home(monkeypatch):
    """Moves the home of a benchmark to another address."""

    def move(top: str, address: str, **changes):
        monkeypatch.setitem(files.HOMES, top, replace(download.HOMES[top], url=address, **changes))

    return move


@pytest.fixture
def kc_data(tmp_path, monkeypatch):
    monkeypatch.setenv("KC_DATA", str(tmp_path / "given"))
    (tmp_path / "given").mkdir()
    return tmp_path / "given"


def archived(folder, top: str) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(path, f"{top}/{path.relative_to(folder)}")
        archive.writestr(f"{top}/README.md", "not a data file")
    return stream.getvalue()


def lama_archive(tmp_path) -> bytes:
    invented.lama(tmp_path / "LAMA")
    return archived(tmp_path / "LAMA", "data")


def left_in_cache(tmp_path):
    return [str(p.relative_to(tmp_path)) for p in (tmp_path / "cache").rglob("*") if not p.name.endswith(".lock")]


def test_kc_data_comes_before_the_cache_and_one_folder_gives_all(kc_data, tmp_path):
    names = ["harness/piqa/valid.jsonl", "harness/piqa/valid-labels.lst"]
    for name in names:
        invented.write(tmp_path / "cache/data" / name, {"a": 1})
    invented.write(kc_data / names[0], {"a": 2})
    assert read_jsonl(data_file(names[0])) == [{"a": 2}]
    assert data_files(names) == [tmp_path / "cache/data" / name for name in names]


def test_a_wrong_place_is_refused(monkeypatch, tmp_path):
    for name in ("/etc/passwd", "LAMA/../../secret"):
        with pytest.raises(BadRequest, match="must stay inside"):
            data_file(name)
    (tmp_path / "cache").write_text("in the way")
    assert "cannot write" in refused(load_source, "lama:squad")
    monkeypatch.setenv("KC_DATA", str(tmp_path / "typing-error"))
    assert "is not a folder" in refused(data_file, "harness/boolq/val.jsonl")
    assert "is not a folder" in missing("bear")


def test_the_message_about_an_absent_file_states_what_to_put_where(tmp_path, kc_data):
    homes = {"harness/boolq/val.jsonl": "google/boolq", "wikitext2/wiki.test.raw": "Salesforce/wikitext"}
    for name, home in homes.items():
        text = refused(data_file, name)
        assert all(part in text for part in (name, home, str(kc_data), str(tmp_path / "cache/data"), "KC_DATA")), text


def test_nothing_is_fetched_when_offline(home, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with serving() as (address, seen):
        home("LAMA", f"{address}/well/data.zip")
        text = refused(load_source, "lama:squad")
    assert seen == []
    assert "HF_HUB_OFFLINE" in text
    assert "LAMA/Squad/test.jsonl" in text
    assert "https://dl.fbaipublicfiles.com/LAMA/data.zip" in text
    assert left_in_cache(tmp_path) in ([], ["cache/data"])


@pytest.mark.filterwarnings("ignore:.*not the set of files:UserWarning")
def test_lama_is_fetched_once_by_all_who_want_it_and_read_from_the_cache(home, tmp_path, monkeypatch, capfd):
    content, found = lama_archive(tmp_path), []
    with serving(data__zip=content) as (address, seen):
        home("LAMA", f"{address}/well/data.zip")
        assert missing("lama") is not None
        threads = [threading.Thread(target=lambda: found.append(data_files(lama.needed()))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert missing("lama") is None
        facts = load_source("lama")
        assert (len(found), len(seen)) == (4, 1)
    assert "fetching LAMA (once)" in capfd.readouterr().err
    folder = tmp_path / "cache/data/LAMA"
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == {n.removeprefix("LAMA/") for n in lama.needed()} | {"SOURCE.json"}
    mark = json.loads((folder / "SOURCE.json").read_text())
    assert (mark["hash"], mark["bytes"]) == ("unverified", len(content))
    assert len(mark["sha256"]) == len(mark["files_sha256"]) == 64
    monkeypatch.setenv("KC_DATA", str(tmp_path))
    load_source.cache_clear()
    (tmp_path / "cache").rename(tmp_path / "unused")
    assert load_source("lama").sha256 == facts.sha256, "fetched and given files make the same facts"


@pytest.mark.parametrize(
    ("manner", "changes", "says"),
    [
        ("too-short", {}, "no readable zip"),
        ("well", {"sha256": "0" * 64}, "than the expected 0000000000000000"),
        ("well", {"fileset_sha256": "0" * 64}, "than the published ones"),
        ("well", {"max_unpacked": 1000}, "more than 1,000"),
    ],
)
def test_a_bad_transfer_leaves_nothing_in_the_cache(home, tmp_path, manner, changes, says):
    with serving(data__zip=lama_archive(tmp_path)) as (address, _):
        home("LAMA", f"{address}/{manner}/data.zip", **changes)
        assert says in refused(load_source, "lama:squad")
    assert left_in_cache(tmp_path) == ["cache/data"]


@pytest.mark.filterwarnings("ignore:.*not the set of files:UserWarning")
@pytest.mark.parametrize(("top", "source"), [("BEAR", bear), ("ParaRel", pararel)])
def test_repositories_are_fetched_from_the_archive_of_one_commit(home, tmp_path, top, source):
    folder = tmp_path / "repository"
    for name in ("BEAR", "BEAR-big"):
        invented.bear(folder / name)
    invented.pararel(folder / "data")
    (folder / "data/pattern_data").mkdir()
    (folder / "data/graphs_json").rename(folder / "data/pattern_data/graphs_json")
    assert len(download.HOMES[top].url.split("/archive/")[1]) == len("0" * 40 + ".zip")
    with serving(commit__zip=archived(folder, f"{top}-0123")) as (address, _):
        home(top, f"{address}/no-length/commit.zip", fileset_sha256=None)
        assert len(load_source(top.lower())) > 100
    kept = {str(p.relative_to(tmp_path / "cache/data")) for p in (tmp_path / "cache/data").rglob("*.json*")}
    assert kept == {*source.needed(), f"{top}/SOURCE.json"}


def test_popqa_comes_from_the_hub_or_its_mirror(tmp_path, monkeypatch):
    assert download.HOMES["PopQA"].address.startswith("https://huggingface.co/datasets/akariasai/PopQA/resolve/")
    invented.popqa(tmp_path / "made")
    content = (tmp_path / "made/test.tsv").read_bytes()
    with serving(test__tsv=content) as (address, seen):
        monkeypatch.setenv("HF_ENDPOINT", f"{address}/well/")
        assert (len(load_source("popqa")), len(seen)) == (3, 1)
    assert (tmp_path / "cache/data/PopQA/test.tsv").read_bytes() == content
