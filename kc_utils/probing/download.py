"""Benchmarks from their official homes: fetched with pooch, checked, unpacked.

pooch downloads and compares the hash of a file. What it lacks is here: a bound on the size, no way from https to http, and a
look at every member of an archive before the first one is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pooch
import requests
import yaml

from kc_utils.errors import MissingData
from kc_utils.places import complete_or_absent, sha256_of

HUB = "https://huggingface.co"
SOURCE_FILE = "SOURCE.json"
CHUNK = 1 << 18
SMALL, MAX_RATIO = 1 << 20, 100
"""Bytes below which no ratio of compression is suspicious; the largest ratio above."""
TIMEOUT, TRIES = 30.0, 3
"""Seconds without a byte; downloads at most."""


@dataclass(frozen=True)
class Home:
    """Where one benchmark is published; a row of homes.yaml, which explains the fields."""

    url: str
    licence: str
    by_hand: str
    members: tuple[tuple[str, str], ...] = ()
    sha256: str | None = None
    fileset_sha256: str | None = None
    max_bytes: int = 1 << 28
    max_unpacked: int = 4 << 30

    @property
    def address(self) -> str:
        """The url, or its like on the mirror of the Hugging Face hub that `$HF_ENDPOINT` names."""
        mirror = os.environ.get("HF_ENDPOINT")
        return self.url.replace(HUB, mirror.rstrip("/"), 1) if mirror and self.url.startswith(HUB) else self.url

    def name_of(self, member: str) -> str | None:
        """The name below the benchmark's folder of a member of the archive; None for one that is not kept."""
        found = ((re.fullmatch(pattern, member), name) for pattern, name in self.members)
        return next((match.expand(name) for match, name in found if match), None)


_TABLE = yaml.safe_load(Path(__file__).with_name("homes.yaml").read_text(encoding="utf-8"))
HOMES = {name: Home(**row) for name, row in _TABLE["homes"].items()}
ELSEWHERE: dict[str, str] = _TABLE["elsewhere"]
"""What to do for files that have no address of their own, by folder."""


def install(home: Home, folder: Path) -> None:
    """Fetch a benchmark into a new folder, whole or not at all, with a `SOURCE.json` that states address and hashes.

    Raises MissingData in one line.
    """
    with tempfile.TemporaryDirectory(prefix=".fetched-", dir=folder.parent) as scratch:
        fetched = fetch(home.address, Path(scratch), home.sha256, home.max_bytes)
        with complete_or_absent(folder) as target:
            target.mkdir()
            mark = {"url": home.address, "bytes": fetched.stat().st_size, "sha256": sha256_of(fetched)}
            if home.members:
                names = unpack(fetched, target, home.name_of, max_bytes=home.max_unpacked)
            else:
                names = [fetched.name]
                fetched.replace(target / fetched.name)
            found = fileset_sha256(target, names)
            if home.fileset_sha256 not in (None, found):
                raise MissingData(f"{home.address} holds other files (hash {found[:16]}...) than the published ones")
            known = home.sha256 or home.fileset_sha256
            mark |= {"files_sha256": found, "hash": "verified" if known else "unverified"}
            (target / SOURCE_FILE).write_text(json.dumps(mark, indent=1), encoding="utf-8")


