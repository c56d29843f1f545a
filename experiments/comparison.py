"""Figures for papers: settings of one environment as they learned, and as they adapt.

Each panel is a function; a legend below serves them all. Sizes are inches in print: a panel fits a
column, two a page.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metarl.bootstrap import Bootstrap, Interval, bootstrap_interval, usual_bootstrap
from metarl.experiments.figures import (
    COLOURS,
    INK,
    moving_average,
    show_literally,
    style_axes,
)
from metarl.statistics import (
    CurveSummary,
    FloatArray,
    mean_of_runs,
    performance_profile,
    profile_interval,
    profile_thresholds,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))
_REFERENCE, _REFERENCE_DASHES = "#6b6b6b", ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), "-")
_PANEL = (3.35, 2.5)
_LINE = 0.16
_LETTER = 0.062
_TEXT = 8
_SMOOTHED_OVER = 60
_FEW_POINTS = 3
_THRESHOLDS = 201


class Learned(NamedTuple):
    """What is drawn of one setting."""

    env_steps: FloatArray
    """[P], adaptation included, as a mean over seeds."""
    returns: FloatArray
    """[seeds, P], after adaptation, in training."""
    curve: CurveSummary
    """On held-out tasks."""
    final: FloatArray
    """[seeds, tasks], the scores of which a profile is made."""


class Comparison(NamedTuple):
    """What a figure shows."""

    settings: Mapping[str, Learned]
    references: Mapping[str, CurveSummary]
    """Floors and ceilings on the same tasks."""
    score: str
    """What a score is."""
    scored_after: str
    """What the final scores were taken after."""


def comparison_figure(title: str, comparison: Comparison, panels: Sequence[str]) -> "Figure":
    """Draw settings in one or more of ``PANELS``, side by side.

    Bands are 95% bootstrap intervals, see ``metarl.bootstrap.usual_bootstrap``; a learning curve of
    a single seed has none.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415

    names = [*comparison.settings, *(comparison.references if "adaptation" in panels else ())]
    width = _PANEL[0] * len(panels)
    columns = max(1, min(len(names), int(width / (0.75 + _LETTER * max(map(len, names))))))
    letters = int(width / _LETTER)
    head, note = (textwrap.fill(text, letters) for text in (title, _note(comparison, panels)))
    lines = -(-len(names) // columns) + head.count("\n") + note.count("\n") + 2
    size = (width, _PANEL[1] + _LINE * lines)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.suptitle(head, fontsize=_TEXT, color=INK, x=0.01, ha="left")
    handles: dict[str, Line2D] = {}
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        handles |= PANELS[name](axes, comparison)
        style_axes(axes)
        axes.tick_params(labelsize=_TEXT - 1)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_fontsize(_TEXT)
    legend = figure.legend(
        [handles[name] for name in names],
        names,
        loc="outside lower left",
        ncols=columns,
        title=note,
        fontsize=_TEXT,
        title_fontsize=_TEXT - 1,
        alignment="left",
        frameon=False,
        handlelength=2.8,
        labelcolor=INK,
    )
    legend.get_title().set_color(INK)
    show_literally(figure)
    return figure


def _note(comparison: Comparison, panels: Sequence[str]) -> str:
    """Say what lines and bands are."""
    seeds = {len(learned.final) for learned in comparison.settings.values()}
    speaks = "over seeds" if min(seeds) > 1 else "over tasks, as there is one seed"
    if len(seeds) > 1 and min(seeds) == 1:
        speaks = "over seeds, or over tasks where there is one seed"
    lines = {"learning": "mean over seeds", "adaptation": "IQM"}
    told = ", ".join(f"{name}: {lines[name]}" for name in panels if name in lines)
    if panels == ["learning"] and seeds == {1}:
        return "one seed each"
    return f"{told}{'; ' if told else ''}bands: 95% intervals {speaks}"


def _learning(axes: "Axes", comparison: Comparison) -> "dict[str, Line2D]":
    """Draw returns after adaptation against env steps."""
    longest = max(learned.env_steps[-1] for learned in comparison.settings.values())
    scale, unit = (1e6, "millions") if longest >= 2e5 else (1e3, "thousands")
    handles = {}
    for place, (name, learned) in enumerate(comparison.settings.items()):
        seeds, points = learned.returns.shape
        window = 1 + 2 * (points // _SMOOTHED_OVER)
        smooth = np.stack([moving_average(row, window) for row in learned.returns])
        x, style = learned.env_steps / scale, _style(place)
        if seeds > 1:
            rng = np.random.default_rng(0)
            _band(
                axes, x, bootstrap_interval(smooth[:, None], mean_of_runs, rng, Bootstrap()), style
            )
        marker = "o" if points < _FEW_POINTS else ""
        (handles[name],) = axes.plot(x, smooth.mean(0), marker=marker, **style)
    axes.set(xlabel=f"environment steps ({unit})", ylabel="return after adaptation")
    return handles


def _adaptation(axes: "Axes", comparison: Comparison) -> "dict[str, Line2D]":
    """Draw scores on held-out tasks against adaptations, beside floors and ceilings."""
    handles = {}
    for place, (name, curve) in enumerate(comparison.references.items()):
        dashes = _REFERENCE_DASHES[place % len(_REFERENCE_DASHES)]
        marker = "." if len(curve.iqm) < _FEW_POINTS else ""
        (handles[name],) = axes.plot(
            curve.iqm, color=_REFERENCE, linestyle=dashes, linewidth=1.1, marker=marker
        )
    for place, (name, learned) in enumerate(comparison.settings.items()):
        curve, style = learned.curve, _style(place)
        rounds = np.arange(len(curve.iqm), dtype=np.float64)
        _band(axes, rounds, Interval(np.array(curve.ci_low), np.array(curve.ci_high)), style)
        (handles[name],) = axes.plot(rounds, curve.iqm, marker="o", markersize=3, **style)
    curves = [*comparison.references.values(), *(x.curve for x in comparison.settings.values())]
    longest = max(len(curve.iqm) for curve in curves)
    axes.set_xticks(np.arange(0, longest, max(1, -(-longest // 12))))
    axes.set(xlabel="adaptations on a held-out task", ylabel=comparison.score)
    return handles


def _profile(axes: "Axes", comparison: Comparison) -> "dict[str, Line2D]":
    """Draw the share of runs and tasks that score above a threshold."""
    finals = [learned.final for learned in comparison.settings.values()]
    limits = profile_thresholds(finals, _THRESHOLDS)
    handles = {}
    for place, (name, learned) in enumerate(comparison.settings.items()):
        style, rng = _style(place), np.random.default_rng(0)
        scores = learned.final
        _band(
            axes, limits, profile_interval(scores, limits, rng, usual_bootstrap(len(scores))), style
        )
        (handles[name],) = axes.plot(limits, performance_profile(scores, limits), **style)
    axes.set_ylim(-0.02, 1.02)
    above = f"threshold: {comparison.score},\n{comparison.scored_after}"
    axes.set(xlabel=above, ylabel="share of runs and tasks above")
    return handles


Panel = Callable[["Axes", Comparison], "dict[str, Line2D]"]
PANELS: Mapping[str, Panel] = {
    "learning": _learning,
    "adaptation": _adaptation,
    "profile": _profile,
}
"""What a figure can show, by name."""


def _band(axes: "Axes", x: FloatArray, ends: Interval, style: Mapping[str, Any]) -> None:
    axes.fill_between(x, ends.low, ends.high, color=style["color"], alpha=0.15, linewidth=0)


def _style(place: int) -> dict[str, Any]:
    """Return the look of one of many lines: each colour comes once with each kind of dashes."""
    dashes = _DASHES[place // len(COLOURS) % len(_DASHES)]
    look = {"color": COLOURS[place % len(COLOURS)], "linestyle": dashes, "linewidth": 1.5}
    # The first ones, which are the best, lie on top.
    return look | {"zorder": 3.0 - place / 1000.0}
