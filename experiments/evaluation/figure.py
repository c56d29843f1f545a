"""The figure of evaluations whose rounds differ: scores against steps, and against episodes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from metarl.experiments.evaluation.scoring import Curve
from metarl.experiments.figures import COLOURS, INK, save_figure, show_literally, style_axes
from metarl.statistics import CurveSummary

EPISODES = "episodes of the task that were learned from"

_MARKS = "osD^vP"
_PANEL = (5.2, 3.8)


class Line(NamedTuple):
    """One line of a panel."""

    x: Sequence[int]
    curve: CurveSummary


Lines: TypeAlias = Mapping[str, Line]


def by_rounds(curves: Mapping[str, Curve]) -> Lines:
    """Return lines against the number of adaptations."""
    return {name: Line(range(len(c.episodes)), c.summary) for name, c in curves.items()}


def by_episodes(curves: Mapping[str, Curve]) -> Lines:
    """Return lines against the experience that was spent."""
    return {name: Line(c.episodes, c.summary) for name, c in curves.items()}


def curves_figure(path: Path, title: str, panels: Mapping[str, Lines], score_label: str) -> None:
    """Draw the IQM of each line with its 95% interval as a band.

    Args:
        path: of a PNG.
        title: of the figure.
        panels: by what stands under their horizontal axis; all with lines of the same names.
        score_label: what a score is.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  hundreds of milliseconds
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    size = (_PANEL[0] * len(panels), _PANEL[1] + 0.12 * max(map(len, panels.values())))
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=11, color=INK, x=0.02, ha="left")
    for place, (label, lines) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), place)
        for number, (name, (x, curve)) in enumerate(lines.items()):
            colour = COLOURS[number % len(COLOURS)]
            mark = _MARKS[number % len(_MARKS)]
            axes.fill_between(x, curve.ci_low, curve.ci_high, color=colour, alpha=0.13, linewidth=0)
            axes.plot(x, curve.iqm, label=name, linewidth=1.8, color=colour, marker=mark)
        style_axes(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(label)
        if place == 1:
            axes.set_ylabel(score_label)
            handles = axes.get_legend_handles_labels()
    note = "IQM (band: 95% interval)"
    figure.legend(
        *handles,
        title=note,
        title_fontsize=8,
        fontsize=9,
        frameon=False,
        loc="outside lower left",
        ncols=2 * len(panels),
        alignment="left",
    )
    show_literally(figure)
    save_figure(figure, path)
