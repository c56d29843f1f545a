"""Point maze: a ball is pushed through a maze of walls that it feels but does not see.

Task. Cells are (row, column) from the top left; x grows with the column, y falls with the row, and
the middle of the maze is the origin. A cell is 1 m wide, its walls 0.4 m high. Without a
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

Observation (4 entries):

===== ========================== ====
index what                       unit
===== ========================== ====
0-1   position x, y              m
2-3   velocity along x, y        m/s
===== ========================== ====

Action. Two numbers; divided by ``action_scale`` and clipped to [-1, 1] they are the force along x
and y as shares of 100 N. The ball weighs 4.19 kg; before each step its velocities are clipped to
[-5, 5] m/s, without which it would come to 100.

Reward per step, with d the distance from the goal after the step in m: exp(-d), or with ``sparse``
1 where d <= 0.45 m, else 0. No unit. Success is d <= 0.45 m.

Horizon. Steps of 0.01 s: 300 in ``umaze``, 600 in ``medium``, 800 in ``large``, as published, and
600 in the ``generated`` mazes. At full speed a cell takes 20. Never terminates: who stays at the
goal goes on being paid.

Start. The middle of the start's cell, plus U(-0.25, 0.25) m along each axis in every episode, at
rest.

Source. PointMaze v3 of gymnasium-robotics 1.4 (after D4RL, Fu et al. 2020) with its defaults,
``continuing_task`` and not ``reset_target``; the same dynamics, step for step. There, the ball also
touches the floor, which changes nothing, as it cannot move up or down; and each episode draws its
start and goal afresh, from all free cells. A goal that stays for the whole task, the start at the
top left of a layout and the ``generated`` mazes (of side 9; after Duan et al. 2016, RL^2, who had
a fresh maze for every task) are ours.
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
