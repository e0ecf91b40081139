"""A built book in headless Chromium: pages visited over a loopback server, and what is wrong with them.

Nothing outside of this machine is asked: requests to other hosts are cut off, and that they fail is no error of the page.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from kc_utils.report.printing import chromium

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
PHONE, DESK = (400, 800), (1400, 900)

LOOKS = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


@dataclass
class Visit:
    """A page that is open. errors: what its scripts complained of, and what it asked of other hosts."""

    page: object
    errors: list[str] = field(default_factory=list)

    def look(self, name: str, *given):
        """What one of the functions of `browsing.js` finds on the page."""
        return self.page.evaluate(f"(given) => ({LOOKS.strip()}).{name}(...given)", given)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


class Browser:
    """site: the folder of the built book, served at `address`."""

    def __init__(self, browser, site: Path, address: str):
        self._context = functools.cache(lambda dark: self._open(browser, "dark" if dark else "light"))
        self.site, self.address = site, address

    @staticmethod
    def _open(browser, theme: str):
        """A window that all visits in one theme share, and with it what the browser keeps of styles and scripts."""
        context = browser.new_context(color_scheme=theme)
        context.add_init_script(f"try {{ localStorage.setItem('mode', '{theme}'); }} catch (e) {{}}")
        return context

    @contextmanager
    def visit(self, name: str, size=DESK, dark: bool = False, from_file: bool = False) -> Iterator[Visit]:
        """Open a page of the site by its path, over the server or as a file."""
        page = self._context(dark).new_page()
        page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
        found = Visit(page)
        page.on("request", lambda request: self._requested(found, request))
        page.on("pageerror", lambda error: found.errors.append(str(error)))
        page.on("console", lambda message: self._heard(found, message))
        page.goto((self.site / name).as_uri() if from_file else f"{self.address}/{name}", wait_until="load")
        try:
            yield found
        finally:
            page.close()

    def _heard(self, visit: Visit, message) -> None:
        if message.type == "error":
            visit.errors.append(message.text)

    def _requested(self, visit: Visit, request) -> None:
        if not request.url.startswith((self.address, "file:", "data:", "blob:")):
            visit.errors.append(f"asks another host: {request.url}")


@contextmanager
def browsing(site: Path) -> Iterator[Browser]:
    """Chromium, and a server of the site on loopback."""
    from playwright.sync_api import sync_playwright

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
            yield Browser(browser, site, f"http://127.0.0.1:{server.server_port}")
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
