"""Grid mazes: find a hidden goal in an unknown maze, then find it again.

Task. Cells are (row, column) from the top left; a maze is drawn afresh for every task.

========= ============== ======================================================================
name      shape          how it is drawn
========= ============== ======================================================================
``walls`` [side, side]   1 wall, 0 free: a perfect maze by randomised depth-first search, then
                         ``open_share`` of the walls left between two rooms are taken out; of its
                         part (below)
``goal``  [2]            uniform over the free cells
``start`` [2]            uniform over the free cells that are at least (side - 1) / 2 moves away
                         from the goal; there always is one
========= ============== ======================================================================

Every layout is of one of two parts, by a hash of its walls: training draws from the one and
``test`` from the other, so that none of its layouts is ever met in training. Depth-first search
makes few perfect mazes of small sides, 4 of side 5, 88 of side 7 and 3820 of side 9, and each part
has half of them: in training as in the list, layouts come back with other starts and goals. A hall
with all walls between rooms taken out (``open_share`` 1) is one layout, and in both parts.

``shifted`` are mazes of a side 4 larger, with the same horizon. They need no part, as training has
none of that side; they are of the one of ``test``, for those who train on that side too.

A task is refused where no way of one move at least leads from its start to its goal.

Observation. As the config asks; its size does not depend on the maze's side.

================== ========== ===================================================================
part               entries    what it is
================== ========== ===================================================================
``position``       2          row, column: cells from the maze's middle, divided by half of
                              ``side - 1`` of the config. Mazes of that side span [-1, 1], larger
                              ones more: a move is the same everywhere, 2 / (side - 1)
``view`` 1         4          1 where the cell up, right, down, left is a wall, else 0
``view`` 3 or 5    9 or 25    the patch of so many cells a side around the point, row by row; what
                              lies outside of the maze counts as wall
================== ========== ===================================================================

The goal is never seen. Walls are, which is why the family counts as one that shows itself at the
start; with ``view`` 0 only the start cell shows, and walls are felt by running into them.

Action. One of 4: up (row - 1), right (column + 1), down, left. A move into a wall does nothing.

Reward per step. Minus ``step_cost``, and 1 more for the step that reaches the goal. No unit.

Horizon. ``side`` squared in the presets. Terminates at the goal.

Start. The task's own cell, in every episode: what one episode found the next one can use.

Source. The mazes of Duan et al. 2016 (RL^2) and Mishra et al. 2018 (SNAIL) are seen in first person
by rendered images; this is their grid. From the papers are the goal's reward and the step costs
(0.04 in ``rl2-2016``, 0.01 in ``snail-2018``); sides, horizons, views and the drawing of start and
goal are ours. ``rl2-2016-large`` is the size of the shifted mazes of ``rl2-2016``, to train on.
``blind`` is ours: position alone, with loops.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.checks import COUNT, NON_NEGATIVE, UNIT, Allowed, check_fields
from metarl.envs import drawing
from metarl.envs.maze_drawing import draw_mazes
from metarl.envs.maze_layouts import (
    MAX_SIDE,
    SIDE,
    distances,
    fault_in_cell,
    fault_in_layout,
    flat_cells,
    refuse_faulty_cells,
    refuse_faulty_layouts,
)
from metarl.envs.refusals import refuse_other_actions, refuse_other_tasks
from metarl.envs.task_lists import EndlessTasks
from metarl.seeding import Streams
from metarl.types import EnvSpec, Parameter, Step, Tasks

_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
_BORDER = 2  # cells around a maze: as far as the largest view reaches
_VIEW_ENTRIES = {0: 0, 1: 4, 3: 9, 5: 25}
_VIEW = Allowed(0, 5, "0, 1, 3 or 5", whole=True)
_LARGER = 4
_PIXELS = 16  # of a cell in a picture


@dataclass(frozen=True, kw_only=True)
class GridMazeConfig:
    """A walk through an unknown maze."""

    side: int = 9
    """Cells along a side of the maze, its outer walls included; odd."""
    open_share: float = 0.0
    """Share of the walls between two rooms of a perfect maze that is taken out."""
    position: bool = True
    """Whether one's place in the maze is observed."""
    view: int = 3
    """Walls observed: 0 none, 1 in the four directions, 3 or 5 in a patch of that side."""
    step_cost: float = 0.04
    """Reward lost at each step."""
    horizon: int = 81
    """Steps of an episode."""

    def __post_init__(self) -> None:
        rules = {"side": SIDE, "open_share": UNIT, "step_cost": NON_NEGATIVE, "horizon": COUNT}
        even_view = _VIEW.accepts(self.view) and self.view not in _VIEW_ENTRIES
        check_fields(
            self,
            rules | {"view": _VIEW},
            f"GridMazeConfig.view must be {_VIEW.text}, got {self.view!r}" if even_view else None,
            None
            if self.position or self.view
            else "GridMazeConfig.view must not be 0 where position is False: nothing is observed",
        )


