"""Point maze: a ball is pushed through a maze of walls that it feels but does not see.

Task. ``walls``, ``start`` and ``goal`` in cells of 1 m, or ``goal`` alone in a given layout
(``maze_tasks``). The goal shows in the reward alone, walls by running into them.

Observation (4 entries):

===== ========================== ====
index what                       unit
===== ========================== ====
0-1   position x, y              m
2-3   velocity along x, y        m/s
===== ========================== ====

Action. Two numbers; divided by ``action_scale`` and clipped to [-1, 1] they are the force along x
and y as shares of 100 N. The ball weighs 4.19 kg; before each step its velocities are clipped to
[-5, 5] m/s, without which it would go at up to 100.

Reward, end, start. ``maze_world``: exp(-distance in m), or 1 within 0.45 m with ``sparse``; never
terminates; at rest in the start's cell, up to 0.25 m off its middle.

Horizon. Steps of 0.01 s: 300 in ``umaze``, 600 in ``medium``, 800 in ``large``. At full speed a
cell takes 20 of them.

Source. PointMaze v3 of gymnasium-robotics 1.4, its dynamics to 1e-10. There the ball also touches
the floor, which changes nothing: it cannot move up or down. The ``generated`` mazes, of side 9 and
with 600 steps, are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from metarl.envs.maze_tasks import LARGE, MEDIUM, UMAZE, MazeConfig
from metarl.envs.maze_world import Walker, build_maze
from metarl.envs.mujoco_env import MujocoEnv
from metarl.envs.physics import load_asset
from metarl.envs.task_lists import EndlessTasks


@dataclass(frozen=True, kw_only=True)
class PointMazeConfig(MazeConfig):
    """A ball in a maze."""

    horizon: int = 600
    """Steps of an episode."""


PRESETS: Mapping[str, PointMazeConfig] = {
    "generated": PointMazeConfig(),
    "generated-sparse": PointMazeConfig(sparse=True),
    "umaze": PointMazeConfig(layout=UMAZE, horizon=300),
    "medium": PointMazeConfig(layout=MEDIUM),
    "large": PointMazeConfig(layout=LARGE, horizon=800),
}


def build(
    name: str, config: PointMazeConfig, device: str, threads: int
) -> tuple[EndlessTasks, MujocoEnv]:
    """Build the distribution and the environment."""
    ball = Walker(
        xml=load_asset("ball.xml"),
        substeps=1,
        cell=1.0,
        wall_height=0.4,
        num_positions=2,
        num_velocities=2,
        num_motors=2,
        speed_limit=5.0,
    )
    return build_maze(name, config, ball, device, threads)
