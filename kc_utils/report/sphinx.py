"""What the book adds to Sphinx: an extension, named in `_config.yml`.

- Text notebooks (chapters on techniques, findings, the start page) are executed when they are read, all of them beforehand, one
  on each core.
- A page is read again when it changed, or what it includes; text notebooks of results when these changed, too; every page when
  code or packages did. All pages are written again when a title, label or number changed that they may refer to. Pages that were
  read by a build that failed are read again, so that it fails until their fault is gone.
- A chapter lists the works that it cites, as text: a second bibliography of Sphinx would give every work several labels.
- Pages that are notebooks can be downloaded, and opened on Colab and Binder where the repository has an address.
- No page asks another host: thebe's scripts, which Jupyter Book puts into every page, are left out.
"""

import json
import logging
import os
import re
from contextlib import suppress
from pathlib import Path

import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from nbformat import NotebookNode
from pybtex.database import BibliographyData, parse_file
from pybtex.plugin import find_plugin

from kc_utils.places import write_text
from kc_utils.report.targets import digest_of, hash_of, made_with
from kc_utils.study.forks import warm_server

EXECUTED = ("background/", "techniques/", "findings/", "intro")
"""Pages of text that the build executes."""
OF_RESULTS = ("findings/", "intro", "background/load", "background/learning")
"""Those of them that read rows at hand."""
MADE_OF = "results/made_of"
"""A file under `book/` that names the rows a book is built from; `pages` writes it."""
UNFINISHED = "unfinished.json"
"""A file in the folder of doctrees: the pages read since the last build that succeeded, which removes it."""
BRANCH = "published-notebooks"
"""The branch with executed notebooks, which Colab and Binder open: the publishing workflow writes it."""
WORKS = "## Works cited in this chapter"
_CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.M | re.S)
_SETTING = re.compile(r"^:[\w-]+:.*\n", re.M)
_CITED = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")


def code_cells(text: str) -> list[str]:
    """The source of each code cell of a MyST text notebook, settings such as `:tags:` left out."""
    return [_SETTING.sub("", cell) for cell in _CELL.findall(text)]


def outdated(app, env, added, changed, removed) -> list[str]:
    """Pages of a build that did not succeed, and text notebooks of results where these changed: Sphinx's `env-get-outdated`."""
    rows, unfinished = Path(app.srcdir, MADE_OF), Path(app.doctreedir, UNFINISHED)
    before, env.kc_made_of = getattr(env, "kc_made_of", ""), rows.read_text() if rows.is_file() else ""
    again = [name for name in sorted(env.found_docs) if before != env.kc_made_of and name.startswith(OF_RESULTS)]
    if unfinished.is_file():
        env.kc_shared = ""
        again += json.loads(unfinished.read_text(encoding="utf-8"))
    return again


def begin(app, env, docnames: list[str]) -> None:
    """Keep which pages are read, until the build succeeds: Sphinx's event `env-before-read-docs`."""
    if docnames or app.builder.name == "html":
        write_text(Path(app.doctreedir, UNFINISHED), json.dumps(docnames))


def referring(app, env) -> list[str]:
    """Every page, where what pages take from each other changed: Sphinx's event `env-get-updated`.

    Sphinx itself writes only the page on which a title, label or number changed, and sees no reference that leads nowhere now.
    """
    labels = [sorted(env.domaindata["std"][kind].items()) for kind in ("labels", "anonlabels", "terms", "objects")]
    cited = sorted((one.key, one.formatted_entry.label, one.citation_id) for one in env.get_domain("cite").citations)
    titles = {name: title.astext() for name, title in env.titles.items()}
    anchors = {name: [slug[1:] for slug in about.get("myst_slugs", {}).values()] for name, about in env.metadata.items()}
    contents = [env.external_site_map.as_json(), env.toc_secnumbers, env.toc_fignumbers]
    before, env.kc_shared = getattr(env, "kc_shared", ""), digest_of([labels, cited, titles, anchors, contents])
    return sorted(env.found_docs) if before != env.kc_shared else []


def execute_together(app, env, docnames: list[str]) -> None:
    """Execute the text notebooks that are about to be read, one on each core, for MyST-NB to find: Sphinx's event
    `env-before-read-docs`. One that fails is left to MyST-NB, which executes it again and reports what stopped it."""
    cache = get_cache(env.mystnb_config.execution_cache_path)
    cache.clear_cache()
    files = [env.doc2path(name) for name in docnames if name.startswith(EXECUTED)]
    texts = [file for file in files if file.endswith(".md") and code_cells(Path(file).read_text(encoding="utf-8"))]
    for file in texts:
        cache.add_nb_to_project(file, read_data={"name": "myst_nb_md", "type": "plugin"})
    if texts:
        together = load_executor("local-parallel", cache, logger=logging.getLogger(__name__))
        with warm_server():
            together.run_and_cache(filter_uris=texts, timeout=app.config.nb_execution_timeout)


def list_works(app, docname: str, source: list[str]) -> None:
    """Add the works that a chapter cites to its end: Sphinx's event `source-read`. Notebooks and the list stay as they are."""
    chapter = app.env.doc2path(docname).endswith(".md") and docname != "references"
    if listed := works(source[0], Path(app.srcdir) / "references.bib") if chapter else "":
        app.env.note_dependency("references.bib")
        source[0] += listed


