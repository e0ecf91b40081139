"""Copies of finished evaluations at any URL that fsspec opens: `s3://BUCKET/FOLDER`, `gs://`, `ssh://HOST/FOLDER`, a folder.

    URL/ab/KEY/rows.parquet, cell.json      as in the store of this machine, cell.json last

One listing says what is there. Copies are checked in both directions: rows by the hash in cell.json, what they depend on by the
key, which is its hash. Report and provenance have no hash.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import fsspec
from tqdm.auto import tqdm

from kc_utils.errors import BadRequest, MissingData, listed
from kc_utils.study import store
from kc_utils.study.cells import Cell, key_of
from kc_utils.study.studyfile import load_study

BATCH = 100
"""Evaluations that are copied at a time: so many are in memory, and copied again where a copy stops half-way."""


def push(name: str, url: str) -> str:
    """Copy the evaluations of a study that this machine's store holds, and report. What is whole at the URL stays.

    Raises BadRequest for a URL that nothing opens, MissingData where it cannot be read or written.
    """
    study, remote = load_study(name, fetch=False), Remote(url)
    cells = {cell.key: cell for cell in study.cells}
    there, now = remote.sizes(cells), 0
    here = {k: tuple(map(len, parts)) for k, cell in cells.items() if not problem(cell, *(parts := store.contents(k)))}
    for batch in _batches([key for key in here if there.get(key) != here[key]], study.name, len(here)):
        found = remote.read([key for key in batch if key in there])  # made elsewhere, or cut
        going = [key for key in batch if key not in found or problem(cells[key], *found[key])]
        remote.write({key: store.contents(key) for key in going})
        now += len(going)
    done = f"copied {now} of {len(cells)} evaluations of {study.name}; there before: {len(here) - now}"
    return f"{done}; not in this store: {len(cells) - len(here)}"


def pull(name: str, url: str) -> str:
    """Copy into the store what neither it nor the results of record hold of a study, and report.

    Raises as `push`; MissingData, too, where nothing of the study is there, and once all others are stored, for copies that are
    damaged or under a wrong name.
    """
    study, remote = load_study(name, fetch=False), Remote(url)
    cells, refused = {cell.key: cell for cell in study.cells}, []
    lacking, there = [key for key in cells if not store.has(key)], remote.sizes(cells)
    if not there:
        raise MissingData(f"{remote.url} holds no evaluation of {study.name}: kc study push {study.name} URL copies them there")
    coming, before = [key for key in lacking if key in there], len(cells) - len(lacking)
    for batch in _batches(coming, study.name, before + len(coming)):
        for key, parts in remote.read(batch).items():
            if why := problem(cells[key], *parts):
                refused.append(f"{key} is {why}")
            else:
                store.keep(key, *parts)
    done = f"copied {len(coming) - len(refused)} of {len(cells)} evaluations of {study.name}; here before: {before}"
    done += f"; not there: {len(lacking) - len(coming)}"
    if refused:
        raise MissingData(f"{done}; refused: {len(refused)}, to be deleted at {remote.url} and pushed again: {listed(refused)}")
    return done


def problem(cell: Cell, marker: bytes, rows: bytes) -> str | None:
    """Return what is wrong with a copy of an evaluation, or None where it is whole and the one that it is named after."""
    found = store.checked(marker, rows)
    if found is None or not {"report", "made"} <= set(found):
        return "damaged"
    named = cell.key == found.get("key") == key_of(found.get("depends_on")) and found.get("model") == cell.model
    return None if named else "another evaluation"


class Remote:
    """A folder of evaluations at a URL. Each is a record and rows, as bytes."""

    def __init__(self, url: str):
        self.url = re.sub("//[^/]*@", "//", url)  # a password is not shown
        with self._reached():
            self.files, self.root = fsspec.url_to_fs(url)

    def sizes(self, keys: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Return the sizes of the files of those evaluations that are there with both, from one listing."""
        with self._reached():
            self.files.invalidate_cache()
            found = self.files.find(self.root, detail=True)
        return {key: tuple(found[p]["size"] for p in self._paths(key)) for key in keys if found.keys() >= set(self._paths(key))}

    def read(self, keys: list[str]) -> dict[str, tuple[bytes, ...]]:
        """Return evaluations unchecked."""
        with self._reached():
            found = self.files.cat([path for key in keys for path in self._paths(key)]) if keys else {}
        return {key: tuple(found[path] for path in self._paths(key)) for key in keys}

    def write(self, evaluations: dict[str, tuple[bytes, bytes]]) -> None:
        """Write all rows, and then the records, so that a record is only where its rows are."""
        with self._reached():
            if not self.files.async_impl:  # object stores have no folders
                for key in evaluations:
                    self.files.makedirs(self._paths(key)[0].rpartition("/")[0], exist_ok=True)
            for which in (1, 0):
                self.files.pipe({self._paths(key)[which]: parts[which] for key, parts in evaluations.items()})

    def _paths(self, key: str) -> tuple[str, str]:
        folder = f"{self.root.rstrip('/')}/{key[:2]}/{key}"
        return f"{folder}/{store.MARKER}", f"{folder}/{store.ROWS}"

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # every driver has errors of its own
            kind, what = (BadRequest, "open") if isinstance(error, (ImportError, ValueError)) else (MissingData, "read or write")
            raise kind(f"cannot {what} {self.url}: {' '.join(str(error).split())[:200] or type(error).__name__}") from error


def _batches(keys: list[str], name: str, total: int) -> Iterator[list[str]]:
    """Yield keys, BATCH at a time, with a progress bar that begins with what need not be copied."""
    with tqdm(total=total, initial=total - len(keys), desc=name, unit="evaluation", disable=not keys, file=sys.stderr) as bar:
        for start in range(0, len(keys), BATCH):
            yield keys[start : start + BATCH]
            bar.update(len(keys[start : start + BATCH]))
