"""Grid mazes' tasks: where start and goal lie, larger mazes, and what is refused."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from metarl.checks import InputError
from metarl.envs.grid_maze import PRESETS, GridMazeConfig
from metarl.envs.maze_layouts import distances
from metarl.types import Tasks
from tests.envs.grid_mazes import MAZE, NAME, STREAMS, make, one_task
from tests.envs.mazes import layout

CELLS = ("walls", "start", "goal")


@pytest.mark.parametrize(("side", "share"), [(5, 0.0), (5, 1.0), (9, 0.0), (15, 0.3)])
def test_start_and_goal_are_free_and_not_near(side: int, share: float) -> None:
    distribution, _ = make(GridMazeConfig(side=side, open_share=share))
    tasks = distribution.sample(2000, STREAMS).parameter
    moves = distances(tasks["walls"], tasks["goal"])
    start, goal = tasks["start"].long(), tasks["goal"].long()
    every = torch.arange(2000)
    assert (moves[every, goal[:, 0], goal[:, 1]] == 0).all()
    apart = moves[every, start[:, 0], start[:, 1]]
    assert torch.isfinite(apart).all()
    assert apart.min() == (side - 1) // 2
    assert (tasks["walls"].shape[1:]) == (side, side)


def test_goals_are_uniform_over_free_cells() -> None:
    distribution, _ = make(GridMazeConfig(side=7))
    tasks = distribution.sample(12_000, STREAMS).parameter
    chance = (tasks["walls"] == 0).double().flatten(1)
    expected = (chance / chance.sum(1, keepdim=True)).sum(0)
    place = (7 * tasks["goal"][:, 0] + tasks["goal"][:, 1]).long()
    met = torch.bincount(place, minlength=49).double()
    assert (met[expected == 0] == 0).all()
    inside = expected > 0
    squares = ((met - expected)[inside] ** 2 / expected[inside]).sum().item()
    freedom = int(inside.sum()) - 1
    assert squares < freedom + 4 * math.sqrt(2 * freedom)


def test_shifted_mazes_are_larger_with_the_same_moves_and_horizon() -> None:
    distribution, env = make(PRESETS["blind"])
    tasks = distribution.held_out(50, "shifted")
    assert tasks.parameter["walls"].shape == (50, 13, 13)
    assert env.spec.horizon == 81
    before = env.reset(tasks, 1, STREAMS)
    seen = [before]
    for action in torch.randint(4, (200, 50, 1), generator=torch.Generator().manual_seed(0)):
        seen.append(env.step(action, torch.ones(50, 1, dtype=torch.bool)).obs)
    lengths = torch.stack(seen).diff(dim=0).abs().sum(-1)
    assert lengths.max().item() == pytest.approx(2 / 8)
    assert ((lengths < 1e-6) | ((lengths - 2 / 8).abs() < 1e-6)).all()
    assert torch.stack(seen).abs().max() == 1.25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": 8}, "side must be an odd whole number from 5 to 25, got 8"),
        ({"side": 3}, "side must be an odd whole number from 5 to 25, got 3"),
        ({"side": 27}, "side must be an odd whole number from 5 to 25, got 27"),
        ({"side": 9.0}, "side must be an odd whole number from 5 to 25, got 9.0"),
        ({"view": 2}, "view must be 0, 1, 3 or 5, got 2"),
        ({"view": 7}, "view must be 0, 1, 3 or 5, got 7"),
        ({"view": True}, "view must be 0, 1, 3 or 5, got True"),
        ({"position": False, "view": 0}, "view must not be 0 where position is False"),
        ({"position": 1}, "position must be True or False, got 1"),
        ({"open_share": 1.5}, "open_share must be a number from 0 to 1, got 1.5"),
        ({"step_cost": -0.01}, "step_cost must be a finite number >= 0, got -0.01"),
    ],
)
def test_bad_configs_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^GridMazeConfig.{message}"):
        replace(GridMazeConfig(), **change)


@pytest.mark.parametrize(
    ("start", "goal", "message"),
    [
        ((1, 1), (2, 2), r"goal of task 1 must be a free cell of its maze, \(2, 2\) is a wall"),
        ((0, 1), (1, 1), r"start of task 1 must be a free cell of its maze, \(0, 1\) is a wall"),
        ((1, 1), (1, 8), r"goal of task 1 must be a cell of its maze of side 7, got \(1, 8\)"),
        ((1, 1.5), (1, 1), r"start of task 1 must be a cell of its maze .*, got \(1, 1.5\)"),
        ((1, 1), (1, 1), r"start and goal of task 1 must differ, both are \(1, 1\)"),
        ((1, 1), (5, 5), r"goal of task 1 must be reachable from its start \(1, 1\), got \(5, 5\)"),
    ],
)
def test_tasks_with_walls_in_the_wrong_place_are_refused(
    start: tuple[int, int], goal: tuple[int, int], message: str
) -> None:
    _, env = make(GridMazeConfig(side=7))
    walls = layout(MAZE)
    walls[4, 5] = walls[5, 4] = 1
    tasks = (one_task((1, 1), (3, 3), walls), one_task(start, goal, walls))
    leaves = {leaf: torch.cat([task.parameter[leaf] for task in tasks]) for leaf in CELLS}
    with pytest.raises(InputError, match=f"^{NAME}: {message}$"):
        env.reset(Tasks(torch.tensor([-1, -1]), leaves), 1, STREAMS)
    open_ring = layout(MAZE)
    open_ring[0, 1] = 0
    with pytest.raises(InputError, match=f"^{NAME}: walls of task 0 must be .* outer ring is wall"):
        env.reset(one_task((1, 1), (3, 3), open_ring), 1, STREAMS)
