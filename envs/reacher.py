"""Reacher: a two-jointed arm in the plane whose fingertip looks for a hidden goal.

Task. ``goal`` [2], in m from the shoulder, uniform in the disc of radius ``goal_radius``. The
shifted ones lie in the ring between it and the arm's reach, 0.21 m: the arm is nearly straight
there. It is hidden: it shows in the reward alone. As the elbow bends to 3 rad at most, the
fingertip stays 0.018 m away from the shoulder; a goal there is still met (see Success).

Observation, in order (8 entries):

===== =========================================== =====
index what                                        unit
===== =========================================== =====
0-1   cosine of the angles of shoulder and elbow
2-3   sine of the angles of shoulder and elbow
4-5   joint velocities: shoulder, elbow           rad/s
6-7   position of the fingertip: x, y             m
===== =========================================== =====

Action. Two numbers; divided by ``action_scale`` and clipped to [-1, 1] they are the torques of
shoulder and elbow as shares of 200 N m.

Reward per step, with d the distance in m from the fingertip to the goal after the step and a the
clipped action: -d - 0.1 * sum(a^2). With ``sparse``: 1 where d <= 0.02 m, else 0.

Success. The fingertip is within 0.02 m of the goal after the step.

Horizon. 50 steps of 2 substeps of 0.01 s. Never terminates.

Start. The arm along the x axis, both angles U(-0.1, 0.1) rad, both velocities U(-0.005, 0.005)
rad/s.

Source. Our own definition, on the body of Gymnasium's Reacher-v5 with its goals, start and horizon:
``assets/reacher.xml``. Its observation holds the goal and the way there; ours must not. Its
documentation weighs the torques by 0.1 and its code by 1; the former is followed here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metarl.checks import Allowed, check_fields
from metarl.envs.locomotion import LocomotionConfig
from metarl.envs.mujoco_env import Array, Body, Flags, Moved, MujocoEnv, Noise, Parameters
from metarl.envs.mujoco_renderer import View
from metarl.envs.physics import BatchPhysics, load_asset
from metarl.envs.plane_goals import goals_around
from metarl.envs.task_lists import EndlessTasks

_UPPER_ARM, _FOREARM = 0.1, 0.11
_REACH = 0.21
_GOAL_SIZE = 0.02
_CONTROL_COST = 0.1


@dataclass(frozen=True, kw_only=True)
class ReacherGoalConfig(LocomotionConfig):
    """An arm that looks for its goal."""

    horizon: int = 50
    """Steps of an episode."""
    goal_radius: float = 0.2
    """Goals lie within this distance of the shoulder, in m."""
    sparse: bool = False
    """Whether only a fingertip at the goal is paid."""

    def __post_init__(self) -> None:
        LocomotionConfig.__post_init__(self)
        text = f"a number above 0 and below {_REACH}, the reach in m"
        radius = Allowed(0.0, _REACH, text, low_open=True, high_open=True)
        check_fields(self, {"goal_radius": radius})


PRESETS: Mapping[str, ReacherGoalConfig] = {
    "default": ReacherGoalConfig(),
    "sparse": ReacherGoalConfig(sparse=True),
}


def _out_of_reach(goal: Tensor) -> str | None:
    away = float(torch.linalg.vector_norm(goal))
    if away < _REACH + 1e-6:
        return None
    return f"a point within {_REACH} m of the shoulder, this one is {away:.4g} m away"


def fingertip(physics: BatchPhysics) -> Array:
    """Return where the fingertips are, [N, 2] in m from the shoulder."""
    upper = physics.qpos[:, 0]
    lower = upper + physics.qpos[:, 1]
    return np.stack(
        (
            _UPPER_ARM * np.cos(upper) + _FOREARM * np.cos(lower),
            _UPPER_ARM * np.sin(upper) + _FOREARM * np.sin(lower),
        ),
        axis=1,
    )


def distance(moved: Moved) -> Array:
    """Return how far the fingertips are from their goals, [N] in m."""
    gap: Array = np.linalg.norm(moved.after - moved.parameter["goal"], axis=1)
    return gap


def at_goal(moved: Moved) -> Flags:
    """Return whose fingertip is at the goal, [N]."""
    there: Flags = distance(moved) <= _GOAL_SIZE
    return there


def _dense_reward(moved: Moved) -> Array:
    return -distance(moved) - _CONTROL_COST * moved.effort


def _sparse_reward(moved: Moved) -> Array:
    return at_goal(moved).astype(np.float64)


def _observe(physics: BatchPhysics) -> Sequence[Array]:
    angles, speeds = physics.qpos[:, :2], physics.qvel[:, :2]
    return np.cos(angles), np.sin(angles), speeds, fingertip(physics)


def _place_goals(qpos: Array, qvel: Array, parameter: Parameters) -> None:
    """Put the bodies that show the goals where the goals are."""
    qpos[:, 2:], qvel[:, 2:] = parameter["goal"], 0.0


def build(
    name: str, config: ReacherGoalConfig, device: str, threads: int
) -> tuple[EndlessTasks, MujocoEnv]:
    """Build the distribution and the environment."""
    beyond = _REACH - config.goal_radius
    tasks = goals_around(name, device, config.goal_radius, beyond=beyond, fault=_out_of_reach)
    spec = config.spec(name, 8, 2)
    body = Body(
        xml=load_asset("reacher.xml"),
        substeps=2,
        noise=Noise(position=0.1, velocity=0.005, normal=False),
        observe=_observe,
        measure=fingertip,
        reward=_sparse_reward if config.sparse else _dense_reward,
        success=at_goal,
        arrange=_place_goals,
        view=View(distance=0.8, elevation=-60.0, follow=False),
    )
    return tasks, MujocoEnv(spec, body, tuple(tasks.parameters), device, threads)
