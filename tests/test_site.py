"""The built documentation: links hold, all pages can be reached, nothing comes from elsewhere.

``make docs`` builds it, with warnings as errors, and runs this.
"""

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

from metarl import agents
from metarl.experiments.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "build" / "docs"
NOT_LINKED = {"genindex.html", "py-modindex.html", "search.html"}
LOADED = {"img": "src", "script": "src", "iframe": "src", "link": "href", "source": "src"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (SITE / "index.html").exists(), reason="`make docs` builds the site"),
]


class Page(NamedTuple):
    links: tuple[str, ...]
    loaded: tuple[str, ...]
    places: frozenset[str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in LOADED and LOADED[tag] in values:
            self.loaded.append(values[LOADED[tag]])


@cache
def read(path: Path) -> Page:
    reader = _Reader()
    reader.feed(path.read_text())
    return Page(tuple(reader.links), tuple(reader.loaded), frozenset(reader.places))


def pages() -> list[Path]:
    return [path for path in SITE.rglob("*.html") if "_static" not in path.parts]


def target(page: Path, link: str) -> tuple[Path, str]:
    parts = urlsplit(link)
    return (page.parent / unquote(parts.path)).resolve() if parts.path else page, parts.fragment


def is_inner(link: str) -> bool:
    parts = urlsplit(link)
    return not parts.scheme and not parts.netloc


def test_links_lead_somewhere() -> None:
    for page in pages():
        for link in filter(is_inner, read(page).links):
            path, place = target(page, link)
            assert path.exists(), f"{page}: {link}"
            if place and path.suffix == ".html":
                assert unquote(place) in read(path).places, f"{page}: {link}"


def test_every_page_can_be_reached() -> None:
    found, waiting = set(), [SITE / "index.html"]
    while waiting:
        page = waiting.pop()
        if page in found:
            continue
        found.add(page)
        linked = [target(page, link)[0] for link in filter(is_inner, read(page).links)]
        waiting += [path for path in linked if path.suffix == ".html" and path.exists()]
    lost = {str(path.relative_to(SITE)) for path in set(pages()) - found}
    assert lost <= NOT_LINKED
    sources = [*(ROOT / "docs").rglob("*.md")]
    assert len(sources) > 40
    for source in sources:
        assert SITE / source.relative_to(ROOT / "docs").with_suffix(".html") in found, source


def test_nothing_is_loaded_from_elsewhere() -> None:
    for page in pages():
        for address in read(page).loaded:
            assert is_inner(address) or address.startswith("data:"), f"{page}: {address}"
    for sheet in SITE.rglob("*.css"):
        text = sheet.read_text()
        assert "@import" not in text or "http" not in text.split("@import")[1][:200], sheet
        assert "url(http" not in text.replace('"', "").replace("'", ""), sheet


def test_every_command_and_agent_has_its_place() -> None:
    assert {f"metarl-{name}" for name in COMMANDS} <= read(SITE / "reference/commands.html").places
    text = (SITE / "agents/index.html").read_text()
    assert all(f">{name}</span>" in text for name in agents.AGENTS)
    for name in ("metarl.returns.discounted_sums", "metarl.agents.maml.MamlTrpo"):
        module = name.rpartition(".")[0]
        assert name in read(SITE / f"reference/generated/{module}.html").places
