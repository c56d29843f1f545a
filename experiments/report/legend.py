"""Who is in a report's charts: settings and references, what they are called and how they look."""

from collections.abc import Sequence
from typing import NamedTuple

from metarl.experiments.figures import COLOURS
from metarl.experiments.settings import Setting
from metarl.statistics import CurveSummary

_DASHES = ("", "7px,3px", "2px,2px", "9px,3px,2px,3px")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up")
_GREY = "#808080"
_GREY_DASHES = ("5px,3px", "1px,3px", "9px,3px,1px,3px", "12px,4px")


class Look(NamedTuple):
    """How a line is drawn."""

    colour: str
    dash: str
    """As SVG writes it; empty for a solid line."""
    symbol: str
    """Of its points, by plotly's name."""


class Entry(NamedTuple):
    """A setting or reference in the legend of an environment."""

    key: str
    """By which the page finds what belongs to it."""
    name: str
    look: Look
    shown: bool
    """Whether it is drawn at first."""


class Reference(NamedTuple):
    """What settings were evaluated beside."""

    name: str
    curves: Sequence[tuple[str, CurveSummary]]
    """One, with the same name; or one of each setting, such as of its untrained weights."""


def entries_of_settings(names: Sequence[str]) -> list[Entry]:
    """Return the entries of settings: no two of the first 24 look the same."""
    return [
        Entry(f"setting-{place}", name, _look_of_setting(place), shown=True)
        for place, name in enumerate(names)
    ]


def entries_of_references(references: Sequence[Reference]) -> list[Entry]:
    """Return the entries of references: grey, and hidden at first where there are many curves."""
    return [
        Entry(f"reference-{place}", name, _look_of_reference(place), shown=len(curves) == 1)
        for place, (name, curves) in enumerate(references)
    ]


def references_of(names: Sequence[str], settings: Sequence[Setting]) -> list[Reference]:
    """Return what settings were evaluated beside, but for those with the name of a setting."""
    found: dict[str, list[tuple[str, CurveSummary]]] = {}
    for label, setting in zip(names, settings, strict=True):
        for name, curve in setting.outcomes[0].floors.items():
            if name not in names:
                found.setdefault(name, []).append((label, curve))
    return [
        Reference(name, [(name, curves[0][1])])
        if len({curve for _, curve in curves}) == 1
        else Reference(name, [(f"{name}: {label}", curve) for label, curve in curves])
        for name, curves in found.items()
    ]


def _look_of_setting(place: int) -> Look:
    style = place // len(COLOURS) % len(_DASHES)
    return Look(COLOURS[place % len(COLOURS)], _DASHES[style], _SYMBOLS[style])


def _look_of_reference(place: int) -> Look:
    return Look(_GREY, _GREY_DASHES[place % len(_GREY_DASHES)], "circle-open")
