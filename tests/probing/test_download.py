"""Downloads from a server that breaks off, lies about lengths or falls silent; archives of strangers."""

import hashlib
import io
import random
import stat
import zipfile

import pytest
import requests

from kc_utils.probing import download
from kc_utils.probing.download import fetch, unpack
from tests.probing.conftest import refused
from tests.probing.loopback import serving

CONTENT = random.Random(1).randbytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """No proxy, and no second of waiting between two tries."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    monkeypatch.setattr(download, "TIMEOUT", 1.0)


@pytest.mark.parametrize(("manner", "requests"), [("well", 1), ("no-length", 1), ("breaks-once", 2), ("silent", 2)])
def test_every_byte_arrives(tmp_path, manner, requests, capfd):
    with serving(file=CONTENT) as (address, seen):
        assert fetch(f"{address}/{manner}/file", tmp_path, sha256=SHA256).read_bytes() == CONTENT
    assert seen == [manner] * requests
    assert [p.name for p in tmp_path.iterdir()] == ["file"], "nothing else is left"
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("manner", "options", "says"),
    [
        ("missing", {}, "HTTP 404"),
        ("too-long", {}, "gave up after 3 tries"),
        ("too-short", {"sha256": SHA256}, f"has another sha256 than the expected {SHA256[:16]}"),
        ("well", {"max_bytes": 999_999}, "more than the 999,999 bytes"),
        ("no-length", {"max_bytes": 999_999}, "more than the 999,999 bytes"),
    ],
)
def test_all_but_the_whole_file_is_refused_and_leaves_nothing(tmp_path, manner, options, says):
    with serving(file=CONTENT) as (address, seen):
        assert says in refused(lambda: fetch(f"{address}/{manner}/file", tmp_path, **options))
    assert len(seen) <= 3
    assert "ConnectionError" in refused(fetch, f"{address}/{manner}/file", tmp_path), "the server is gone"
    assert list(tmp_path.iterdir()) == []


def test_https_does_not_lead_to_http():
    response = requests.Response()
    response.url, response.headers["location"] = "https://a.org/file", "http://a.org/file"
    assert "not encrypted" in refused(download._stay_encrypted, response)
    response.headers["location"] = "https://b.org/file"
    download._stay_encrypted(response)


def zipped(*members: tuple[str, bytes], link=False, compression=zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of these members, the first one a symbolic link if asked."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, (name, content) in enumerate(members):
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            info.external_attr = (stat.S_IFLNK | 0o777) << 16 if link and number == 0 else 0
            archive.writestr(info, content)
    return stream.getvalue()


GOOD = ("data/a.txt", b"some text of some length" * 50)
PLAIN, STORED = zipped(GOOD), zipped(GOOD, compression=zipfile.ZIP_STORED)
FLAGS = [(start, start[:-2] + b"\x01\x00") for start in (PLAIN[:8], PLAIN[PLAIN.find(b"PK\x01\x02") :][:10])]
HOSTILE = {
    "up": (zipped(GOOD, ("data/../../evil.txt", b"e")), "leads outside"),
    "absolute": (zipped(GOOD, ("/tmp/evil.txt", b"e")), "leads outside"),
    "drive": (zipped(GOOD, ("C:evil.txt", b"e")), "leads outside"),
    "backslash": (zipped(GOOD, ("data\\..\\..\\evil.txt", b"e")), "leads outside"),
    "link": (zipped(("data/link", b"/etc/passwd"), GOOD, link=True), "link or device"),
    "link not wanted": (zipped(("link", b"/etc"), GOOD, link=True), "link or device"),
    "bomb": (zipped(("data/a.txt", b"0" * 30_000_000)), "unpacks to 30,000,000 bytes"),
    "encrypted": (PLAIN.replace(*FLAGS[0]).replace(*FLAGS[1]), "holds an encrypted file"),
    "twice": (zipped(GOOD, ("data/b.txt", b"b")).replace(b"data/b.txt", b"data/a.txt"), "one name twice"),
    "none wanted": (zipped(("else.txt", b"a")), "holds none of the files"),
    "cut": (PLAIN[:-30], "no readable zip archive"),
    "damaged": (STORED.replace(b"length", b"lenght", 1), "no readable zip archive"),
}


def try_unpack(tmp_path, content: bytes, **options):
    archive = tmp_path / "data.zip"
    archive.write_bytes(content)
    name_of = lambda member: member.removeprefix("data/") if member.startswith("data/") else None  # noqa: E731
    return unpack(archive, tmp_path / "out" / "data", name_of, **options)


def test_only_wanted_members_are_written(tmp_path):
    content = zipped(("data/", b""), ("data/a.txt", b"a"), ("data/deep/er/b.txt", b"b" * 10), ("other.txt", b"o"))
    assert try_unpack(tmp_path, content) == ["a.txt", "deep/er/b.txt"]
    found = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*.txt")}
    assert found == {"out/data/a.txt": b"a", "out/data/deep/er/b.txt": b"b" * 10}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_are_refused(tmp_path, case):
    content, says = HOSTILE[case]
    assert says in refused(try_unpack, tmp_path, content)
    written = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "data.zip"]
    assert case == "damaged" or written == [], "a damaged file shows only when it is read"
    assert not (tmp_path.parent / "evil.txt").exists()


def test_the_whole_has_a_bound_too_and_no_two_members_one_name(tmp_path):
    content = zipped(*((f"data/{n}.txt", b"ab" * 300_000) for n in range(5)))
    assert "3,000,000 bytes, more than 2,500,000" in refused(lambda: try_unpack(tmp_path, content, max_bytes=2_500_000))
    assert len(try_unpack(tmp_path, content, max_bytes=3_000_000)) == 5
    (tmp_path / "two.zip").write_bytes(zipped(("one/a.txt", b"1"), ("two/a.txt", b"2")))
    names = lambda member: member.split("/")[1]  # noqa: E731
    assert "two files for one name" in refused(unpack, tmp_path / "two.zip", tmp_path / "three", names)


def test_a_member_that_is_larger_than_it_claims_is_never_written_whole(tmp_path):
    content = zipped(("data/a.txt", b"ab" * 300_000))
    at = content.find(b"PK\x01\x02") + 24
    refused(try_unpack, tmp_path, content[:at] + (100).to_bytes(4, "little") + content[at + 4 :])
    assert all(p.stat().st_size <= 100 for p in (tmp_path / "out").rglob("*") if p.is_file())
