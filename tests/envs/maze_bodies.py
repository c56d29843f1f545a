"""Bodies in mazes, as the tests of their motion and of their tasks make them."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from metarl import envs
from metarl.envs.ant_maze import AntMazeConfig
from metarl.envs.mujoco_env import MujocoEnv
from metarl.envs.point_maze import PointMazeConfig
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import Tasks

POINT, ANT = "metarl/PointMaze-v0", "metarl/AntMaze-v0"
CONFIGS: Mapping[str, Any] = {POINT: PointMazeConfig, ANT: AntMazeConfig}
CELL = {POINT: 1.0, ANT: 4.0}
STREAMS = Streams(3, ("mazes",))

both = pytest.mark.parametrize("name", [POINT, ANT])


def build(name: str, **fields: Any) -> tuple[TaskDistribution, MujocoEnv]:
    distribution, env = envs.build(name, CONFIGS[name](**fields), threads=1)
    assert isinstance(env, MujocoEnv)
    return distribution, env


def tasks(**parameter: Any) -> Tasks:
    leaves = {name: torch.as_tensor(values).float() for name, values in parameter.items()}
    return Tasks(torch.full((len(next(iter(leaves.values()))),), -1), leaves)
