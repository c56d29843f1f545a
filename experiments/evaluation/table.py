"""Adaptation curves as a table for people."""

from collections.abc import Mapping

from rich.console import Console

from metarl.experiments.evaluation.scoring import Curve, EvaluationRequest, score_label
from metarl.experiments.experiment import Parts
from metarl.protocols import HasMemory

_HEAD = ("n", "episodes", "env steps", "mean", "IQM", "95% interval", "success")
_GAP = "  "


def print_curves(
    curves: Mapping[str, Curve],
    parts: Parts,
    console: Console,
    request: EvaluationRequest | None = None,
) -> None:
    """Print adaptation curves, one below the other, by what they are of.

    Episodes and env steps are those of a task before the scored round, and the interval is that of
    the IQM over tasks. Success rates have a column where any curve has them.
    """
    kind, apart = "held-out", ""
    steps = "episodes of the trial" if isinstance(parts.agent, HasMemory) else "adaptation steps"
    if request is not None:
        kind = kind if request.split == "test" else request.split
        apart = f", {request.protocol}" if request.protocol != "standard" else ""
        apart += f", {request.shots}-shot" if request.shots else ""
    tables = {name: _rows(curve) for name, curve in curves.items()}
    rows = [_HEAD, *(row for table in tables.values() for row in table)]
    shown = len(_HEAD) if any(row[-1] for row in rows[1:]) else len(_HEAD) - 1
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:shown]

    def line(row: tuple[str, ...]) -> str:
        return _GAP + _GAP.join(map(str.rjust, row, widths))

    console.print(f"{score_label(parts, request)} on {kind} tasks, after n {steps}{apart}")
    console.print(line(_HEAD))
    for name, table in tables.items():
        console.print(name)
        for row in table:
            console.print(line(row))


def _rows(curve: Curve) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for number, (mean, iqm, low, high) in enumerate(zip(*curve.summary, strict=True)):
        env_steps = success = ""
        if curve.played is not None:
            env_steps = f"{curve.played.env_steps[:, number].mean():,.0f}"
            rate = curve.played.success[:, number].mean()
            success = "" if rate.isnan() else f"{rate:.0%}"
        score = (f"{mean:.2f}", f"{iqm:.2f}", f"[{low:.2f}, {high:.2f}]")
        rows.append((str(number), str(curve.episodes[number]), env_steps, *score, success))
    return rows
