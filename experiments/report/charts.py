"""The charts of a report, as plotly.js takes them: plain dicts of traces and a layout.

Traces of one setting or reference share a ``legendgroup``: the page has one legend for all charts
of an environment. Colours of text, axes and grid are the page's.
"""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from metarl.bootstrap import Interval, bootstrap_interval, usual_bootstrap
from metarl.experiments.report.legend import Entry
from metarl.experiments.settings import Setting
from metarl.statistics import (
    CurveSummary,
    FloatArray,
    interquartile_mean,
    iqm_of_runs,
    performance_profile,
    profile_interval,
    profile_thresholds,
)

Json: TypeAlias = dict[str, Any]
"""An object as JSON knows it."""

_HEIGHT = 360  # pixels
_MOST_POINTS = 120
_THRESHOLDS = 60
_FAINT = "22"  # as the last two digits of a colour: one part in eight


class Chart(NamedTuple):
    """One chart; its fields are what the page's script reads."""

    data: list[Json]
    """plotly's traces."""
    layout: Json
    """plotly's layout."""
    axes: Mapping[str, Json]
    """What x may be, by name: its ``title``, and its values ``x`` by key; or nothing to choose."""


class Line(NamedTuple):
    """One line of a chart."""

    entry: Entry
    """What it belongs to."""
    name: str
    x: FloatArray
    """[P]."""
    y: FloatArray
    """[P]."""
    band: Interval | None
    """[P] each."""


class Learning(NamedTuple):
    """How the seeds of a setting learned, at P points."""

    env_steps: FloatArray
    """[P] millions, adaptation included; the mean over seeds, as in the next one."""
    wall_time: FloatArray
    """[P] minutes of sampling and updates."""
    iterations: FloatArray
    """[P]."""
    returns: FloatArray
    """[seeds, P], after adaptation."""


