"""Pages that answer to their reader: scripts and the data that they show, in one file each that needs no server."""

from __future__ import annotations

import json
from importlib import resources


def data(name: str, value) -> str:
    """A script element that holds a value as JSON, to be read by its id."""
    text = json.dumps(value).replace("</", "<\\/")  # which would end the script element, in whatever string it stands
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def scripts(*names: str) -> str:
    """The scripts of this folder, one after the other, behind what they share."""
    folder = resources.files(__package__)
    sources = (folder.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in ("shared", *names))
    return "".join(f"<script>{source}</script>\n" for source in sources)
