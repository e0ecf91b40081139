"""Formulas as pictures inside the page, which need no script and no font: an extension of Sphinx, named in `_config.yml`.

MathJax, the default, comes from another host; without it a reader who is offline, and the printed book, would see TeX.
Drawn by ziamath when a page is written, in the colour of the text around.
"""

from __future__ import annotations

import html
import xml.etree.ElementTree as ET

import ziafont
import ziamath
from docutils import nodes
from sphinx.util import logging
from ziamath.tex import tex2mml

logger = logging.getLogger(__name__)
ziafont.config.svg2 = False  # no symbols with ids, which formulas of one page would share

SIZE = 20.0  # of a letter, in the picture's own units; the page shows it as EM
EM = 1.1  # of the letters around, whose small letters are larger than those of the formulas' face
PARTS = {"mfrac": 2, "msub": 2, "msup": 2, "msubsup": 3, "munder": 2, "mover": 2, "munderover": 3, "mroot": 2}
"""How many parts these elements of MathML have: what reads the TeX leaves one out where TeX lacks it."""


def drawn(tex: str, inline: bool = True) -> str:
    """A formula as an `<svg>` element that says its TeX to those who cannot see it.

    Raises ValueError for TeX that is not understood.
    """
    try:
        told = ET.fromstring(tex2mml(tex, inline=inline))
        _check(told)
        told.set("mathcolor", "currentColor")
        formula = ziamath.Math(told, size=SIZE, margin=0)
        picture = formula.svgxml()
    except ValueError:
        raise
    except Exception as error:  # there is an error for everything, and no base of them
        raise ValueError(f"{type(error).__name__} {error}".strip()) from error
    width, height, below = (
        EM * float(x) / SIZE for x in (picture.get("width"), picture.get("height"), formula.getyofst())
    )
    style = f"width:{width:.3f}em;height:{height:.3f}em;vertical-align:{below:.3f}em"
    for name in ("width", "height"):
        del picture.attrib[name]
    picture.attrib |= {"role": "img", "aria-label": tex, "style": style}
    return ET.tostring(picture, encoding="unicode")


def _check(tree: ET.Element) -> None:
    for element in tree.iter():
        if "\\" in (element.text or ""):
            raise ValueError(f"unknown command {element.text}")
        name = element.tag.rpartition("}")[2]
        if len(element) != PARTS.get(name, len(element)):
            raise ValueError(f"{name} needs {PARTS[name]} parts and has {len(element)}")


def _write(self, node: nodes.Element, tag: str) -> None:
    tex = node.astext().strip()
    try:
        told = drawn(tex, inline=tag == "span")
    except ValueError as error:
        logger.warning("formula %r cannot be drawn: %s", tex, error, location=node)
        told = f"<code>{html.escape(tex)}</code>"
    self.body.append(f"{self.starttag(node, tag, '', CLASS='math notranslate nohighlight')}{told}</{tag}>")
    raise nodes.SkipNode


def visit_inline(self, node: nodes.math) -> None:
    _write(self, node, "span")


def visit_block(self, node: nodes.math_block) -> None:
    if node.get("number"):
        logger.warning("formulas are not numbered here: leave out the label of %r", node["label"], location=node)
    _write(self, node, "div")


def setup(app) -> dict:
    app.add_html_math_renderer("drawn", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
