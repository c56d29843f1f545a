"""How a meta-iteration's cost grows with its tasks, its threads and its processes.

Every cell of the table is ``metarl bench PRESET --phases iteration`` in processes of its own, so
that memory and thread pools are those of that cell alone.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.console import Console

from metarl.checks import COUNT, InputError, check_fields
from metarl.experiments.bench.measure import Figure, hardware
from metarl.runs import Config, system_facts

FORMAT = "metarl-bench-scaling-1"
_FIGURES = ("iteration_s", "env_steps_per_s")


@dataclass(frozen=True, kw_only=True)
class ScalingRequest:
    """Which numbers of tasks, on which processes and threads."""

    tasks: tuple[int, ...] = (20, 50, 100, 200, 500, 1000)
    """K, one after the other."""
    layouts: tuple[str, ...] = ("1x1", "1x2", "2x1")
    """Processes x threads of each."""
    rounds: int = 3
    """Timed meta-iterations of each, after one to warm up."""

    def __post_init__(self) -> None:
        wrong_tasks = [k for k in self.tasks if not COUNT.accepts(k)]
        wrong = [text for text in self.layouts if _layout(text) is None]
        check_fields(
            self,
            {"rounds": COUNT},
            *(f"tasks must each be {COUNT.text}, got {k!r}" for k in wrong_tasks),
            *(f"layouts must each be PROCESSESxTHREADS such as 2x1, got {t!r}" for t in wrong),
        )


class Layout(NamedTuple):
    """How a machine is used."""

    processes: int
    threads: int
    """Of each process."""


class Cell(NamedTuple):
    """What was measured for one number of tasks on one layout."""

    tasks: int
    processes: int
    threads: int
    iteration_s: Figure
    env_steps_per_s: Figure
    memory_mib: float
    """Largest resident memory of the first process, in MiB."""

    @property
    def ms_per_task(self) -> float:
        """Median time of an iteration, over its tasks."""
        return 1000.0 * self.iteration_s.median / self.tasks


def bench_scaling(
    preset: str, flags: Sequence[str], request: ScalingRequest, console: Console
) -> Config:
    """Measure every cell; return what ``--json`` prints.

    Args:
        preset: name of the experiment.
        flags: of ``metarl bench``, for all cells alike.
        request: the cells.
        console: told which cell is being measured.

    Raises:
        InputError: a cell failed; the message is its own.
    """
    cells = []
    for text in request.layouts:
        layout = _layout(text)
        assert layout is not None
        for tasks in request.tasks:
            console.print(f"measuring {tasks} tasks on {text} ...")
            cells.append(_measure(preset, flags, tasks, layout, request.rounds))
    return {
        "format": FORMAT,
        "preset": preset,
        "flags": list(flags),
        "rounds": request.rounds,
        "cells": [_as_json(cell) for cell in cells],
        "system": system_facts() | hardware(),
    }


def read_cells(result: Config) -> list[Cell]:
    """Return the cells of a result's JSON."""
    table: Any = result["cells"]
    rows = [{name: value for name, value in row.items() if name in Cell._fields} for row in table]
    figures = [{name: Figure(**row[name]) for name in _FIGURES} for row in rows]
    return [Cell(**(row | measured)) for row, measured in zip(rows, figures, strict=True)]


def panels_of(cells: Sequence[Cell]) -> dict[str, dict[str, list[float]]]:
    """Return what a figure shows: by quantity and layout, a value for each number of tasks."""
    labels = ("ms per task", "env steps/s", "memory of the first process in MiB")
    panels: dict[str, dict[str, list[float]]] = {label: {} for label in labels}
    for cell in cells:
        name = f"{cell.processes} process{'es' * (cell.processes > 1)} x {cell.threads} thread(s)"
        values = (cell.ms_per_task, cell.env_steps_per_s.median, cell.memory_mib)
        for panel, value in zip(panels.values(), values, strict=True):
            panel.setdefault(name, []).append(value)
    return panels


def _as_json(cell: Cell) -> Config:
    figures = {name: getattr(cell, name)._asdict() for name in _FIGURES}
    return cell._asdict() | figures | {"ms_per_task": cell.ms_per_task}


def _layout(text: str) -> Layout | None:
    """Read "2x1"; None where it is nothing of the kind."""
    numbers = text.split("x")
    if len(numbers) != 2 or not all(n.isascii() and n.isdecimal() and int(n) for n in numbers):
        return None
    return Layout(int(numbers[0]), int(numbers[1]))


def _measure(preset: str, flags: Sequence[str], tasks: int, layout: Layout, rounds: int) -> Cell:
    launcher = [sys.executable]
    if layout.processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone"]
        launcher += ["--nproc-per-node", str(layout.processes)]
    asked = ["--phases", "iteration", "--tasks-per-update", str(tasks), "--rounds", str(rounds)]
    asked += ["--threads", str(layout.threads), "--json", *flags]
    done = subprocess.run(
        [*launcher, "-m", "metarl.experiments", "bench", preset, *asked],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": str(layout.threads)},
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise InputError([f"{tasks} tasks on {layout.processes}x{layout.threads}: {last[0]}"])
    found = json.loads(done.stdout)
    figures = found["phases"]["iteration"]
    return Cell(
        tasks,
        layout.processes,
        layout.threads,
        Figure(**figures["meta_iteration"]),
        Figure(**figures["all_in"]),
        found["memory"]["host"]["median"],
    )
