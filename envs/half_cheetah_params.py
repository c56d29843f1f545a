"""Half-cheetah of unknown build: it runs forwards, as fast as it can.

Task. Multipliers of the body's masses, inertias, frictions and dampings, as
``metarl.envs.random_dynamics`` says; they show in the dynamics. Bodies, in order: world, torso,
back thigh, shin and foot, front thigh, shin and foot; geoms: floor, torso, head, then one for each
other body; degrees of freedom: forwards, upwards, pitch (none of them damped), then the six joints.
``mass`` varies masses and inertias alone, ``damping`` dampings alone.

Observation. The 17 entries of ``metarl.envs.half_cheetah``: height (m), pitch and six joint angles
(rad), velocities forwards and upwards (m/s), pitch rate and six joint velocities (rad/s).

Action. Six numbers; divided by ``action_scale`` and clipped to [-1, 1] they are the motors' torques
as shares of 120, 90, 60 (back thigh, shin, foot), 120, 60 and 30 N m (front).

Reward per step, with v = (x after - x before) / 0.05 s and a the clipped action:
v - 0.05 * sum(a^2). Unit m/s.

Horizon. 200 steps of 5 substeps of 0.01 s. Never terminates.

Start. All nine positions U(-0.1, 0.1) in m or rad, their velocities 0.1 * N(0, 1), around the
model's zero pose.

Source. Our own definition: the half-cheetah of ``metarl.envs.half_cheetah`` with the task
distribution of Walker2dRandParams. The joints' springs stay as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from metarl.envs.half_cheetah import CONTROL_COST, NUM_ACTUATORS, half_cheetah
from metarl.envs.locomotion import LocomotionConfig
from metarl.envs.mujoco_env import Array, Moved, MujocoEnv
from metarl.envs.random_dynamics import RandomDynamicsConfig, random_dynamics, scale_fields, varied
from metarl.protocols import TaskDistribution


@dataclass(frozen=True, kw_only=True)
class HalfCheetahRandParamsConfig(LocomotionConfig, RandomDynamicsConfig):
    """Run forwards with a body whose constants are unknown."""

    def __post_init__(self) -> None:
        LocomotionConfig.__post_init__(self)
        RandomDynamicsConfig.__post_init__(self)


PRESETS: Mapping[str, HalfCheetahRandParamsConfig] = {
    "default": HalfCheetahRandParamsConfig(),
    "mass": HalfCheetahRandParamsConfig(vary_friction=False, vary_damping=False),
    "damping": HalfCheetahRandParamsConfig(vary_mass=False, vary_friction=False),
}


def _reward(moved: Moved) -> Array:
    return moved.velocity - CONTROL_COST * moved.effort


def build(
    name: str, config: HalfCheetahRandParamsConfig, device: str, threads: int
) -> tuple[TaskDistribution, MujocoEnv]:
    """Build the distribution and the environment."""
    spec = config.spec(name, 17, NUM_ACTUATORS)
    body = half_cheetah(_reward, observe_torso=False)._replace(vary=scale_fields)
    env = MujocoEnv(spec, body, varied(config), device, threads)
    return random_dynamics(name, device, config, env.physics), env
