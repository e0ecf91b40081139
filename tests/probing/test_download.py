"""Downloads against a server that breaks off, ignores ranges, lies about lengths and says nothing."""

import hashlib
import random

import pytest

from kc_utils.errors import MissingData
from kc_utils.probing.download import fetch
from tests.probing.loopback import serving

CONTENT = random.Random(1).randbytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FAST = {"pause": 0.001, "timeout": 5.0}


@pytest.fixture(scope="module")
def address():
    with serving(file=CONTENT) as (address, _):
        yield address


@pytest.fixture
def own():
    """A server of the test's own: its address and what it was asked."""
    with serving(file=CONTENT) as server:
        yield server


def refused(call):
    with pytest.raises(MissingData) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("manner", "asked"),
    [
        ("well", [None]),
        ("no-length", [None]),
        ("breaks", [None, "bytes=400000-", "bytes=800000-"]),
        ("no-range", [None, "bytes=500000-"]),
        ("changes", [None, "bytes=400000-", "bytes=400000-"]),
        ("another-part", [None, "bytes=100-", None]),
        ("another-total", [None, "bytes=100-", None]),
        ("busy", [None, None, None]),
    ],
)
def test_every_byte_arrives(own, tmp_path, manner, asked):
    address, seen = own
    assert fetch(f"{address}/{manner}/file", tmp_path / "file", sha256=SHA256, **FAST).read_bytes() == CONTENT
    assert [r for m, r in seen if m == manner] == asked
    assert [p.name for p in tmp_path.iterdir()] == ["file"], "nothing else is left"


def test_a_server_that_falls_silent_is_given_up_and_asked_for_the_rest(own, tmp_path):
    address, seen = own
    fetch(f"{address}/silent/file", tmp_path / "file", sha256=SHA256, pause=0.001, timeout=0.5)
    assert [r for _, r in seen] == [None, "bytes=100-"]


@pytest.mark.parametrize(
    ("manner", "options", "says"),
    [
        ("missing", {}, "HTTP 404"),
        ("too-long", {}, "gave up after 4 tries"),
        ("always-breaks", {}, "1,000,000 bytes were promised and 40 came"),
        ("breaks-and-forgets", {}, "1,000,000 bytes were promised and 10 came"),
        ("too-short", {"sha256": SHA256}, "has sha256"),
        ("well", {"sha256": "0" * 64}, f"has sha256 {SHA256[:16]}..., expected 0000"),
        ("well", {"max_bytes": 999_999}, "1,000,000 bytes, more than the 999,999"),
        ("no-length", {"max_bytes": 999_999}, "more than the 999,999 bytes"),
        ("packed", {}, "comes as gzip"),
    ],
)
def test_what_is_not_the_whole_file_is_refused_and_leaves_nothing(own, tmp_path, manner, options, says):
    address, seen = own
    assert says in refused(lambda: fetch(f"{address}/{manner}/file", tmp_path / "file", tries=4, **FAST, **options))
    assert list(tmp_path.iterdir()) == []
    assert len(seen) <= 4


def test_what_was_there_before_stays_when_a_download_fails(address, tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"before")
    refused(lambda: fetch(f"{address}/well/file", target, sha256="0" * 64, **FAST))
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


def test_no_connection_is_one_line_at_once(tmp_path):
    assert "no connection" in refused(lambda: fetch("http://127.0.0.1:9/file", tmp_path / "file", tries=9, pause=60))
    assert "no connection" in refused(
        lambda: fetch("http://nowhere.invalid/file", tmp_path / "file", tries=9, pause=60)
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path, address):
    (tmp_path / "file").write_text("in the way")
    assert "cannot write" in refused(lambda: fetch(f"{address}/well/file", tmp_path / "file" / "below", **FAST))
