"""GridNavi: a grid of open cells and a hidden goal cell, to be found and found again.

Task. ``goal`` [2], the column and row of a cell, uniform over all cells outside of the 2 x 2 corner
where episodes start: 21 on the 5 x 5 grid. It shows in the reward alone. Training meets every goal,
as published, so the ``test`` list is those same goals in turn (column by column): 21 tasks are all
of them, each once. There is nothing outside that range, hence no ``shifted`` list.

Observation. Column x and row y of the cell (2 entries), counted from 0. The numbers themselves, as
published: they are not scaled by the side.

Action. One of 5: 0 stays, 1 goes up (y + 1), 2 right (x + 1), 3 down (y - 1), 4 left (x - 1). A
step out of the grid stays.

Reward per step. 1 where the step ends on the goal (also by staying), else -0.1. No unit. Being
there is a step's ``success``.

Horizon. 15 steps. Never terminates: it pays to stay on the goal.

Start. Cell (0, 0).

Source. Zintgraf et al. 2020 (``varibad-2020``), whose trials have 4 episodes of each task. What can
be reached in a trial is known exactly: see ``metarl.envs.grid_navi_ceilings``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.checks import COUNT, Allowed, check_fields
from metarl.envs import drawing
from metarl.envs.drawing import Raster
from metarl.envs.refusals import refuse_other_actions, refuse_other_tasks
from metarl.envs.task_lists import EnumeratedTasks
from metarl.seeding import Streams
from metarl.types import EnvSpec, Parameter, Step, Tasks

MOVES = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
"""What each action adds to column and row."""
AT_GOAL, ELSEWHERE = 1.0, -0.1
"""The reward of a step."""

_CORNER = 2
_SIDE = Allowed(_CORNER + 1, 100, "a whole number from 3 to 100", whole=True)
_PIXELS_PER_CELL = 40


@dataclass(frozen=True, kw_only=True)
class GridNaviConfig:
    """A grid with a hidden goal cell."""

    horizon: int = 15
    """Steps of an episode."""
    side: int = 5
    """Cells along each side of the grid."""

    def __post_init__(self) -> None:
        check_fields(self, {"horizon": COUNT, "side": _SIDE})


PRESETS: Mapping[str, GridNaviConfig] = {"varibad-2020": GridNaviConfig()}


class GridNaviEnv:
    """E walkers for each of K goals. Owns their cells."""

    threads = 1

    def __init__(self, spec: EnvSpec, side: int, device: str) -> None:
        self.spec = spec
        self._side, self._device = side, device
        self._moves = torch.tensor(MOVES, dtype=torch.float32, device=device)

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        """Put E walkers per task into cell (0, 0); return obs [K, E, 2]."""
        refuse_other_tasks(self.spec, ("goal",), tasks)
        self._goal = tasks.parameter["goal"].to(self._device)[:, None]
        self._cell = torch.zeros(len(tasks.task_id), episodes, 2, device=self._device)
        return self._cell.clone()

    def restart(self, copies: Tensor, streams: Streams) -> Tensor:
        """Put the walkers of ``copies`` [K, E] bool into cell (0, 0); return obs [K, E, 2]."""
        self._cell = torch.where(copies[..., None], 0.0, self._cell)
        return self._cell.clone()

    def step(self, action: Tensor, running: Tensor) -> Step:
        """Apply actions [K, E] to the running walkers."""
        refuse_other_actions(self.spec, action, running.shape)
        moved = (self._cell + self._moves[action]).clamp(0.0, self._side - 1.0)
        self._cell = torch.where(running[..., None], moved, self._cell)
        there = (self._cell == self._goal).all(-1)
        never = torch.zeros_like(running)
        reward = torch.where(there, AT_GOAL, ELSEWHERE)
        return Step(self._cell.clone(), reward, terminated=never, faulty=never, success=there)

    def place(self, task: int, episode: int) -> NDArray[np.float64]:
        """Return the column and row of a walker, [2]."""
        cell: NDArray[np.float64] = self._cell[task, episode].double().cpu().numpy()
        return cell

    def picture(self, task: int, episode: int, path: Sequence[NDArray[np.float64]] = ()) -> Raster:
        """Draw the grid, y upwards: start, goal and walker; 40 pixels a cell, [H, W, 3] RGB.

        The ``path`` leads to the walker through earlier cells.
        """
        size = self._side * _PIXELS_PER_CELL
        image = drawing.canvas(size + 1, size + 1)

        def fill(cell: tuple[int, int], colour: drawing.Colour) -> None:
            left, bottom = cell[0] * _PIXELS_PER_CELL, size - cell[1] * _PIXELS_PER_CELL
            top, right = bottom - _PIXELS_PER_CELL, left + _PIXELS_PER_CELL
            drawing.box(image, top, left, bottom, right, colour)

        fill((0, 0), drawing.START)
        goal_x, goal_y = self._goal[task, 0].long().tolist()
        fill((goal_x, goal_y), drawing.GOAL)
        for edge in range(0, size + 1, _PIXELS_PER_CELL):
            drawing.box(image, edge, 0, edge + 1, size + 1, drawing.LINES)
            drawing.box(image, 0, edge, size + 1, edge + 1, drawing.LINES)
        way = (np.vstack((*path, self.place(task, episode))) + 0.5) * _PIXELS_PER_CELL
        middles = [(x, size - y) for x, y in way]
        drawing.path(image, middles, 0.1 * _PIXELS_PER_CELL)
        drawing.disc(image, middles[-1], 0.3 * _PIXELS_PER_CELL, drawing.AGENT)
        return image


def goal_cells(side: int) -> list[tuple[int, int]]:
    """Return the column and row of every cell where a goal may be, column by column."""
    cells = [(x, y) for x in range(side) for y in range(side)]
    return [(x, y) for x, y in cells if max(x, y) >= _CORNER]


def build(
    name: str, config: GridNaviConfig, device: str, _threads: int
) -> tuple[EnumeratedTasks, GridNaviEnv]:
    """Build the distribution and the environment."""
    cells = torch.tensor(goal_cells(config.side), dtype=torch.float32, device=device)
    about = Parameter(
        "cell of the goal: column, row",
        "",
        (2,),
        0.0,
        config.side - 1.0,
        values=tuple(map(float, range(config.side))),
        fault=_in_the_corner,
    )
    spec = EnvSpec(name, 2, len(MOVES), True, config.horizon, score_is_total=False)
    goals = EnumeratedTasks(name, {"goal": cells}, {"goal": about})
    return goals, GridNaviEnv(spec, config.side, device)


def _in_the_corner(goal: Tensor) -> str | None:
    if goal.max() >= _CORNER:
        return None
    return f"a cell outside of the 2 x 2 corner of the start, this one is {goal.tolist()}"
