"""Files out of a zip archive that a stranger made: every member is looked at before the first is written."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from kc_utils.errors import MissingData

CHUNK = 1 << 20
SMALL = 1 << 20
"""Bytes below which no ratio of compression is suspicious."""


def unpack(
    archive: Path,
    target: Path,
    name_of: Callable[[str], str | None],
    max_bytes: int = 4 << 30,
    max_ratio: float = 100.0,
) -> list[str]:
    """Write the wanted members of a zip archive into the new folder `target` and return their names there.

    name_of    gives a member's name below `target`, or None for one that is not wanted
    max_bytes  of all members together, unpacked
    max_ratio  of unpacked to packed size in one member

    Raises MissingData for an archive that cannot be read or holds, wanted or not, an absolute path, a `..`, a link, an
    encrypted member, one name twice, or more than the two bounds.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _check(archive.name, members, max_bytes, max_ratio)
            wanted = {m: name for m in members if not m.is_dir() and (name := name_of(m.filename))}
            if not wanted:
                raise MissingData(f"{archive.name} holds none of the files that are looked for: its layout has changed")
            for name in wanted.values():
                _check_name(archive.name, name)
            if len(set(wanted.values())) != len(wanted):
                raise MissingData(f"{archive.name} holds two files for one name: it is not unpacked")
            for member, name in wanted.items():
                _write(opened, member, target / name)
            return sorted(wanted.values())
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise MissingData(f"{archive.name} is no readable zip archive ({error}): it may be cut short") from error


def _check(archive: str, members: list[zipfile.ZipInfo], max_bytes: int, max_ratio: float) -> None:
    for member in members:
        _check_name(archive, member.orig_filename)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise MissingData(f"{archive} holds a link or device, {member.filename!r}: it is not unpacked")
        if member.flag_bits & 0x1:
            raise MissingData(f"{archive} holds an encrypted file, {member.filename!r}: it is not unpacked")
        if member.file_size > SMALL and member.file_size > max_ratio * member.compress_size:
            raise MissingData(
                f"{archive}: {member.filename!r} unpacks to {member.file_size:,} bytes: it is not unpacked"
            )
    if len({m.filename for m in members}) != len(members):
        raise MissingData(f"{archive} holds one name twice: it is not unpacked")
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        raise MissingData(f"{archive} unpacks to {total:,} bytes, more than {max_bytes:,}: it is not unpacked")


def _check_name(archive: str, name: str) -> None:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or any(c in name for c in "\\:\0"):
        raise MissingData(f"{archive} holds a path that leads outside, {name!r}: it is not unpacked")


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with opened.open(member) as source, path.open("xb") as stream:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > member.file_size:
                raise MissingData(f"{member.filename!r} is longer than its archive says: it is not unpacked")
            stream.write(chunk)
