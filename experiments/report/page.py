"""A report as one HTML file: its template, styles and scripts put together, nothing left to fetch.

Every string is escaped by the template. The page's own policy forbids all of the network, and lets
no script run but the two that are named in it by their hash.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from metarl.checks import InputError
from metarl.experiments.report.sections import Section

_TEMPLATE = "page.html.jinja"


class Page(NamedTuple):
    """All that a report says."""

    title: str
    made: str
    """When, and by what."""
    sections: Sequence[Section]
    left_out: Sequence[str]
    """Why, of each run that is not in it."""


def check_packages() -> None:
    """Refuse to begin without what a page is made with.

    Raises:
        InputError: a package is missing.
    """
    try:
        import jinja2  # noqa: F401, PLC0415 - an optional dependency
        import plotly  # noqa: F401, PLC0415 - an optional dependency
    except ImportError as error:
        hint = "metarl report needs it: pip install 'metarl-suite[report]'"
        raise InputError([f"{error}; {hint}"]) from None


def render(page: Page) -> bytes:
    """Return a report as HTML."""
    # Optional dependencies, and slow to import.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415
    from markupsafe import Markup  # noqa: PLC0415
    from plotly.offline import get_plotlyjs  # noqa: PLC0415

    folder = Path(__file__).parent
    # A parser reads a carriage return as a line feed, and the hash is of what it has read.
    scripts = [
        text.replace("\r\n", "\n").strip()
        for text in (get_plotlyjs(), (folder / "page.js").read_text(encoding="utf-8"))
    ]
    templates = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    html = templates.get_template(_TEMPLATE).render(
        page=page,
        charts={
            f"{section.anchor}-{name}": chart._asdict()
            for section in page.sections
            for name, chart in section.charts.items()
        },
        styles=Markup((folder / "page.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        hashes=[_hash(script) for script in scripts],
    )
    return html.encode(errors="replace")  # names of folders need not be UTF-8


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