def thinned(rows: FloatArray, most: int = _MOST_POINTS) -> FloatArray:
    """Average neighbouring columns until at most ``most`` are left: [..., P] to [..., M].

    Every mean is of equally many columns, but that of the last ones of fewer.
    """
    size = -(-rows.shape[-1] // most)
    starts = np.arange(0, rows.shape[-1], size)
    sizes = np.diff(np.append(starts, rows.shape[-1]))
    return np.asarray(np.add.reduceat(rows, starts, axis=-1) / sizes)


def learning_of(setting: Setting) -> Learning:
    """Return how a setting learned, at as many points as a line can show."""
    seeds = setting.learning()
    steps, returns, seconds = (thinned(seeds[:, row]) for row in range(3))
    iterations = thinned(np.arange(1.0, seeds.shape[2] + 1.0))
    return Learning(steps.mean(0) / 1e6, seconds.mean(0) / 60.0, iterations, returns)


def learning_chart(legend: Sequence[Entry], settings: Sequence[Setting]) -> Chart:
    """Draw returns in training: the IQM over seeds, and its 95% interval where there are several.

    The horizontal axis may be env steps, wall time or meta-iterations.
    """
    learned = [learning_of(setting) for setting in settings]
    lines = [
        Line(
            entry,
            entry.name,
            learning.env_steps,
            interquartile_mean(learning.returns.T),
            _over_seeds(learning.returns),
        )
        for entry, learning in zip(legend, learned, strict=True)
    ]
    titles = {
        "env steps": "env steps (millions)",
        "wall time": "wall time (minutes)",
        "meta-iterations": "meta-iterations",
    }
    keys = [entry.key for entry in legend]
    by_axis = zip(*(learning[:3] for learning in learned), strict=True)
    axes = {
        name: {"title": title, "x": dict(zip(keys, map(_numbers, x), strict=True))}
        for (name, title), x in zip(titles.items(), by_axis, strict=True)
    }
    layout = _layout(titles["env steps"], "return after adaptation")
    return Chart(_traces(lines, points=False), layout, axes)


def adaptation_chart(curves: Sequence[tuple[Entry, str, CurveSummary]], score: str) -> Chart:
    """Draw scores on held-out tasks against adaptations: the IQM and its 95% interval.

    Each curve comes with what it belongs to and its name; the first one lies on top.
    """
    lines = [
        Line(
            entry,
            name,
            np.arange(0.0, len(curve.iqm)),
            np.array(curve.iqm),
            Interval(np.array(curve.ci_low), np.array(curve.ci_high)),
        )
        for entry, name, curve in reversed(curves)
    ]
    layout = _layout("adaptations on the task", score)
    layout["xaxis"] |= {"tick0": 0, "dtick": -(-max(len(line.x) for line in lines) // 12)}
    return Chart(_traces(lines, points=True), layout, {})


def profile_chart(legend: Sequence[Entry], scores: Sequence[FloatArray], score: str) -> Chart:
    """Draw the fraction of runs and tasks that score above a threshold, with its 95% interval.

    Scores are [seeds, tasks] by setting.
    """
    thresholds = profile_thresholds(scores, _THRESHOLDS)
    lines = []
    for entry, values in zip(legend, scores, strict=True):
        rng, bootstrap = np.random.default_rng(0), usual_bootstrap(len(values))
        band = profile_interval(values, thresholds, rng, bootstrap)
        fraction = performance_profile(values, thresholds)
        lines.append(Line(entry, entry.name, thresholds, fraction, band))
    layout = _layout(f"threshold: {score}", "fraction of runs and tasks above")
    layout["yaxis"] |= {"range": [-0.02, 1.02], "dtick": 0.25}
    return Chart(_traces(lines, points=False), layout, {})


def _over_seeds(returns: FloatArray) -> Interval | None:
    """Return the interval of the IQM of returns [seeds, P]; of one seed nothing can be said."""
    if len(returns) == 1:
        return None
    rng, bootstrap = np.random.default_rng(0), usual_bootstrap(len(returns))
    return bootstrap_interval(returns[:, None], iqm_of_runs, rng, bootstrap)


def _layout(x_title: str, y_title: str) -> Json:
    axis = {"automargin": True, "zeroline": False, "ticks": "outside", "ticklen": 4}
    return {
        "height": _HEIGHT,
        "margin": {"l": 56, "r": 12, "t": 12, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12},
        "hovermode": "closest",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#808080", "activecolor": "#808080"},
        "showlegend": False,
        "xaxis": axis | {"title": {"text": x_title}, "showgrid": False, "showline": True},
        "yaxis": axis | {"title": {"text": y_title}},
    }


def _traces(lines: Sequence[Line], *, points: bool) -> list[Json]:
    """Return bands, and lines on top of all of them."""
    bands = [trace for line in lines if line.band for trace in _band(line, line.band)]
    return bands + [_line(line, points) for line in lines]


def _line(line: Line, points: bool) -> Json:
    look = line.entry.look
    text = "%{fullData.name}<br>%{x:.4~g}: %{y:.4~g}"
    ends: list[list[float | None]] = []
    if line.band is not None:
        text += " [%{customdata[0]:.4~g}, %{customdata[1]:.4~g}]"
        ends = [list(pair) for pair in zip(*map(_numbers, line.band), strict=True)]
    return {
        "type": "scatter",
        "mode": "lines+markers" if points or len(line.x) == 1 else "lines",
        "name": literal(line.name),
        "legendgroup": line.entry.key,
        "x": _numbers(line.x),
        "y": _numbers(line.y),
        "customdata": ends,
        "line": {"color": look.colour, "dash": look.dash or "solid", "width": 2},
        "marker": {"color": look.colour, "symbol": look.symbol, "size": 7},
        "hovertemplate": text + "<extra></extra>",
    }


def _band(line: Line, band: Interval) -> list[Json]:
    """Return two lines that cannot be seen, and what is between them."""
    edge: Json = {
        "type": "scatter",
        "mode": "lines",
        "name": literal(line.name),
        "legendgroup": line.entry.key,
        "x": _numbers(line.x),
        "line": {"width": 0},
        "hoverinfo": "skip",
    }
    fill = {"fill": "tonexty", "fillcolor": line.entry.look.colour + _FAINT}
    return [edge | {"y": _numbers(band.low)}, edge | {"y": _numbers(band.high)} | fill]


def _numbers(values: FloatArray) -> list[float | None]:
    """Return values as JSON knows them, to five digits; what is not finite leaves a gap."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]


def literal(text: str) -> str:
    """Return text so that plotly shows it as it is: it reads tags and entities."""
    return html.escape(text, quote=False)
