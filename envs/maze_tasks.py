"""Mazes as tasks for bodies in space: which maze, where one starts in it, and the hidden goal.

A task is a maze of its own, with a start and a goal, or a goal in a layout that all tasks share.
Cells are (row, column) from the top left, as in ``maze_layouts``; a goal need not be in the middle
of its cell. ``point_maze`` says how tasks are drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.checks import UNIT, InputError, check_fields
from metarl.envs.locomotion import LocomotionConfig
from metarl.envs.maze_drawing import Part, draw_cells, draw_mazes
from metarl.envs.maze_layouts import (
    SIDE,
    distances,
    fault_in_cell,
    fault_in_layout,
    refuse_faulty_cells,
    refuse_faulty_layouts,
)
from metarl.envs.task_lists import EndlessTasks
from metarl.seeding import Streams
from metarl.types import Parameter

UMAZE = "11111/1s001/11101/10001/11111"
MEDIUM = "11111111/1s011001/10010001/11000111/10010001/10100101/10001001/11111111"
LARGE = (
    "111111111111/1s0001000001/101101010101/100000010001/101111011101/100101000001/"
    "110101010111/100100010001/111111111111"
)

OFF_CENTRE = 0.25
"""How far off the middle of their cells goals and starts are, at most: a share of a cell."""


@dataclass(frozen=True, kw_only=True)
class MazeConfig(LocomotionConfig):
    """A maze, and what is paid for in it."""

    action_scale: float = 1.0
    """The policy's action is divided by this before it is clipped to [-1, 1]."""
    layout: str = ""
    """The maze of all tasks, row by row: 1 wall, 0 free, s the start, / between rows. Without one,
    each task is a maze of its own."""
    side: int = 9
    """Cells along a side of the tasks' own mazes, their outer walls included; odd. Not to be set
    with a layout."""
    open_share: float = 0.0
    """Share of the walls between two rooms of a perfect maze that is taken out. Not to be set with
    a layout."""
    sparse: bool = False
    """Whether only being at the goal is paid, and not being near it."""

    def __post_init__(self) -> None:
        LocomotionConfig.__post_init__(self)
        owner, usual = type(self).__name__, (type(self).side, type(self).open_share)
        fault = fault_in_text(self.layout) if self.layout else None
        check_fields(
            self,
            {"side": SIDE, "open_share": UNIT},
            f"{owner}.layout must be {fault}" if fault else None,
            f"{owner}.side and open_share are those of mazes of the tasks' own: with a layout they"
            f" must stay {usual[0]} and {usual[1]:g}, got {self.side!r} and {self.open_share!r}"
            if self.layout and (self.side, self.open_share) != usual
            else None,
        )


