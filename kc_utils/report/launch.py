"""Notebooks that leave the book: buttons that open a page on Colab or Binder, notebooks to download, and their first cell.

An extension of Sphinx, named in `_config.yml`. Only whoever publishes the study knows where. The address of the
repository is that of the environment variable KC_REPOSITORY, else `repository: url` of `_config.yml`; without one
there are no buttons. Executed notebooks are not tracked, and Colab and Binder open files of a repository: they are
expected on the branch `BRANCH`, a copy of the published state with the notebooks added where the book has them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode

BRANCH = "published-notebooks"
CLONE = "cost-of-compression"
CHAPTERS = "techniques/"
"""Pages of text that the build executes. Those of results are notebooks before it."""

INSTALL = """\
# Installs the study where it is missing, as on Colab: a few minutes, once. Does nothing where it is installed.
def _install(address, extras, built):
    import os, subprocess, sys
    from importlib import invalidate_caches
    from importlib.util import find_spec

    clone = {clone!r}
    if not find_spec("kc_utils"):
        if not address:
            raise RuntimeError("kc_utils is missing: run this notebook in the environment of a checkout (`make install`)")
        if not os.path.isdir(clone):
            subprocess.run(["git", "clone", "--quiet", "--depth", "1", address, clone], check=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "-c", f"{{clone}}/constraints.txt"]
        if sys.version_info[:2] != (3, 11):
            print("The study is pinned to Python 3.11; with another one numbers may differ slightly.")
            pip.append("--ignore-requires-python")
        loaded = [name for name in ("numpy", "pandas", "matplotlib", "torch") if name in sys.modules]
        subprocess.run([*pip, f"./{{clone}}[{{extras}}]"], check=True)
        if built:  # these are compiled against the torch that is there
            subprocess.run([*pip, "setuptools", "wheel"], check=True)
            subprocess.run([*pip, "--no-build-isolation", *built], check=True)
        invalidate_caches()
        if loaded:
            raise RuntimeError(f"installed, but {{loaded[0]}} was in use: restart the session and run all cells again")
    if os.path.isdir(clone):
        os.chdir(clone)


_install({address!r}, {extras!r}, {built!r})
"""


def repository(root: Path) -> str:
    """The address of the repository that publishes the book in this folder, without what may follow it; "" for none."""
    address = os.environ.get("KC_REPOSITORY")
    config = root / "_config.yml"
    if address is None and config.is_file():
        written = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
        address = (written.get("repository") or {}).get("url")
    return (address or "").strip().rstrip("/").removesuffix(".git")


def install_cell(address: str, recipes: list[str] = (), tasks: bool = False) -> NotebookNode:
    """The first cell of a notebook that leaves the book. It is not shown on the page.

    address: of the repository, "" where none is known; recipes, tasks: what the notebook asks for, which says what it needs.
    """
    extras = "quantization,harness" if tasks else "quantization"
    built = ["gptqmodel"] if any("gptq" in recipe for recipe in recipes) else []
    source = INSTALL.format(clone=CLONE, address=address, extras=extras, built=built).rstrip()
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["remove-cell"]})
    cell.id = "install"
    return cell


def buttons(address: str, page: str) -> list[dict]:
    """Links of the theme's kind that open a page elsewhere; page: its name, such as `results/smollm2-135m-gptq`.

    Binder knows any public repository of GitHub and GitLab, Colab those of GitHub.
    """
    host = re.fullmatch(r"https://(github|gitlab)\.com/([\w.-]+)/([\w.-]+)", address)
    if not host:
        return []
    provider, owner, name = host.groups()
    file = f"book/{page}.ipynb"
    where = {"github": f"gh/{owner}/{name}", "gitlab": f"gl/{owner}%2F{name}"}[provider]
    links = {"Binder": ("svg", f"https://mybinder.org/v2/{where}/{BRANCH}?urlpath=lab/tree/{file}")}
    if provider == "github":
        links["Colab"] = ("png", f"https://colab.research.google.com/github/{owner}/{name}/blob/{BRANCH}/{file}")
    return [
        {
            "type": "link",
            "text": service,
            "tooltip": f"Open this notebook on {service}",
            "icon": f"_static/images/logo_{service.lower()}.{ending}",
            "url": url,
        }
        for service, (ending, url) in links.items()
    ]


def offer_download(app, pagename, templatename, context, doctree) -> None:
    """A chapter as the notebook that the build executed, beside its text: for the theme's menu of downloads."""
    executed = Path(app.outdir).parent / "jupyter_execute" / f"{pagename}.ipynb"
    if not pagename.startswith(CHAPTERS) or not executed.is_file():
        return
    book = nbformat.read(executed, as_version=4)
    book.cells.insert(0, install_cell(app.config.kc_repository))
    target = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, target)
    context["ipynb_source"] = f"{pagename}.ipynb"


def offer_launch(app, pagename, templatename, context, doctree) -> None:
    """The menu that opens this page elsewhere, where it is a notebook and the repository has an address."""
    notebook = context.get("page_source_suffix") == ".ipynb" or "ipynb_source" in context
    links = buttons(app.config.kc_repository, pagename) if notebook else []
    if links:
        group = {"type": "group", "tooltip": "Open this notebook elsewhere", "icon": "fas fa-rocket", "buttons": links}
        context["header_buttons"].append(group | {"label": "launch-buttons"})


def know_repository(app, config) -> None:
    """As a value of the build's configuration, so that pages are written again when it changes."""
    config.kc_repository = repository(Path(app.srcdir).parent)


def setup(app) -> dict:
    app.add_config_value("kc_repository", "", "html", [str])
    app.connect("config-inited", know_repository)
    app.connect("html-page-context", offer_download, priority=400)  # before the theme makes its menus, at 501
    app.connect("html-page-context", offer_launch, priority=502)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
