"""Files that are made again only where something changed that they depend on, by content and not by time.

`targets.json` in their folder keeps, for each target, one hash of what it depended on and one of every file that it made. A file
that is gone or was altered is made again; one whose content stays the same is not touched.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kc_utils.places import PACKAGE, finished_dir, reference_dir, sha256_of, write_text
from kc_utils.study.code import PACKAGES

LIST = "targets.json"
_UNREAD = (".pyc", ".safetensors")  # weights of lab models are hashed in their cards


class Target(NamedTuple):
    """name; depends_on: values whose JSON changes when the files would; make: returns them, content by file name.

    It depends on all code and every installed package, too (`made_with`).
    """

    name: str
    depends_on: Any
    make: Callable[[], Mapping[str, str | bytes]]

    @property
    def digest(self) -> str:
        return digest_of([made_with(), self.depends_on])


def outdated(folder: Path, targets: Iterable[Target]) -> list[Target]:
    """Return the targets whose files are not there as they were made, or would be made otherwise now."""
    known = _listed(folder)
    return [t for t in targets if t.name not in known or known[t.name] != [t.digest, _hashes(folder, known[t.name][1])]]


def make(folder: Path, targets: Iterable[Target]) -> list[str]:
    """Make what is out of date and remove what is no target's file. Returns the names of the targets that were made."""
    targets = list(targets)
    waiting, known = outdated(folder, targets), _listed(folder)
    try:
        for target in waiting:
            files = {name: text if isinstance(text, bytes) else text.encode() for name, text in target.make().items()}
            for name, content in files.items():
                _put(folder / name, content)
            known[target.name] = [target.digest, _hashes(folder, files)]
        known = {target.name: known[target.name] for target in targets}
    finally:
        if known != _listed(folder):
            write_text(folder / LIST, json.dumps(known, indent=1))
    _keep_only(folder, {folder / LIST, *(folder / name for _, files in known.values() for name in files)})
    return [target.name for target in waiting]


@cache
def made_with() -> str:
    """Hash what makes every page: Python, installed packages by version, all code of the study and its data, as they are now."""
    installed = {file.name for place in sys.path for file in Path(place).glob("*.dist-info")}
    folders = [PACKAGE.parent / name for name in (*PACKAGES, "data")]
    return digest_of([sys.version, sorted(installed), [hash_of(folder, _UNREAD) for folder in folders]])


def rows_at_hand() -> str:
    """Hash all files of finished studies and of the record."""
    return digest_of([folder and hash_of(folder) for folder in (finished_dir(), reference_dir())])


def hash_of(folder: Path, but: tuple[str, ...] = ()) -> str:
    """Hash the files below a folder, by name and content, but for hidden ones. but: endings of names that are passed over."""
    found = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return digest_of({name: sha256_of(file) for name, file in found.items() if "/." not in f"/{name}" and not name.endswith(but)})


def digest_of(value: Any) -> str:
    """Hash a value by its JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _listed(folder: Path) -> dict[str, list]:
    """What was made before, by target: its digest, and hashes of its files; nothing where the list is absent or damaged."""
    try:
        found = json.loads((folder / LIST).read_text(encoding="utf-8"))
        return {name: [digest, dict(files)] for name, (digest, files) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _hashes(folder: Path, names: Iterable[str]) -> dict[str, str | None]:
    return {name: sha256_of(folder / name) if (folder / name).is_file() else None for name in names}


def _put(file: Path, content: bytes) -> None:
    if not file.is_file() or file.read_bytes() != content:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _keep_only(folder: Path, files: set[Path]) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):  # a folder after what it holds
        if path.is_file() and path not in files:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