def fileset_sha256(folder: Path, names: Iterable[str]) -> str:
    """Hash of some files of a folder: their names and contents, in the order of their names."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in sorted(names)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def fetch(url: str, folder: Path, sha256: str | None = None, max_bytes: int = 1 << 30) -> Path:
    """Download a file into a folder, under the last part of its address.

    sha256     of the file, where it is known
    max_bytes  a longer file is refused

    Raises MissingData in one line: no connection, a refusal (404), a transfer that broke off, too large, or another hash.
    """
    name = url.rsplit("/", 1)[-1]

    def download(url: str, output_file: str, pup: pooch.Pooch) -> None:
        get = pooch.HTTPDownloader(
            progressbar=sys.stderr.isatty(), chunk_size=CHUNK, timeout=TIMEOUT, hooks={"response": _stay_encrypted}
        )
        with open(output_file, "wb") as stream:
            get(url, _Bounded(stream, url, max_bytes), pup)

    pooch.get_logger().setLevel("WARNING")
    registry = {name: sha256 and f"sha256:{sha256}"}
    pup = pooch.create(folder, base_url="", registry=registry, urls={name: url}, retry_if_failed=TRIES - 1)
    try:
        return Path(pup.fetch(name, downloader=download))
    except requests.HTTPError as error:
        raise MissingData(f"{url}: HTTP {error.response.status_code} {error.response.reason}") from error
    except requests.RequestException as error:
        reason = " ".join(str(error).split())[:200]
        raise MissingData(f"{url}: gave up after {TRIES} tries, {type(error).__name__}: {reason}") from error
    except ValueError as error:  # pooch's complaint about a hash
        raise MissingData(
            f"{url} has another sha256 than the expected {(sha256 or '')[:16]}...: it broke on the way or is not the published "
            "file; try again"
        ) from error


class _Bounded:
    """A file that refuses more bytes than it should have."""

    def __init__(self, stream, url: str, max_bytes: int):
        self.stream, self.url, self.max_bytes, self.flush = stream, url, max_bytes, stream.flush

    def write(self, chunk: bytes) -> None:
        if self.stream.tell() + len(chunk) > self.max_bytes:
            raise MissingData(f"{self.url}: more than the {self.max_bytes:,} bytes that it should have")
        self.stream.write(chunk)


def _stay_encrypted(response: requests.Response, **_) -> None:
    if response.url.startswith("https:") and response.headers.get("location", "").startswith("http:"):
        raise MissingData(f"{response.url} leads to {response.headers['location']}, which is not encrypted")


def unpack(archive: Path, target: Path, name_of: Callable[[str], str | None], max_bytes: int = 4 << 30) -> list[str]:
    """Write the wanted members of a zip archive into the new folder `target` and return their names there.

    name_of gives a member's name below `target`, or None for one that is not wanted. Raises MissingData for an archive that
    cannot be read or holds, wanted or not, an absolute path, a `..`, a link, an encrypted member, one name twice, more than
    `max_bytes` unpacked, or a member that unpacks to more than `MAX_RATIO` times its packed size.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _check(archive.name, members, max_bytes)
            wanted = {m: name for m in members if not m.is_dir() and (name := name_of(m.filename))}
            if not wanted:
                raise MissingData(f"{archive.name} holds none of the files that are looked for: its layout has changed")
            for name in wanted.values():
                _check_name(archive.name, name)
            if len(set(wanted.values())) != len(wanted):
                raise MissingData(f"{archive.name} holds two files for one name: it is not unpacked")
            for member, name in wanted.items():
                path = target / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, path.open("xb") as stream:  # reads no more than file_size
                    shutil.copyfileobj(source, stream)
            return sorted(wanted.values())
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise MissingData(f"{archive.name} is no readable zip archive ({error}): it may be cut short") from error


def _check(archive: str, members: list[zipfile.ZipInfo], max_bytes: int) -> None:
    """Refuse an archive for what it holds."""
    total, refusals = sum(member.file_size for member in members), []
    for member in members:
        _check_name(archive, member.orig_filename)
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            refusals.append(f"holds a link or device, {member.filename!r}")
        if member.flag_bits & 0x1:
            refusals.append(f"holds an encrypted file, {member.filename!r}")
        if member.file_size > SMALL and member.file_size > MAX_RATIO * member.compress_size:
            refusals.append(f"holds {member.filename!r}, which unpacks to {member.file_size:,} bytes")
    if len({m.filename for m in members}) != len(members):
        refusals.append("holds one name twice")
    if total > max_bytes:
        refusals.append(f"unpacks to {total:,} bytes, more than {max_bytes:,}")
    if refusals:
        raise MissingData(f"{archive} {refusals[0]}: it is not unpacked")


def _check_name(archive: str, name: str) -> None:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or any(c in name for c in "\\:\0"):
        raise MissingData(f"{archive} holds a path that leads outside, {name!r}: it is not unpacked")
