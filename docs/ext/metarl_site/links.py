"""Links that hold in a plain file viewer, led to what the site has in their place.

Links to a module of the suite lead to its highlighted source. Drawings in SVG are put into the
page, so that they follow its light or dark theme.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

ROOT = Path(__file__).resolve().parents[3]
_IMPORT_NAMES = {"metarl": "metarl", "envs": "metarl/envs", "agents": "metarl/agents"}
_IMPORT_NAMES["experiments"] = "metarl/experiments"
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<path>[^)#:]+)(?:#[^)]*)?\)")
_ENVIRONMENTS = "envs/README"


def source_page(path: Path) -> str | None:
    """Return the page that shows a module's source, without suffix, or None for other files."""
    inner = path.relative_to(ROOT)
    if path.suffix != ".py" or inner.parts[0] not in _IMPORT_NAMES:
        return None
    return "/".join(("_modules", _IMPORT_NAMES[inner.parts[0]], *inner.with_suffix("").parts[1:]))


def lead_to_sources(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace downloads of modules by links to the pages that show them."""
    for node in list(doctree.findall(addnodes.download_reference)):
        target = (Path(app.srcdir) / docname).parent / node["reftarget"]
        page = source_page(target.resolve())
        if page is not None:
            uri = app.builder.get_relative_uri(docname, page)
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))


def put_drawings_in(app: Sphinx, doctree: nodes.document, _docname: str) -> None:
    """Replace references to SVG files by what they hold."""
    for node in list(doctree.findall(nodes.image)):
        if node["uri"].endswith(".svg"):
            drawing = (Path(app.srcdir) / node["uri"]).read_text()
            node.replace_self(nodes.raw("", drawing, format="html"))


def name_what_is_not_here(app: Sphinx, docname: str, source: list[str]) -> None:
    """Name folders and Markdown files outside of docs/, which the site cannot link to."""
    folder = (Path(app.srcdir) / docname).parent

    def linked(match: re.Match[str]) -> str:
        target = (folder / match["path"]).resolve()
        outside = target.is_relative_to(ROOT) and not target.is_relative_to(app.srcdir)
        if outside and (target.is_dir() or (target.suffix == ".md" and target.exists())):
            return f"`{target.relative_to(ROOT)}`"
        return match[0]

    source[0] = _LINK.sub(linked, source[0])


def forget_unreadable_modules(app: Sphinx) -> Iterator[tuple[str, dict[str, object], str]]:
    """Drop modules without a source from viewcode's list, which would link to no page."""
    modules = app.env._viewcode_modules
    for name in [name for name, entry in modules.items() if not entry]:
        del modules[name]
    return iter(())


def list_environments(app: Sphinx, docname: str, source: list[str]) -> None:
    """Hang the pages of environments, by short names, below the table that the gallery writes."""
    if docname == _ENVIRONMENTS:
        pages = sorted((Path(app.srcdir) / "envs").glob("*.md"))
        rows = [f"{_short_title(path)} <{path.stem}>" for path in pages if path.stem != "README"]
        source[0] += "\n```{toctree}\n:hidden:\n\n" + "\n".join(rows) + "\n```\n"


def _short_title(path: Path) -> str:
    title = path.read_text().partition("\n")[0].removeprefix("# ")
    return re.split("[:;]", title)[0]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect them."""
    app.connect("source-read", name_what_is_not_here)
    app.connect("doctree-resolved", lead_to_sources)
    app.connect("doctree-resolved", put_drawings_in)
    app.connect("source-read", list_environments)
    app.connect("html-collect-pages", forget_unreadable_modules, priority=400)  # before viewcode's
    return {"parallel_read_safe": True, "parallel_write_safe": True}
