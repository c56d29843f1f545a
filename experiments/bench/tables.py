"""Benchmarks as tables for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from metarl.experiments.bench.compare import sections
from metarl.experiments.bench.measure import SHARE, Figure
from metarl.experiments.bench.scaling import read_cells
from metarl.runs import Config


def print_benchmark(result: Config, console: Console) -> None:
    """Print every figure with its spread, and the comparison where there is one."""
    table = Table(title=f"{result['preset']}: medians of {result['rounds']} rounds")
    table.add_column("phase")
    table.add_column("figure")
    for name in ("median", "lowest", "highest"):
        table.add_column(name, justify="right")
    table.add_column("unit")
    for section, figures in sections(result).items():
        for number, (name, figure) in enumerate(figures.items()):
            table.add_row(section if number == 0 else "", _words(name), *_cells(figure))
        table.add_section()
    console.print(table)
    if "peers_note" in result:
        console.print(f"note: {result['peers_note']}")
    if "comparison" in result:
        _print_comparison(result["comparison"], console)


def print_targets(result: Config, console: Console) -> None:
    """Print what a GPU must reach beside what it reaches."""
    table = Table(title="targets of a machine with a GPU")
    table.add_column("work")
    for name in ("target", "median", "lowest", "highest"):
        table.add_column(name, justify="right")
    for name in ("unit", "met", "conditions"):
        table.add_column(name)
    rows: Any = result["targets"]
    for row in rows:
        figure = Figure(**row["measured"])
        target, met = _number(row["target"], figure.unit), "yes" if row["met"] else "no"
        table.add_row(row["name"], target, *_cells(figure), met, row["conditions"])
    console.print(table)


def print_envs(result: Config, console: Console) -> None:
    """Print a line for each environment."""
    table = Table(title=f"random actions, medians of {result['rounds']} rounds")
    for name in ("environment", "preset"):
        table.add_column(name, overflow="fold")
    for name in ("copies", "env steps/s", "physics alone", "share"):
        table.add_column(name, justify="right")
    rows: Any = result["environments"]
    for row in rows:
        figures = {name: Figure(**entry) for name, entry in row["figures"].items()}
        numbers = (figures.get(name) for name in ("environment", "physics", "share"))
        cells = ("" if one is None else _number(one.median, one.unit) for one in numbers)
        name = row["name"].removeprefix("metarl/")
        table.add_row(name, row["preset"], str(row["copies"]), *cells)
    console.print(table)


def print_scaling(result: Config, console: Console) -> None:
    """Print a line for each number of tasks on each layout."""
    table = Table(title=f"{result['preset']}: one meta-iteration")
    for name in ("processes", "threads", "tasks", "s", "ms per task", "env steps/s", "MiB"):
        table.add_column(name, justify="right")
    for cell in read_cells(result):
        table.add_row(
            str(cell.processes),
            str(cell.threads),
            str(cell.tasks),
            f"{cell.iteration_s.median:.4g}",
            f"{cell.ms_per_task:.3g}",
            f"{cell.env_steps_per_s.median:,.0f}",
            f"{cell.memory_mib:,.0f}",
        )
    console.print(table)


def _print_comparison(comparison: Any, console: Console) -> None:
    table = Table(title=f"beside {comparison['file']} ({comparison['started']})")
    table.add_column("phase")
    table.add_column("figure")
    for name in ("old", "new", "old / new"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for section, rows in comparison["figures"].items():
        for number, (name, row) in enumerate(rows.items()):
            table.add_row(section if number == 0 else "", _words(name), *_compared(row))
        table.add_section()
    console.print(table)
    for note in comparison["notes"]:
        console.print(f"note: {note}")


def _compared(row: Mapping[str, Any]) -> tuple[str, ...]:
    old, new = (_number(row[name], row["unit"]) for name in ("old", "new"))
    return old, new, f"{row['old_over_new']:.2f}", str(row["verdict"])


def _cells(figure: Figure) -> tuple[str, ...]:
    numbers = (figure.median, figure.low, figure.high)
    return (*(_number(value, figure.unit) for value in numbers), figure.unit)


def _number(value: float, unit: str) -> str:
    if unit == SHARE:
        return f"{value:.1%}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _words(name: str) -> str:
    return name.replace("_", " ")
