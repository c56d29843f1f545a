"""Figures of a report: adaptation curves and learning curves, as files.

matplotlib is imported when a figure is drawn, and used without pyplot: no state, no window.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from metarl.checkpoint import write_bytes_atomic
from metarl.statistics import CurveSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, told apart by colour-blind readers too; the agent has the strongest."""
_AGENT = COLOURS[0]
_FLOORS = (
    ("#6b6b6b", (0, (5, 2))),
    ("#D55E00", (0, (1, 1.5))),
    ("#009E73", (0, (6, 2, 1, 2))),
    ("#CC79A7", (0, (3, 1))),
    ("#56B4E9", (0, (8, 2))),
    ("#E69F00", (0, (4, 1, 1, 1, 1, 1))),
)
SERIES = ("#8c8c8c", _AGENT, "#D55E00", "#009E73")
STEPS, INK, _AXIS = "gradient steps on the task", "#333333", "#999999"
_SIZE = (6.4, 4.2)
_DPI = 150
_NO_DATE: Mapping[str, dict[str, None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
_SMOOTHED_OVER = 60
_FEW_POINTS = 3


def adaptation_figure(
    path: Path,
    title: str,
    curves: Mapping[str, CurveSummary],
    score_label: str,
    steps: str = STEPS,
) -> None:
    """Draw score against steps: the IQM of each curve, and its 95% interval as a band.

    The first curve is the agent; in the background are those that it is measured against.

    Raises:
        ValueError: there is no curve.
    """
    if not curves:
        raise ValueError("adaptation_figure: no curve to draw")
    figure, axes = _blank(title)
    for place, (name, curve) in enumerate(curves.items()):
        _draw_curve(axes, f"{name}: {_ends(curve.iqm)}", curve, place)
    longest = max(len(curve.iqm) for curve in curves.values())
    axes.set_xticks(np.arange(0, longest, max(1, -(-longest // 12))))
    axes.set_xlabel(steps)
    axes.set_ylabel(score_label)
    _legend(axes, "IQM, first to last step (band: 95% interval)")
    show_literally(figure)
    save_figure(figure, path)


def learning_figure(
    path: Path,
    title: str,
    iterations: Sequence[int],
    env_steps: Sequence[int],
    series: Mapping[str, Sequence[float]],
) -> None:
    """Draw named series against env steps, with the meta-iterations along the top.

    Raw values are faint; over them lies their moving average. NaN leaves a gap in the raw line.
    The order of colours suits (before adaptation, after adaptation). The suffix of ``path`` decides
    the format.

    Raises:
        ValueError: there is no point, or a series has another length than ``env_steps``.
    """
    lengths = {"iterations": len(iterations), **{name: len(v) for name, v in series.items()}}
    for name, length in lengths.items():
        if length != len(env_steps) or length == 0:
            raise ValueError(
                f"learning_figure: {name} has {length} points, env_steps has {len(env_steps)}"
            )
    figure, axes = _blank(title)
    scale, unit = (1e6, "millions") if max(env_steps) >= 2e5 else (1e3, "thousands")
    x = np.asarray(env_steps, dtype=np.float64) / scale
    marker = "o" if len(x) < _FEW_POINTS else ""
    for place, (name, values) in enumerate(series.items()):
        colour = SERIES[place % len(SERIES)]
        raw = np.asarray(values, dtype=np.float64)
        axes.plot(x, raw, color=colour, alpha=0.3, linewidth=0.8, zorder=2)
        smooth = moving_average(raw, 1 + 2 * (len(raw) // _SMOOTHED_OVER))
        axes.plot(x, smooth, color=colour, linewidth=2.0, marker=marker, label=name, zorder=3)
    axes.set_xlabel(f"environment steps ({unit}), adaptation included")
    axes.set_ylabel("return")
    _iterations_on_top(axes, np.asarray(iterations, dtype=np.float64), x)
    _legend(axes, None)
    show_literally(figure)
    save_figure(figure, path)


def scaling_figure(
    path: Path, title: str, panels: Mapping[str, Mapping[str, Sequence[float]]], x: Sequence[float]
) -> None:
    """Draw quantities against the number of tasks (a logarithmic axis), one panel each.

    Args:
        path: its suffix decides the format.
        title: of the figure.
        panels: by label of its vertical axis, the named series of each panel.
        x: numbers of tasks, the same for all series.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(3.4 * len(panels), 3.4), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=11, color=INK, x=0.02, ha="left")
    for place, (label, series) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), place)
        style_axes(axes)
        axes.set_xscale("log")
        for number, (name, values) in enumerate(series.items()):
            colour = SERIES[(number + 1) % len(SERIES)]
            axes.plot(x, values, color=colour, marker="o", markersize=4, linewidth=1.6, label=name)
        axes.set_xticks(list(x), [f"{value:g}" for value in x])
        axes.set_xticks([], minor=True)
        axes.set_ylim(bottom=0.0)
        axes.set_xlabel("tasks per meta-iteration")
        axes.set_ylabel(label)
        if place == 1:
            _legend(axes, None)
    save_figure(figure, path)


def _blank(title: str) -> "tuple[Figure, Axes]":
    """Return a figure with one plain pair of axes."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=_SIZE, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11, color=INK, loc="left", pad=10)
    style_axes(axes)
    return figure, axes


def style_axes(axes: "Axes") -> None:
    """Give a pair of axes the look of all figures here."""
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_AXIS)
    axes.tick_params(colors=INK, labelsize=9, length=3, color=_AXIS)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.margins(x=0.03)


def _draw_curve(axes: "Axes", label: str, curve: CurveSummary, place: int) -> None:
    """Draw one adaptation curve: the one at place 0 in front and strong."""
    strong = place == 0
    colour, dashes = (_AGENT, "-") if strong else _FLOORS[(place - 1) % len(_FLOORS)]
    steps = np.arange(len(curve.iqm))
    alpha, depth = (0.22, 2) if strong else (0.12, 1)
    axes.fill_between(
        steps, curve.ci_low, curve.ci_high, color=colour, alpha=alpha, linewidth=0, zorder=depth
    )
    axes.plot(
        steps,
        curve.iqm,
        color=colour,
        linestyle=dashes,
        linewidth=2.2 if strong else 1.4,
        marker="o",
        markersize=5 if strong else 3.5,
        label=label,
        zorder=depth + 2,
    )


def _iterations_on_top(
    axes: "Axes", iterations: NDArray[np.float64], x: NDArray[np.float64]
) -> None:
    """Label the upper edge with round meta-iterations at the x where they ended."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    low, high = iterations.min(), iterations.max()
    rounds = MaxNLocator(nbins=6, integer=True).tick_values(low, high)
    rounds = rounds[(rounds >= low) & (rounds <= high)]
    top = axes.secondary_xaxis("top")
    top.set_xticks(np.interp(rounds, iterations, x), [f"{value:.0f}" for value in rounds])
    top.set_xlabel("meta-iterations", fontsize=8, color="#777777")
    top.tick_params(labelsize=8, length=2, colors="#777777")
    top.spines["top"].set_visible(False)


def moving_average(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Centred mean of the finite values in an odd ``width`` of places; NaN where there is none."""
    known = np.isfinite(values)
    window = np.ones(width)
    total = np.convolve(np.where(known, values, 0.0), window, mode="same")
    number = np.convolve(known.astype(np.float64), window, mode="same")
    return np.where(number > 0, total / np.maximum(number, 1.0), np.nan)


def _ends(values: Sequence[float]) -> str:
    """Return "first → last" with as many decimals as the larger one deserves."""
    first, last = values[0], values[-1]
    decimals = 1 if max(abs(first), abs(last)) >= 10 else 2
    return f"{first:.{decimals}f} → {last:.{decimals}f}".replace("-", "−")


def _legend(axes: "Axes", title: str | None) -> None:
    legend = axes.legend(
        title=title,
        fontsize=9,
        title_fontsize=8,
        alignment="left",
        framealpha=0.85,
        edgecolor="none",
        labelcolor=INK,
    )
    legend.get_title().set_color("#777777")


def show_literally(figure: "Figure") -> None:
    """Let no text of a figure be a formula: names come from stored configs, and may hold a $.

    Not for logarithmic axes, whose numbers are formulas. Letters that no font can have, as in the
    name of a folder that is no UTF-8, become question marks.
    """
    from matplotlib.text import Text  # noqa: PLC0415

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(text.get_text().encode(errors="replace").decode())


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure, whole or not at all; the suffix of ``path`` decides the format.

    The same figure makes the same bytes. Letters in a PDF are TrueType, which can be searched, cut
    out and edited, and which publishers accept.

    Raises:
        ValueError: matplotlib knows no such format.
    """
    import matplotlib as mpl  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.removeprefix(".")
    picture = io.BytesIO()
    with mpl.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "metarl"}):
        figure.savefig(picture, dpi=_DPI, format=kind, metadata=_NO_DATE.get(kind))
    write_bytes_atomic(path, picture.getvalue())
