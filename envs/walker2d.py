"""Walker: a planar body on two legs, of unknown build or at a hidden velocity.

Task. ``Walker2dRandParams``: multipliers of the body's masses, inertias, frictions and dampings, as
``metarl.envs.random_dynamics`` says; they show in the dynamics. Bodies, in order: world, torso,
right thigh, leg and foot, left thigh, leg and foot; geoms: floor, then one for each body; degrees
of freedom: forwards, upwards, pitch (none of them damped), then the six joints. ``Walker2dVel``:
``velocity``, drawn from U[0, max_velocity] m/s, the shifted ones from U[max_velocity,
max_velocity + 1]; hidden, it shows in the reward alone.

Observation, in order (17 entries):

====== ============================================================ ===========
index  what                                                         unit
====== ============================================================ ===========
0      height of the torso's middle (1.25 when it stands)           m
1      pitch of the torso                                           rad
2-7    joint angles: right hip, knee, ankle; left hip, knee, ankle  rad
8-9    velocity of the torso, forwards and upwards                  m/s
10     pitch rate                                                   rad/s
11-16  joint velocities, in the order of the angles                 rad/s
====== ============================================================ ===========

Velocities are clipped to [-10, 10].

Action. Six numbers; divided by ``action_scale`` and clipped to [-1, 1] they are the joints' torques
as shares of 100 N m, in the order of the angles.

Reward per step, with v = (x after - x before) / seconds of a step and a the clipped action:
v + 1 - 0.001 * sum(a^2), or 1 - abs(v - velocity) - 0.001 * sum(a^2). v in m/s; the 1 is for having
stood up to here, and the step of the fall is paid it too.

Horizon. 200 steps of 4 substeps of 0.002 s (``pearl-2019``: 5). Terminates when the torso has
fallen: unless 0.8 m < height < 2 m and abs(pitch) < 1 rad.

Start. Standing; all positions and velocities U(-0.005, 0.005) around it, in m, rad, m/s and rad/s.

Source. ``pearl-2019``: Rakelly et al. 2019, 40 training tasks and 10 held-out ones, every entry of
every field drawn on its own. Its code ran on an older simulator and body, and did not recompute
what the simulator derives from masses and inertias (how soft contacts are); here both presets do,
on the body of Gymnasium's Walker2d-v5 (its file ``walker2d_v5.xml``, both feet with friction 1.9):
``assets/walker2d.xml``. The ``default`` presets are our own: inertias that go with the masses, and
velocities in the manner of the half-cheetah's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from metarl.envs.mujoco_env import Flags, MujocoEnv
from metarl.envs.physics import BatchPhysics
from metarl.envs.planar import PlanarBody, PlanarRandParamsConfig, PlanarVelConfig, build_planar
from metarl.protocols import TaskDistribution

_LOWEST, _HIGHEST = 0.8, 2.0
_STEEPEST = 1.0


@dataclass(frozen=True, kw_only=True)
class Walker2dRandParamsConfig(PlanarRandParamsConfig):
    """Walk with a body whose constants are unknown."""


@dataclass(frozen=True, kw_only=True)
class Walker2dVelConfig(PlanarVelConfig):
    """Walk at a given velocity."""

    max_velocity: float = 3.0
    """Velocities are drawn from 0 to this, in m/s."""


RAND_PARAMS_PRESETS: Mapping[str, Walker2dRandParamsConfig] = {
    "default": Walker2dRandParamsConfig(),
    "pearl-2019": Walker2dRandParamsConfig(
        substeps=5, independent_inertia=True, num_train_tasks=40, num_test_tasks=10
    ),
}
VEL_PRESETS: Mapping[str, Walker2dVelConfig] = {"default": Walker2dVelConfig()}


def has_fallen(physics: BatchPhysics) -> Flags:
    """Return who does not stand upright, [N]."""
    height, pitch = physics.qpos[:, 1], physics.qpos[:, 2]
    upright = (height > _LOWEST) & (height < _HIGHEST)
    upright &= (pitch > -_STEEPEST) & (pitch < _STEEPEST)
    fallen: Flags = ~upright
    return fallen


def build(
    name: str, config: Walker2dRandParamsConfig | Walker2dVelConfig, device: str, threads: int
) -> tuple[TaskDistribution, MujocoEnv]:
    """Build the distribution and the environment of either family."""
    body = PlanarBody("walker2d.xml", num_joints=6, unhealthy=has_fallen)
    return build_planar(name, config, device, threads, body)
