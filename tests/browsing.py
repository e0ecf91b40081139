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
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PHONE, DESK = (400, 800), (1400, 900)

CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3])).concat(1);
  const light = (c) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = c.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] >= 1) break;
    }
    return layers.reduceRight((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const faint = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || element.closest("svg, script, style, noscript")) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const box = element.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    const style = getComputedStyle(element), back = behind(element), ink = over(rgba(style.color), back);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) {
      const where = element.tagName.toLowerCase() + [...element.classList].map((c) => "." + c).join("");
      faint.set(where, `${where} (${ratio.toFixed(2)}): ${node.textContent.trim().slice(0, 40)}`);
    }
  }
  return [...faint.values()];
}"""
LINKS = """() => [...document.querySelectorAll("a[href]")].map((a) => a.href)
  .filter((h) => h.startsWith(location.origin)).map((h) => h.slice(location.origin.length + 1))"""
WITHOUT_WORDS = """() => [...document.images].filter((i) => !(i.getAttribute("alt") || "").trim())
  .map((i) => i.outerHTML.slice(0, 120))"""
WIDE = """() => document.documentElement.scrollWidth > window.innerWidth + 1 ? [...document.querySelectorAll("body *")]
  .filter((e) => e.getBoundingClientRect().right > window.innerWidth + 1).slice(-3).map((e) => e.outerHTML.slice(0, 160)) : []"""


@dataclass
class Visit:
    """A page that is open. errors: what its scripts complained of, and what it asked of other hosts."""

    page: object
    errors: list[str] = field(default_factory=list)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


class Browser:
    """site: the folder of the built book, served at `address`."""

    def __init__(self, browser, site: Path, address: str):
        self._browser, self.site, self.address = browser, site, address

    @contextmanager
    def visit(self, name: str, size=DESK, dark: bool = False, from_file: bool = False) -> Iterator[Visit]:
        """Open a page of the site by its path, over the server or as a file."""
        width, height = size
        theme = "dark" if dark else "light"
        context = self._browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        context.add_init_script(f"try {{ localStorage.setItem('mode', '{theme}'); }} catch (e) {{}}")
        page = context.new_page()
        found = Visit(page)
        page.route("**/*", lambda route: self._only_here(found, route))
        page.on("pageerror", lambda error: found.errors.append(str(error)))
        page.on("console", lambda message: self._heard(found, message))
        page.goto((self.site / name).as_uri() if from_file else f"{self.address}/{name}", wait_until="load")
        try:
            yield found
        finally:
            context.close()

    def _heard(self, visit: Visit, message) -> None:
        if message.type == "error":
            visit.errors.append(message.text)

    def _only_here(self, visit: Visit, route) -> None:
        if route.request.url.startswith((self.address, "file:", "data:", "blob:")):
            route.continue_()
        else:
            visit.errors.append(f"asks another host: {route.request.url}")
            route.abort()


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
