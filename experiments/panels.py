"""Figures of many panels with one legend, in the look of ``metarl.experiments.figures``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from metarl.experiments.figures import INK, SERIES, save_figure, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_COLOURS = (*SERIES, "#CC79A7", "#E69F00")
_MARKERS = "osv^Dp"


class Panel(NamedTuple):
    """One panel of a figure: named series over one x."""

    label: str
    """What it shows, and in which unit."""
    series: Mapping[str, Sequence[float]]
    logarithmic: bool
    """Whether the vertical axis is logarithmic; else it ends at 1, as a cosine does."""
    hollow: Mapping[str, Sequence[bool]]
    """Points to be drawn hollow, by series."""


def panels_figure(
    path: Path, title: str, grid: Sequence[Sequence[Panel]], x: Sequence[float], x_label: str
) -> None:
    """Draw rows of panels over a common logarithmic axis, with one legend below for all.

    A series has the same colour and marker in every panel.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415

    rows, columns = len(grid), len(grid[0])
    size = (3.9 * columns, 2.9 * rows + 0.9)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=11, color=INK, x=0.01, ha="left")
    names = list(dict.fromkeys(name for line in grid for panel in line for name in panel.series))
    handles = {}
    for place, panel in enumerate((panel for line in grid for panel in line), start=1):
        axes = figure.add_subplot(rows, columns, place)
        style_axes(axes)
        axes.set_xscale("log")
        axes.set_title(panel.label, fontsize=9.5, color=INK, loc="left")
        for name, values in panel.series.items():
            hollow = panel.hollow.get(name, [False] * len(x))
            handles[name] = _draw_points(axes, x, values, names.index(name), hollow)
        if panel.logarithmic:
            axes.set_yscale("log")
        else:
            low = axes.get_ylim()[0]
            axes.set_ylim(top=1.0 + 0.04 * (1.0 - low))
        if place > (rows - 1) * columns:
            axes.set_xlabel(x_label)
    figure.legend(
        [handles[name] for name in names],
        names,
        loc="outside lower center",
        ncols=3,
        fontsize=9,
        frameon=False,
        labelcolor=INK,
    )
    save_figure(figure, path)


def _draw_points(
    axes: "Axes", x: Sequence[float], values: Sequence[float], place: int, hollow: Sequence[bool]
) -> "Line2D":
    colour, marker = _COLOURS[place], _MARKERS[place]
    (line,) = axes.plot(x, values, color=colour, marker=marker, linewidth=1.6, markersize=5)
    shown = np.asarray(hollow)
    axes.plot(
        np.asarray(x)[shown],
        np.asarray(values)[shown],
        color=colour,
        marker=marker,
        markersize=5,
        markerfacecolor="white",
        linestyle="",
        zorder=4,
    )
    return line
