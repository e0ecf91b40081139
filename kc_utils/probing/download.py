"""One file over HTTP: resumed where it broke off, checked, and in its place only when it is whole.

What a server says is not believed: a range that it ignores starts the file again, a length that does not come true is
a broken-off transfer, and tries are counted. A `Content-Length` that is too short cannot be told from a shorter file:
a known hash shows it, or the structure of the file (a zip archive's directory stands at its end).
"""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from kc_utils.errors import MissingData
from kc_utils.places import complete_or_absent

WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}
CHUNK = 1 << 18


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(
    url: str,
    target: Path,
    sha256: str | None = None,
    max_bytes: int = 1 << 30,
    tries: int = 6,
    timeout: float = 30.0,
    pause: float = 1.0,
) -> Path:
    """Download `url` to `target`, whole or not at all.

    sha256     of the file, where it is known
    max_bytes  more than this is refused, promised or sent
    tries      transfers at most; each goes on where the last one broke off, if the server lets it
    timeout    seconds without a byte
    pause      seconds before the second try, doubled each time

    Raises MissingData in one line: no connection, a refusal (404), tries used up, too large, or another hash.
    """
    with complete_or_absent(target) as scratch:
        with scratch.open("wb") as stream, tqdm(unit="B", unit_scale=True, desc=target.name, disable=None) as bar:
            _Transfer(url, stream, bar, max_bytes, timeout).run(tries, pause)
        found = sha256_of(scratch)
        if sha256 is not None and found != sha256:
            raise MissingData(
                f"{url} has sha256 {found[:16]}..., expected {sha256[:16]}...: it broke on the way or is not the published file; "
                "try again"
            )
    return target


class _Transfer:
    """One file being received: how much is there, how much there should be, and which version of it."""

    def __init__(self, url, stream, bar, max_bytes, timeout):
        self.url, self.stream, self.bar = url, stream, bar
        self.max_bytes, self.timeout = max_bytes, timeout
        self.received, self.total, self.version = 0, None, None
        self.connected = False

    def run(self, tries: int, pause: float) -> None:
        reason = ""
        for attempt in range(tries):
            if attempt:
                time.sleep(pause * 2 ** (attempt - 1))
            try:
                self._receive()
                if self.total in (None, self.received):
                    return
                reason = f"{self.total:,} bytes were promised and {self.received:,} came"
            except urllib.error.HTTPError as error:
                error.close()
                reason = f"HTTP {error.code} {error.reason}"
                if error.code == 416 and self.received:  # nothing after what we have: what we have is not the file
                    self._restart()
                elif error.code not in WORTH_ANOTHER_TRY:
                    raise MissingData(f"{self.url}: {reason}") from error
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                cause = getattr(error, "reason", None) or error
                reason = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
                if not self.connected:
                    raise MissingData(f"{self.url}: no connection ({reason})") from error
        raise MissingData(f"{self.url}: gave up after {tries} tries, {reason}")

    def _restart(self) -> None:
        self.stream.seek(0)
        self.stream.truncate()
        self.received, self.total, self.version = 0, None, None
        self.bar.reset()

    def _receive(self) -> None:
        headers = {"User-Agent": "kc-utils", "Accept-Encoding": "identity"}
        if self.received:
            headers["Range"] = f"bytes={self.received}-"
            if self.version:
                headers["If-Range"] = self.version
        with urllib.request.urlopen(urllib.request.Request(self.url, headers=headers), timeout=self.timeout) as answer:
            self.connected = True
            if self.url.startswith("https:") and not answer.url.startswith("https:"):
                raise MissingData(f"{self.url} leads to {answer.url}, which is not encrypted")
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise MissingData(f"{self.url} comes as {answer.headers['Content-Encoding']}, which was not asked for")
            if self.received and not self._goes_on(answer):
                self._restart()
                if answer.status == 206:  # a part that we cannot use
                    return self._receive()
            if not self.received:
                length = answer.headers.get("Content-Length", "")
                self.total = int(length) if length.isdigit() else None
                etag = answer.headers.get("ETag", "")
                self.version = etag if etag.startswith('"') else answer.headers.get("Last-Modified")
                self.bar.total = self.total
            self._copy(answer)

    def _goes_on(self, answer) -> bool:
        """Whether this is the rest of the same file, from where we are."""
        said = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
        return (
            answer.status == 206
            and said is not None
            and int(said[1]) == self.received
            and (said[2] == "*" or self.total is None or int(said[2]) == self.total)
        )

    def _copy(self, answer) -> None:
        if self.total is not None and self.total > self.max_bytes:
            raise MissingData(f"{self.url}: {self.total:,} bytes, more than the {self.max_bytes:,} that it should have")
        while chunk := answer.read1(CHUNK):
            self.received += len(chunk)
            if self.received > self.max_bytes:
                raise MissingData(f"{self.url}: more than the {self.max_bytes:,} bytes that it should have")
            self.stream.write(chunk)
            self.bar.update(len(chunk))
