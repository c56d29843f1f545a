"""Hopper: a planar body on one leg, of unknown build or at a hidden velocity.

Task. ``HopperRandParams``: multipliers of the body's masses, inertias, frictions and dampings, as
``metarl.envs.random_dynamics`` says; they show in the dynamics. Bodies, in order: world, torso,
thigh, leg, foot; geoms: floor, then one for each body; degrees of freedom: forwards, upwards, pitch
(none of them damped), then the three joints. ``HopperVel``: ``velocity``, drawn from
U[0, max_velocity] m/s, the shifted ones from U[max_velocity, max_velocity + 1]; hidden, it shows in
the reward alone.

Observation, in order (11 entries):

====== ================================================== ===========
index  what                                               unit
====== ================================================== ===========
0      height of the torso's middle (1.25 when it stands) m
1      pitch of the torso                                 rad
2-4    joint angles: hip, knee, ankle                     rad
5-6    velocity of the torso, forwards and upwards        m/s
7      pitch rate                                         rad/s
8-10   joint velocities, in the order of the angles       rad/s
====== ================================================== ===========

Velocities are clipped to [-10, 10].

Action. Three numbers; divided by ``action_scale`` and clipped to [-1, 1] they are the joints'
torques as shares of 200 N m, in the order of the angles.

Reward per step, with v = (x after - x before) / seconds of a step and a the clipped action:
v + 1 - 0.001 * sum(a^2), or 1 - abs(v - velocity) - 0.001 * sum(a^2). v in m/s; the 1 is for having
stood up to here, and the step of the fall is paid it too.

Horizon. 200 steps of 4 substeps of 0.002 s. Terminates when the body has fallen: unless the height
is above 0.7 m, abs(pitch) < 0.2 rad, and all angles and velocities lie within (-100, 100).

Start. Standing; all positions and velocities U(-0.005, 0.005) around it, in m, rad, m/s and rad/s.

Source. ``pearl-2019``: the benchmark of Rakelly et al. 2019 (whose paper has the walker), every
entry of every field drawn on its own, with as many tasks as the walker: 40 for training and 10 held
out. Its code ran on an older simulator and body, and did not recompute what the simulator derives
from masses and inertias (how soft contacts are); here both presets do, on the body of Gymnasium's
Hopper-v5: ``assets/hopper.xml``. The ``default`` presets are our own: inertias that go with the
masses, and velocities in the manner of the half-cheetah's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metarl.envs.mujoco_env import Flags, MujocoEnv
from metarl.envs.physics import BatchPhysics
from metarl.envs.planar import PlanarBody, PlanarRandParamsConfig, PlanarVelConfig, build_planar
from metarl.protocols import TaskDistribution

_LOWEST = 0.7
_STEEPEST = 0.2
_WILDEST = 100.0


@dataclass(frozen=True, kw_only=True)
class HopperRandParamsConfig(PlanarRandParamsConfig):
    """Hop with a body whose constants are unknown."""


@dataclass(frozen=True, kw_only=True)
class HopperVelConfig(PlanarVelConfig):
    """Hop at a given velocity."""


RAND_PARAMS_PRESETS: Mapping[str, HopperRandParamsConfig] = {
    "default": HopperRandParamsConfig(),
    "pearl-2019": HopperRandParamsConfig(
        independent_inertia=True, num_train_tasks=40, num_test_tasks=10
    ),
}
VEL_PRESETS: Mapping[str, HopperVelConfig] = {"default": HopperVelConfig()}


def has_fallen(physics: BatchPhysics) -> Flags:
    """Return who does not stand upright, or moves as no hopper does, [N]."""
    height, angles, speeds = physics.qpos[:, 1], physics.qpos[:, 2:], physics.qvel
    upright = (height > _LOWEST) & (np.abs(angles[:, 0]) < _STEEPEST)
    tame = (np.abs(angles) < _WILDEST).all(1) & (np.abs(speeds) < _WILDEST).all(1)
    fallen: Flags = ~(upright & tame)
    return fallen


def build(
    name: str, config: HopperRandParamsConfig | HopperVelConfig, device: str, threads: int
) -> tuple[TaskDistribution, MujocoEnv]:
    """Build the distribution and the environment of either family."""
    body = PlanarBody("hopper.xml", num_joints=3, unhealthy=has_fallen)
    return build_planar(name, config, device, threads, body)
