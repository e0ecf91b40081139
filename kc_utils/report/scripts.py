"""Which scripts a page of the book loads: an extension of Sphinx, named in `_config.yml`.

Jupyter Book puts thebe, which runs cells in the page, into every page, twice at that, and from another host. No cell of this
book can be run in its page, so thebe's scripts are left out: pages make no complaint and ask no other host.
"""

from __future__ import annotations


def without_thebe(app, pagename, templatename, context, doctree) -> None:
    """Sphinx's event `html-page-context`."""
    context["script_files"] = [script for script in context.get("script_files", ()) if not _is_thebe(script)]


def _is_thebe(script) -> bool:
    told = f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', {}).get('body', '')}".lower()
    return "thebe" in told


def setup(app) -> dict:
    app.connect("html-page-context", without_thebe, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
