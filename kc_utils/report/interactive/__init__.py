"""Pages that answer to their reader: controls, scripts and the data that they show, in one file each that needs no server."""

import json
from importlib import resources


def source(name: str) -> str:
    """The text of a file of this folder."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def page(name: str, value, *libraries: str) -> str:
    """The controls of a page, a value as JSON with the id `kc-NAME-data`, and the scripts behind what they share."""
    text = json.dumps(value).replace("</", "<\\/")  # which would end the script element, in whatever string it stands
    scripts = (*libraries, source("shared.js"), source(f"{name}.js"))
    shown = f'<script type="application/json" id="kc-{name}-data">{text}</script>\n'
    return source(f"{name}.html") + shown + "".join(f"<script>{script}</script>\n" for script in scripts)
