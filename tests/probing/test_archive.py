"""Archives: the wanted files and no others; hostile ones are refused before anything is written."""

import io
import stat
import zipfile

import pytest

from kc_utils.errors import MissingData
from kc_utils.probing.archive import unpack


def zipped(members: dict[str, bytes], compression=zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            archive.writestr(info, content)
    return stream.getvalue()


def link(name: str, to: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, to)
        archive.writestr("data/a.txt", "a")
    return stream.getvalue()


def name_of(member: str) -> str | None:
    return member.removeprefix("data/") if member.startswith("data/") else None


def try_unpack(tmp_path, content: bytes, **options):
    archive = tmp_path / "data.zip"
    archive.write_bytes(content)
    return unpack(archive, tmp_path / "out" / "data", name_of, **options)


def test_only_what_is_wanted_is_written(tmp_path):
    content = zipped({"data/": b"", "data/a.txt": b"a", "data/deep/er/b.txt": b"b" * 10, "other.txt": b"o"})
    assert try_unpack(tmp_path, content) == ["a.txt", "deep/er/b.txt"]
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert files == ["data.zip", "out/data/a.txt", "out/data/deep/er/b.txt"]
    assert (tmp_path / "out/data/deep/er/b.txt").read_bytes() == b"b" * 10


def encrypted() -> bytes:
    content = bytearray(zipped({"data/a.txt": b"a"}))
    for at in (content.find(b"PK\x01\x02") + 8, content.find(b"PK\x03\x04") + 6):
        content[at] |= 1
    return bytes(content)


def twice() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate"):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("data/a.txt", "a")
            archive.writestr("data/a.txt", "b")
    return stream.getvalue()


def damaged() -> bytes:
    content = bytearray(zipped({"data/a.txt": b"some text of some length" * 50}, zipfile.ZIP_STORED))
    content[100] ^= 1
    return bytes(content)


HOSTILE = {
    "up": (lambda: zipped({"data/a.txt": b"a", "../evil.txt": b"e"}), "leads outside"),
    "up inside": (lambda: zipped({"data/a.txt": b"a", "data/../../evil.txt": b"e"}), "leads outside"),
    "absolute": (lambda: zipped({"data/a.txt": b"a", "/tmp/evil.txt": b"e"}), "leads outside"),
    "drive": (lambda: zipped({"data/a.txt": b"a", "C:evil.txt": b"e"}), "leads outside"),
    "backslash": (lambda: zipped({"data/a.txt": b"a", "data\\..\\..\\evil.txt": b"e"}), "leads outside"),
    "link": (lambda: link("data/link", "/etc/passwd"), "link or device"),
    "link not wanted": (lambda: link("link", "/etc"), "link or device"),
    "bomb": (lambda: zipped({"data/a.txt": b"0" * 30_000_000}), "unpacks to 30,000,000 bytes"),
    "encrypted": (encrypted, "encrypted"),
    "twice": (twice, "one name twice"),
    "none wanted": (lambda: zipped({"else.txt": b"a"}), "holds none of the files"),
    "cut": (lambda: zipped({"data/a.txt": b"a" * 9999})[:-30], "no readable zip archive"),
    "a page": (lambda: b"<html>Sign in to this network</html>", "no readable zip archive"),
    "damaged": (damaged, "no readable zip archive"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_are_refused(tmp_path, case):
    make, says = HOSTILE[case]
    with pytest.raises(MissingData, match=says) as error:
        try_unpack(tmp_path, make())
    assert "\n" not in str(error.value)
    written = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "data.zip"]
    assert case == "damaged" or written == [], "a damaged file shows only when it is read"
    assert not (tmp_path.parent / "evil.txt").exists()


def test_the_whole_has_a_bound_too(tmp_path):
    content = zipped({f"data/{n}.txt": b"ab" * 300_000 for n in range(5)})
    with pytest.raises(MissingData, match="3,000,000 bytes, more than 2,500,000"):
        try_unpack(tmp_path, content, max_bytes=2_500_000)
    assert len(try_unpack(tmp_path, content, max_bytes=3_000_000)) == 5


def test_a_member_that_is_larger_than_it_says_is_never_written_whole(tmp_path):
    content = bytearray(zipped({"data/a.txt": b"ab" * 300_000}))
    at = content.find(b"PK\x01\x02") + 24
    content[at : at + 4] = (100).to_bytes(4, "little")
    with pytest.raises(MissingData):
        try_unpack(tmp_path, bytes(content))
    assert all(p.stat().st_size <= 100 for p in (tmp_path / "out").rglob("*") if p.is_file())


def test_two_members_for_one_name_are_refused(tmp_path):
    archive = tmp_path / "data.zip"
    archive.write_bytes(zipped({"one/a.txt": b"1", "two/a.txt": b"2"}))
    with pytest.raises(MissingData, match="two files for one name"):
        unpack(archive, tmp_path / "out", lambda member: member.split("/")[1])