def works(text: str, file: Path) -> str:
    """The works cited in a text as a Markdown list by author; nothing where it cites none. Sphinx warns of unknown keys."""
    keys = dict.fromkeys(key.strip() for group in _CITED.findall(text) for key in group.split(","))
    entries = parse_file(file).entries if keys else {}
    chosen = BibliographyData({key: entries[key] for key in keys if key in entries})
    if not chosen.entries:
        return ""
    backend = find_plugin("pybtex.backends", "markdown")()
    formatted = find_plugin("pybtex.style.formatting", "plain")().format_entries(chosen.entries.values())
    lines = [" ".join(entry.text.render(backend).split()) for entry in formatted]
    return f"\n\n{WORKS}\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"


def repository(root: Path) -> str:
    """The address of the repository that publishes the book in this folder, "" for none.

    The environment variable KC_REPOSITORY comes first, then `repository: url` of `_config.yml`.
    """
    address = os.environ.get("KC_REPOSITORY")
    if address is None and (root / "_config.yml").is_file():
        written = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8")) or {}
        address = (written.get("repository") or {}).get("url")
    return (address or "").strip().rstrip("/").removesuffix(".git")


def install_cell(address: str, recipes: list[str] = (), tasks: bool = False) -> NotebookNode:
    """The first cell of a notebook that leaves the book, which the page does not show.

    address: of the repository, "" for none; recipes, tasks: what the notebook evaluates, which says what it needs.
    """
    extras = "quantization,harness" if tasks else "quantization"
    built = ["gptqmodel"] if any("gptq" in recipe for recipe in recipes) else []
    template = Path(__file__).with_name("install.txt").read_text(encoding="utf-8")
    source = template.format(clone="cost-of-compression", address=address, extras=extras, built=built).rstrip()
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["remove-cell"]})
    cell.id = "install"
    return cell


def know_surroundings(app, config) -> None:
    """Give the theme the repository, for its launch buttons, and Sphinx what pages depend on besides their text: it reads them
    again where one value changed, and writes them again where another did."""
    config.kc_made_with, config.kc_static = made_with(), hash_of(Path(app.srcdir, "_static"))
    config.kc_repository = repository(Path(app.srcdir).parent)
    if not config.kc_repository:
        config.html_theme_options.pop("launch_buttons", None)
        return
    config.html_theme_options |= {
        "repository_url": config.kc_repository, "repository_branch": BRANCH, "path_to_docs": "book",
    }  # fmt: skip


def offer_download(app, pagename, templatename, context, doctree) -> None:
    """Offer a text notebook as the executed notebook, too, in the theme's menu of downloads. MyST-NB writes it without what
    it found in the cache."""
    executed = Path(app.outdir).parent / "jupyter_execute" / f"{pagename}.ipynb"
    if not pagename.startswith(EXECUTED) or not executed.is_file():
        return
    book = nbformat.read(executed, as_version=4)
    with suppress(KeyError):  # not executed in this build
        _, book = get_cache(app.env.mystnb_config.execution_cache_path).merge_match_into_notebook(book)
    book.cells = [install_cell(app.config.kc_repository), *(c for c in book.cells if c.get("id") != "install")]
    nbformat.write(book, executed)  # the theme copies it once more
    target = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, target)
    context["ipynb_source"] = f"{pagename}.ipynb"


def open_notebook(app, pagename, templatename, context, doctree) -> None:
    """Lead launch buttons of a text notebook to the executed notebook, which Colab can open."""
    for group in context.get("header_buttons", ()):
        for button in group.get("buttons", ()) if group.get("label") == "launch-buttons" else ():
            button["url"] = re.sub(r"\.md$", ".ipynb", button["url"])


def without_extra_scripts(app, pagename, templatename, context, doctree) -> None:
    """Leave out thebe's scripts, and the second MathJax: Jupyter Book adds every script of `_static` to every page."""

    def wanted(script) -> bool:
        name, attributes = str(getattr(script, "filename", script)), getattr(script, "attributes", {})
        again = app.config.mathjax_path in name and "defer" not in attributes
        return not again and "thebe" not in f"{name} {attributes.get('body', '')}".lower()

    context["script_files"] = [script for script in context.get("script_files", ()) if wanted(script)]


def setup(app) -> dict:
    for name, again in {"kc_made_with": "env", "kc_static": "html", "kc_repository": "html"}.items():
        app.add_config_value(name, "", again, [str])
    app.connect("config-inited", know_surroundings)
    app.connect("env-get-outdated", outdated)
    app.connect("env-before-read-docs", begin)
    app.connect("env-before-read-docs", execute_together)
    app.connect("env-get-updated", referring, priority=900)  # after sections and figures are numbered, at 500
    app.connect("source-read", list_works)
    app.connect("html-page-context", offer_download, priority=400)  # before the theme makes its menus, at 501
    app.connect("html-page-context", open_notebook, priority=502)
    app.connect("html-page-context", without_extra_scripts, priority=900)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
