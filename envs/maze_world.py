"""Mazes of MuJoCo walls, and bodies that look for a hidden goal in them.

x grows with a maze's columns, y falls with its rows, and its middle is the origin. Every wall is a
box of one cell. A layout that all tasks share is compiled as it is. Where each task has its own
maze, one model holds a box for every cell, and each copy has sunk those of its free cells below the
floor: what is left is felt as in a model compiled for that maze, to the last bit. Roughly measured
on one thread, a ball's step in mazes of side 9 took a sixth longer than in a compiled layout, and
an ant's in mazes of side 7 a seventh; walls at all made the ant's step twice as long.

What is paid, how it ends and the layouts follow gymnasium-robotics 1.4 (PointMaze v3, AntMaze v5;
after the mazes of D4RL, Fu et al. 2020) with its defaults ``continuing_task`` and not
``reset_target``.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from metarl.envs.locomotion import place
from metarl.envs.maze_tasks import OFF_CENTRE, Maze, MazeConfig, maze_of, refuse_faulty, tasks_of
from metarl.envs.mujoco_env import Array, Body, Flags, Moved, MujocoEnv, Noise, Parameters
from metarl.envs.mujoco_renderer import Marker, View
from metarl.envs.physics import BatchPhysics
from metarl.envs.task_lists import EndlessTasks
from metarl.types import EnvSpec

_RADIUS = 0.45
_DEPTH = 10.0  # cells: where walls are that do not stand


class Walker(NamedTuple):
    """What looks for the goal: a body whose first two positions are its x and y in m."""

    xml: str
    """The body without a maze, as MJCF."""
    substeps: int
    cell: float
    """Side of the cells in its mazes, in m."""
    wall_height: float
    """In m."""
    num_positions: int
    num_velocities: int
    num_motors: int
    speed_limit: float | None = None
    """What its velocities are clipped to before each step, in m/s."""


def build_maze(
    name: str, config: MazeConfig, walker: Walker, device: str, threads: int
) -> tuple[EndlessTasks, MujocoEnv]:
    """Build the distribution and the environment of a body in mazes."""
    maze = maze_of(config, walker.cell, walker.wall_height)
    tasks = tasks_of(name, config, maze, device)
    spec = EnvSpec(
        name,
        observation_size=walker.num_positions + walker.num_velocities,
        action_size=walker.num_motors,
        discrete=False,
        horizon=config.horizon,
        score_is_total=False,
        action_limit=config.action_scale,
    )
    around = np.zeros(walker.num_positions)
    around[:2] = OFF_CENTRE * walker.cell
    body = Body(
        xml=with_walls(walker.xml, maze),
        substeps=walker.substeps,
        noise=Noise(position=around, velocity=0.0),
        observe=_observe,
        measure=place,
        reward=partial(_reward, sparse=config.sparse),
        success=_success,
        derive=partial(_goal_in_metres, maze=maze),
        arrange=partial(_arrange, maze=maze),
        refuse=partial(refuse_faulty, owner=name, maze=maze),
        vary=partial(_raise_walls, maze=maze) if maze.layout is None else None,
        view=View(distance=1.4 * max(maze.shape) * maze.cell, elevation=-60, follow=False),
        markers=partial(_mark_goal, maze=maze),
        speed_limit=walker.speed_limit,
    )
    return tasks, MujocoEnv(spec, body, tuple(tasks.parameters), device, threads)


def with_walls(xml: str, maze: Maze) -> str:
    """Return the MJCF of a body with the maze's walls, or with one for every cell, around it."""
    walls = torch.ones(maze.shape) if maze.layout is None else maze.layout
    half, middle = maze.cell / 2, maze.height / 2
    boxes = []
    for row, column in walls.nonzero().tolist():
        x, y = maze.to_metres(np.array([row, column], dtype=np.float64))
        boxes.append(
            f'<geom name="wall_{row}_{column}" type="box" pos="{x} {y} {middle}"'
            f' size="{half} {half} {middle}" contype="1" conaffinity="1" rgba="0.6 0.6 0.65 1"/>'
        )
    return xml.replace("</worldbody>", "".join([*boxes, "</worldbody>"]))


def _raise_walls(physics: BatchPhysics, parameter: Parameters, maze: Maze) -> None:
    """Give every copy the walls of its own maze: those of free cells sink below the floor."""
    first = physics.model.geom("wall_0_0").id
    boxes = slice(first, first + maze.shape[0] * maze.shape[1])
    standing = parameter["walls"].reshape(-1, maze.shape[0] * maze.shape[1]) == 1.0
    height = np.where(standing, maze.height / 2, -_DEPTH * maze.cell)
    physics.expand("geom_pos")[:, boxes, 2] = height


def _goal_in_metres(parameter: Parameters, maze: Maze) -> Parameters:
    return {"goal in m": maze.to_metres(parameter["goal"])}


def _arrange(qpos: Array, _qvel: Array, parameter: Parameters, maze: Maze) -> None:
    """Move starts ``qpos`` [N, nq], drawn around the origin, to their cells."""
    fixed = np.array(maze.start, dtype=np.float64)
    qpos[:, :2] += maze.to_metres(fixed if maze.layout is not None else parameter["start"])


def _observe(physics: BatchPhysics) -> list[Array]:
    return [physics.qpos, physics.qvel]


def _mark_goal(_body: Array, own: Parameters, maze: Maze) -> list[Marker]:
    """Return a ball over one copy's goal: on the walls' level, as walls may hide what is lower."""
    x, y = own["goal in m"]
    return [Marker(np.array([x, y, maze.height]), size=max(_RADIUS, maze.cell / 4))]


def _reward(moved: Moved, sparse: bool) -> Array:
    """Return what N copies are paid for where they are."""
    away = _distance(moved)
    paid: Array = (away <= _RADIUS).astype(np.float64) if sparse else np.exp(-away)
    return paid


def _success(moved: Moved) -> Flags:
    """Return which of N copies are at their goal."""
    there: Flags = _distance(moved) <= _RADIUS
    return there


def _distance(moved: Moved) -> Array:
    """Return how far N copies are from their goals, in m."""
    x, y = (moved.after - moved.parameter["goal in m"]).T
    # Of two numbers, a norm along an axis takes four times as long.
    away: Array = np.sqrt(x * x + y * y)
    return away
