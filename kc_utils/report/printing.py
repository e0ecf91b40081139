"""The book as one PDF: all of it on one page (Sphinx's `singlehtml`), printed by Chromium with the book's print stylesheet."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from kc_utils.errors import BadResult, MissingData
from kc_utils.places import complete_or_absent
from kc_utils.report.build import build_html

NAME = "the-cost-of-compression.pdf"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCRIPTS_MS = 60_000  # of the page's own clock, which runs ahead while it waits: time for charts to be drawn
LIMIT_S = 600


def chromium() -> str | None:
    """The browser that KC_CHROMIUM names, or that is installed."""
    named = os.environ.get("KC_CHROMIUM")
    return named or next(filter(None, map(shutil.which, BROWSERS)), None)


def book_pdf(root: Path, output: Path | None = None) -> Path:
    """Build and print the book whose pages are written. Raises MissingData without a browser, BadResult where one fails."""
    if chromium() is None:
        raise MissingData(f"a PDF takes Chromium: install one of {', '.join(BROWSERS)}, or name one with KC_CHROMIUM")
    index = build_html(root, output, "singlehtml")
    forward = re.search(r'url=([^"]+)"', index.read_text(encoding="utf-8"))  # the start page leads on to the book
    return print_page(index.parent / forward[1] if forward else index, index.parents[1] / NAME)


def print_page(page: Path, target: Path) -> Path:
    """Print a page of HTML to a PDF file with an outline. Raises BadResult where nothing comes out."""
    with complete_or_absent(target) as scratch, tempfile.TemporaryDirectory() as profile:
        command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        command += ["--no-pdf-header-footer", "--generate-pdf-document-outline", f"--virtual-time-budget={SCRIPTS_MS}"]
        command += [f"--print-to-pdf={scratch}", page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        if done.returncode != 0 or not scratch.is_file():
            raise BadResult(f"{page.name} could not be printed: {(done.stderr.strip() or 'no reason given')[-300:]}")
    return target