class Maze(NamedTuple):
    """A maze in space."""

    shape: tuple[int, int]
    """Rows and columns."""
    cell: float
    """Side of a cell in m."""
    height: float
    """Of the walls, in m."""
    layout: Tensor | None = None
    """[rows, columns], where it is the same in all tasks."""
    start: tuple[int, int] = (0, 0)
    """The start's cell in that layout."""

    def to_metres(self, cells: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return places x, y in m [..., 2] of cells [..., 2] (row, column)."""
        rows, columns = self.shape
        x = (cells[..., 1] + 0.5) * self.cell - columns / 2 * self.cell
        y = rows / 2 * self.cell - (cells[..., 0] + 0.5) * self.cell
        return np.stack((x, y), axis=-1)


def maze_of(config: MazeConfig, cell: float, height: float) -> Maze:
    """Return the maze of a config, with cells and walls of so many m."""
    if not config.layout:
        return Maze((config.side, config.side), cell, height)
    rows = config.layout.split("/")
    row = next(number for number, text in enumerate(rows) if "s" in text)
    layout = torch.tensor([[float(mark == "1") for mark in text] for text in rows])
    return Maze((len(rows), len(rows[0])), cell, height, layout, (row, rows[row].index("s")))


def fault_in_text(text: str) -> str | None:
    """Return what a layout's text must be and is not, or None; its sides may be odd or even."""
    rows = text.split("/")
    wrong = sorted(set(text) - set("01s/"))
    if wrong:
        return f"rows of 1, 0 and s with / between them, got {wrong[0]!r} in it"
    if len({len(row) for row in rows}) > 1:
        return f"rows of one length, got {' and '.join(sorted({str(len(row)) for row in rows}))}"
    edge = rows[0] + rows[-1] + "".join(row[:1] + row[-1:] for row in rows)
    if set(edge) != {"1"}:
        return f"closed by walls all round, got a free cell at the edge of {text!r}"
    if text.count("s") != 1 or "0" not in text:
        return f"with one start s and a free cell 0 at least, got {text!r}"
    walls = torch.tensor([[float(mark == "1") for mark in row] for row in rows])
    row = next(number for number, marks in enumerate(rows) if "s" in marks)
    start = torch.tensor([[row, rows[row].index("s")]])
    cut_off = (distances(_square(walls)[None], start)[0].isinf() & (_square(walls) == 0)).nonzero()
    if len(cut_off):
        place = tuple(cut_off[0].tolist())
        return f"a maze whose free cells can all be reached, got none to (row, column) {place}"
    return None


def refuse_faulty(parameter: Mapping[str, Tensor], owner: str, maze: Maze) -> None:
    """Check tasks by their parameters [K, ...].

    Raises:
        InputError: the walls, the start or the goal of a task cannot be; ``owner``, the task and
            what came are named.
    """
    goal = parameter["goal"].round()
    if maze.layout is None:
        walls, start = parameter["walls"], parameter["start"]
        if walls.shape[1:] != maze.shape:
            sizes = [" x ".join(map(str, shape)) for shape in (maze.shape, walls.shape[1:])]
            text = f"walls must be {sizes[0]}, as the config's side says, got {sizes[1]}"
            raise InputError([f"{owner}: {text}"])
        refuse_faulty_layouts(owner, walls)
    else:
        walls = _square(maze.layout).to(goal.device).expand(len(goal), -1, -1)
        start = torch.tensor(maze.start, device=goal.device).expand(len(goal), 2)
    refuse_faulty_cells(owner, walls, {"start": start, "goal": goal})


def tasks_of(name: str, config: MazeConfig, maze: Maze, device: str) -> EndlessTasks:
    """Return the tasks of a config."""
    last = float(max(maze.shape) - 1)
    goal = Parameter("row, column of the goal", "cells", (2,), 0.5, last - 0.5)
    if maze.layout is not None:
        free = _square(maze.layout) == 0
        free[maze.start] = False
        return EndlessTasks(name, partial(_draw_goals, free=free), device, {"goal": goal})
    shape, values = (config.side, config.side), (0.0, 1.0)
    about = {
        "walls": Parameter("1 wall, 0 free", "", shape, 0.0, 1.0, values, fault_in_layout),
        "start": Parameter(
            "row, column of the start", "", (2,), 1.0, last - 1, fault=fault_in_cell
        ),
        "goal": goal,
    }
    draw = partial(_draw_mazes, side=config.side, open_share=config.open_share)
    train, test = partial(draw, part="train"), partial(draw, part="test")
    return EndlessTasks(name, train, device, about, test=test)


def _draw_mazes(
    num_tasks: int, streams: Streams, side: int, open_share: float, part: Part
) -> dict[str, Tensor]:
    drawn = draw_mazes(num_tasks, streams, side, open_share, part)
    return drawn | {"goal": _off_centre(drawn["goal"], streams)}


def _draw_goals(num_tasks: int, streams: Streams, free: Tensor) -> dict[str, Tensor]:
    free = free.to(streams.device).expand(num_tasks, -1, -1)
    cell = draw_cells(free, streams.uniform("goal", num_tasks, ()))
    return {"goal": _off_centre(cell, streams)}


def _off_centre(cells: Tensor, streams: Streams) -> Tensor:
    offset = 2.0 * OFF_CENTRE * streams.uniform("place in the cell", len(cells), (2,)) - OFF_CENTRE
    return cells + offset


def _square(walls: Tensor) -> Tensor:
    """Return a layout made square by more wall below or to its right."""
    rows, columns = walls.shape
    side = max(rows, columns)
    return torch.nn.functional.pad(walls, (0, side - columns, 0, side - rows), value=1.0)
