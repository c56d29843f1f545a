"""The API reference: one page for each public module, written before the sources are read."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

PACKAGES = {
    "metarl": "Core",
    "metarl.agents": "Agents",
    "metarl.envs": "Environments",
    "metarl.experiments": "Experiments",
}
"""Import names, and the titles of their pages."""
FOLDER = "reference/generated"
_PLACEHOLDER = "Alias for field number"  # what Python says of a field that has no docstring

_OPTIONS = ("members", "ignore-module-all", "show-inheritance")
_NO_TYPE = ("attribute", "data", "property")


def public_modules(package: str) -> Iterator[str]:
    """Yield the modules of a package and of what is in it, the packages listed above apart."""
    parent = importlib.import_module(package)
    for found in pkgutil.iter_modules(parent.__path__, f"{package}."):
        if found.name in PACKAGES or found.name.rpartition(".")[2].startswith("_"):
            continue
        if found.ispkg:
            yield from public_modules(found.name)
        else:
            yield found.name


def first_line(module: ModuleType) -> str:
    """Return what a module says of itself in its first sentence's line."""
    return (module.__doc__ or "").strip().partition("\n")[0]


def heading(text: str) -> str:
    """Return a page's title in reStructuredText."""
    return f"{text}\n{'=' * len(text)}\n\n"


def module_page(name: str) -> str:
    """Return the page of one module, without what it only passes on from others."""
    options = "".join(f"   :{option}:\n" for option in _OPTIONS)
    return f"{heading(name)}.. automodule:: {name}\n{options}"


def package_page(package: str, names: Iterable[str]) -> str:
    """Return the page that lists a package's modules."""
    names = list(names)
    about = first_line(importlib.import_module(package))
    rows = [f":doc:`{name}`\n   {first_line(importlib.import_module(name))}\n" for name in names]
    tree = "".join(f"   {name}\n" for name in names)
    title = f"{PACKAGES[package]}: {package}"
    return f"{heading(title)}{about}\n\n{''.join(rows)}\n.. toctree::\n   :hidden:\n\n{tree}"


def write_pages(app: Sphinx) -> None:
    """Write all pages, and remove those of modules that are gone; unchanged ones are left alone."""
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    pages = {}
    for package in PACKAGES:
        names = list(public_modules(package))
        pages[f"index-{package}"] = package_page(package, names)
        pages |= {name: module_page(name) for name in names}
    for path in folder.iterdir():
        if path.stem not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def prepare(
    _app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Make of a docstring what Sphinx reads as it is meant.

    A block that is indented below a colon is shown as it stands, since it holds a formula. A field
    without a docstring stays bare, rather than be told which number it has.
    """
    if lines and lines[0].startswith(_PLACEHOLDER):
        lines.clear()
    for number in range(len(lines) - 2):
        opening, gap, block = lines[number : number + 3]
        if opening.endswith(":") and not gap.strip() and _depth(block) > _depth(opening):
            lines[number] = opening + ":"
    if lines and what in _NO_TYPE:
        # Napoleon takes what stands before a colon in the first line for a type: an empty comment.
        lines[:0] = ["..", ""]


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip()) if line.strip() else 0


def setup(app: Sphinx) -> ExtensionMetadata:
    """Write the pages once the builder stands, before Sphinx looks for sources."""
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", prepare, priority=400)  # before Napoleon's
    return {"parallel_read_safe": True, "parallel_write_safe": True}
