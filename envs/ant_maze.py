"""Ant maze: the four-legged ant walks through a maze of walls that it feels but does not see.

Task. Cells are (row, column) from the top left; x grows with the column, y falls with the row, and
the middle of the maze is the origin. A cell is 4 m wide, its walls 2 m high. Without a
``layout``, every task is a maze of its own:

========= ============== ======================================================================
name      shape          how it is drawn
========= ============== ======================================================================
``walls`` [side, side]   1 wall, 0 free: a perfect maze by randomised depth-first search, then
                         ``open_share`` of the walls left between two rooms are taken out; of its
                         part (below)
``start`` [2]            uniform over the free cells that are at least (side - 1) / 2 moves away
                         from the goal's
``goal``  [2]            uniform over the free cells, plus U(-0.25, 0.25) of a cell each way
========= ============== ======================================================================

Every layout is of one of two parts, by a hash of its walls: training draws from the one and
``test`` from the other, so that none of its layouts is ever met in training. Depth-first search
makes few perfect mazes of small sides, 4 of side 5, 88 of side 7 and 3820 of side 9, and each part
has half of them: in training as in the list, layouts come back with other starts and goals. A hall
with all walls between rooms taken out (``open_share`` 1) is one layout, and in both parts.

In a ``layout``, walls and start are those of all tasks, in training and in ``test``; ``side`` and
``open_share`` may not be set. The task is ``goal`` alone, in one of the other free cells.

The goal is never observed and shows in the reward alone; walls are felt by running into them. A
task is refused where no way leads from its start to its goal.

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

Reward per step, with d the distance from the goal after the step in m: exp(-d), or with ``sparse``
1 where d <= 0.45 m, else 0. No unit. Success is d <= 0.45 m.

Horizon. Steps of 5 substeps of 0.01 s: 700 in ``umaze``, 1000 in ``medium``, as published. The
``generated`` mazes have side 7 and 500 steps, as rounds of meta-learning are many. Never
terminates, not even for an ant on its back; who stays at the goal goes on being paid.

Start. Upright at 0.75 m with straight legs and at rest, in the middle of the start's cell, plus
U(-1, 1) m along x and y in every episode.

Source. AntMaze v5 of gymnasium-robotics 1.4 (after D4RL, Fu et al. 2020) with its defaults,
``continuing_task`` and not ``reset_target``. Its body is that of Gymnasium's Ant-v5
(``assets/ant.xml``), and so are its dynamics here, step for step. Its observation has contact
forces at the end, which are left out here; x and y come first, which it has in an entry of their
own. There, each episode draws its start and goal afresh, from all free cells. A goal that stays for
the whole task, the start at the top left of a layout and the ``generated`` mazes are ours.
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
    """Cells along a side of the tasks' own mazes, their outer walls included; odd. Not to be set
    with a layout."""


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
