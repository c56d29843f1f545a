"""Adaptation curves as a table for people."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from metarl.experiments.evaluation.scoring import Curve, EvaluationRequest, score_label
from metarl.experiments.experiment import Parts

_COLUMNS = ("n", "episodes", "env steps", "mean", "IQM [95% interval over tasks]", "success")


def print_curves(
    curves: Mapping[str, Curve],
    parts: Parts,
    console: Console,
    request: EvaluationRequest | None = None,
) -> None:
    """Print adaptation curves: what each score cost, its mean, and its IQM with an interval.

    Episodes and env steps are those of a task that were spent before the scored round; the column
    of success rates is there where a curve has any.
    """
    kind = "held-out" if request is None or request.split == "test" else request.split
    label = score_label(parts, request)
    table = Table(title=f"{label} on {kind} tasks, after n adaptation steps")
    rows = {name: _rows(curve) for name, curve in curves.items()}
    successful = any(row[-1] for cells in rows.values() for row in cells)
    table.add_column("agent")
    for column in _COLUMNS if successful else _COLUMNS[:-1]:
        table.add_column(column, justify="right")
    for name, cells in rows.items():
        for number, row in enumerate(cells):
            table.add_row("" if number else name, *(row if successful else row[:-1]))
        table.add_section()
    console.print(table)


def _rows(curve: Curve) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for number, (mean, iqm, low, high) in enumerate(zip(*curve.summary, strict=True)):
        env_steps = success = ""
        if curve.played is not None:
            env_steps = f"{curve.played.env_steps[:, number].mean():,.0f}"
            rate = curve.played.success[:, number].mean()
            success = "" if rate.isnan() else f"{rate:.0%}"
        score = (f"{mean:.2f}", f"{iqm:.2f} [{low:.2f}, {high:.2f}]")
        rows.append((str(number), str(curve.episodes[number]), env_steps, *score, success))
    return rows