PRESETS: Mapping[str, GridMazeConfig] = {
    "rl2-2016": GridMazeConfig(),
    "rl2-2016-large": GridMazeConfig(side=13, horizon=169),
    "snail-2018": GridMazeConfig(step_cost=0.01, position=False, view=5),
    "blind": GridMazeConfig(open_share=0.25, view=0),
}


class GridMazeEnv:
    """E walkers in each of K mazes. Owns where they are.

    Mazes of any one side will do. The layouts of all tasks lie in one flat tensor, each inside a
    border, and a walker is a place in it: to move is to add an offset.
    """

    threads = 1

    def __init__(self, spec: EnvSpec, config: GridMazeConfig, device: str) -> None:
        self.spec = spec
        self._config, self._device = config, device

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        """Put E walkers at the start of each maze; return obs [K, E, O].

        Raises:
            InputError: the walls, the start or the goal of a task cannot be; the task is named.
        """
        refuse_other_tasks(self.spec, ("walls", "start", "goal"), tasks)
        parameter = {name: leaf.to(self._device) for name, leaf in tasks.parameter.items()}
        walls, start, goal = (parameter[name] for name in ("walls", "start", "goal"))
        refuse_faulty_layouts(self.spec.name, walls)
        refuse_faulty_cells(self.spec.name, walls, {"start": start, "goal": goal})
        num_tasks, self._side = walls.shape[:2]
        width = self._side + 2 * _BORDER
        padded = torch.nn.functional.pad(walls, [_BORDER] * 4, value=1.0)
        self._walls, self._free = padded.flatten(), padded.flatten() == 0
        first = torch.arange(num_tasks, device=self._device) * width**2
        self._first = first[:, None]
        self._start = (first + flat_cells(start + _BORDER, width))[:, None]
        self._goal = (first + flat_cells(goal + _BORDER, width))[:, None]
        self._at = self._start.repeat(1, episodes)
        self._moves = _offsets(_MOVES, width).to(self._device)
        self._seen = _offsets(_seen(self._config.view), width).to(self._device)
        self._places = self._observed_places(width)
        return self._observe()

    def restart(self, copies: Tensor, streams: Streams) -> Tensor:
        """Put the walkers of ``copies`` [K, E] bool at the start; return obs [K, E, O]."""
        self._at = torch.where(copies, self._start, self._at)
        return self._observe()

    def step(self, action: Tensor, running: Tensor) -> Step:
        """Move the running walkers by actions [K, E]."""
        refuse_other_actions(self.spec, action, running.shape)
        target = self._at + self._moves[action]
        self._at = torch.where(self._free.take(target) & running, target, self._at)
        there = self._at == self._goal
        return Step(
            obs=self._observe(),
            reward=there.to(torch.float32).sub_(self._config.step_cost),
            terminated=there,
            faulty=torch.zeros_like(running),
            success=there.clone(),
        )

    def place(self, task: int, episode: int) -> NDArray[np.float64]:
        """Return the row and column of a walker, [2]."""
        return np.array(self._cell(self._at[task, episode]), dtype=np.float64)

    def picture(
        self, task: int, episode: int, path: Sequence[NDArray[np.float64]] = ()
    ) -> NDArray[np.uint8]:
        """Draw one walker in its maze: [16 side, 16 side, 3] RGB, with its start and its goal.

        The ``path`` leads to the walker through earlier cells.
        """
        width = self._side + 2 * _BORDER
        grid = self._walls.view(-1, width, width)[task]
        image = drawing.canvas(self._side * _PIXELS, self._side * _PIXELS)
        for row, column in (grid[_BORDER:-_BORDER, _BORDER:-_BORDER] == 1).nonzero().tolist():
            _fill(image, row, column, drawing.WALL)
        _fill(image, *self._cell(self._start[task, 0]), drawing.START)
        _fill(image, *self._cell(self._goal[task, 0]), drawing.GOAL)
        way = (np.vstack((*path, self.place(task, episode))) + 0.5) * _PIXELS
        middles = [(x, y) for y, x in way]
        drawing.path(image, middles, 0.2 * _PIXELS)
        drawing.disc(image, middles[-1], 0.36 * _PIXELS, drawing.AGENT)
        return image

    def _cell(self, place: Tensor) -> tuple[int, int]:
        """Return the row and column of a place in the flat tensor."""
        width = self._side + 2 * _BORDER
        row, column = divmod(int(place) % width**2, width)
        return row - _BORDER, column - _BORDER

    def _observed_places(self, width: int) -> Tensor:
        """Return what ``position`` shows at each place of one layout with its border, [P, 2]."""
        axis = 2.0 * torch.arange(-_BORDER, width - _BORDER) - (self._side - 1)
        axis = (axis / (self._config.side - 1)).to(torch.float32)
        return torch.cartesian_prod(axis, axis).to(self._device)

    def _observe(self) -> Tensor:
        parts = []
        if self._config.position:
            place = (self._at - self._first).flatten()
            parts.append(self._places.index_select(0, place).view(*self._at.shape, 2))
        if self._config.view:
            parts.append(self._walls.take(self._at[..., None] + self._seen))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def shortest_path(config: GridMazeConfig, tasks: Tasks, episodes: int, _streams: Streams) -> Tensor:
    """Return what one who knows the maze gets in each episode, [K, episodes].

    That is the shortest way to the goal, or standing still where the horizon is too short for it.
    """
    walls, start, goal = (tasks.parameter[name] for name in ("walls", "start", "goal"))
    place = flat_cells(start, walls.shape[-1])
    moves = distances(walls, goal).flatten(1).gather(1, place[:, None])
    in_time = moves <= config.horizon
    steps = moves.clamp(max=config.horizon)
    return (in_time.float() - config.step_cost * steps).expand(-1, episodes)


