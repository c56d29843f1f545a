"""Ant maze: the four-legged ant walks through a maze of walls that it feels but does not see.

Task. ``walls``, ``start`` and ``goal`` in cells of 4 m, or ``goal`` alone in a given layout
(``maze_tasks``). The goal shows in the reward alone, walls by running into them.

Observation (29 entries):

===== ================================================================= ===========
index what                                                              unit
===== ================================================================= ===========
0-2   position of the torso, x, y, z                                    m
3-6   orientation of the torso, a quaternion (w, x, y, z)               none
7-14  hip, ankle of each leg: front left and right, back left and right rad
15-17 velocity of the torso, x, y, z                                    m/s
18-20 angular velocity of the torso, in its own frame                   rad/s
21-28 joint velocities, in the order of the angles                      rad/s
===== ================================================================= ===========

Action. Eight numbers; divided by ``action_scale`` and clipped to [-1, 1] they are the motors'
torques as shares of 150 N m: hip and ankle of the back right leg, then of the front left, front
right and back left one.

Reward, end, start. ``maze_world``: exp(-distance in m), or 1 within 0.45 m with ``sparse``; never
terminates, not even for an ant on its back; at rest, upright at 0.75 m with straight legs in the
start's cell, up to 1 m off its middle.

Horizon. Steps of 5 substeps of 0.01 s: 700 in ``umaze``, 1000 in ``medium``, as published. The
``generated`` mazes are ours, of side 7 with 500 steps: rounds of meta-learning are many.

Source. AntMaze v5 of gymnasium-robotics 1.4, whose body is that of Gymnasium's Ant-v5
(``assets/ant.xml``); its dynamics to 1e-10. Its observation has contact forces at the end, which
are left out here, and x and y only in an entry of their own beside the goal.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from metarl.envs.maze_tasks import MEDIUM, UMAZE, MazeConfig
from metarl.envs.maze_world import Walker, build_maze
from metarl.envs.mujoco_env import MujocoEnv
from metarl.envs.physics import load_asset
from metarl.envs.task_lists import EndlessTasks


@dataclass(frozen=True, kw_only=True)
class AntMazeConfig(MazeConfig):
    """An ant in a maze."""

    horizon: int = 500
    """Steps of an episode."""
    side: int = 7
    """Cells along a side of the tasks' own mazes, their outer walls included; odd."""


PRESETS: Mapping[str, AntMazeConfig] = {
    "generated": AntMazeConfig(),
    "generated-sparse": AntMazeConfig(sparse=True),
    "umaze": AntMazeConfig(layout=UMAZE, horizon=700),
    "medium": AntMazeConfig(layout=MEDIUM, horizon=1000),
}


def build(
    name: str, config: AntMazeConfig, device: str, threads: int
) -> tuple[EndlessTasks, MujocoEnv]:
    """Build the distribution and the environment."""
    ant = Walker(
        xml=load_asset("ant.xml"),
        substeps=5,
        cell=4.0,
        wall_height=2.0,
        num_positions=15,
        num_velocities=14,
        num_motors=8,
    )
    return build_maze(name, config, ant, device, threads)
