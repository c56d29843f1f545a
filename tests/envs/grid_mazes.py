"""Grid mazes for tests: one drawn by hand, and the environment with a task in it."""

from typing import Any

import torch
from torch import Tensor

from metarl import envs
from metarl.envs.grid_maze import GridMazeConfig, GridMazeEnv
from metarl.seeding import Streams
from metarl.types import Tasks
from tests.envs.mazes import layout

NAME = "metarl/GridMaze-v0"
STREAMS = Streams(5, ("grid mazes",))
MAZE = """
#######
#...#.#
###.#.#
#...#.#
#.###.#
#.....#
#######
"""


def make(config: GridMazeConfig) -> tuple[Any, GridMazeEnv]:
    distribution, env = envs.build(NAME, config, threads=1)
    assert isinstance(env, GridMazeEnv)
    return distribution, env


def one_task(start: tuple[int, int], goal: tuple[int, int], walls: Tensor | None = None) -> Tasks:
    walls = layout(MAZE) if walls is None else walls
    cells = {"start": torch.tensor([start]).float(), "goal": torch.tensor([goal]).float()}
    return Tasks(torch.tensor([-1]), {"walls": walls[None], **cells})