def build(
    name: str, config: GridMazeConfig, device: str, _threads: int
) -> tuple[EndlessTasks, GridMazeEnv]:
    """Build the distribution and the environment."""
    size = 2 * config.position + _VIEW_ENTRIES[config.view]
    spec = EnvSpec(name, size, len(_MOVES), True, config.horizon, score_is_total=False)
    last = float(MAX_SIDE + _LARGER - 2)
    shape, values = (None, None), (0.0, 1.0)
    about = {
        "walls": Parameter("1 wall, 0 free", "", shape, 0.0, 1.0, values, fault_in_layout),
        "start": Parameter("row, column of the start", "", (2,), 1.0, last, fault=fault_in_cell),
        "goal": Parameter("row, column of the goal", "", (2,), 1.0, last, fault=fault_in_cell),
    }
    draw = partial(draw_mazes, open_share=config.open_share)
    mazes = EndlessTasks(
        name,
        partial(draw, side=config.side, part="train"),
        device,
        about,
        test=partial(draw, side=config.side, part="test"),
        shifted=partial(draw, side=config.side + _LARGER, part="test"),
    )
    return mazes, GridMazeEnv(spec, config, device)


def _seen(view: int) -> tuple[tuple[int, int], ...]:
    """Return the cells that a view shows, relative to the walker."""
    if view <= 1:
        return _MOVES * view
    reach = range(-(view // 2), view // 2 + 1)
    return tuple((row, column) for row in reach for column in reach)


def _offsets(cells: tuple[tuple[int, int], ...], width: int) -> Tensor:
    return torch.tensor([row * width + column for row, column in cells], dtype=torch.int64)


def _fill(image: drawing.Raster, row: int, column: int, colour: drawing.Colour) -> None:
    top, left = row * _PIXELS, column * _PIXELS
    drawing.box(image, top, left, top + _PIXELS, left + _PIXELS, colour)
