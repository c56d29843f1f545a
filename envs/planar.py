"""Bodies that walk or hop in a vertical plane: what the walker and the hopper have in common.

Their first three positions are forwards, upwards and pitch; the joints follow. What they observe
and are paid is in the modules of the two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from metarl.checks import COUNT, POSITIVE, check_fields
from metarl.envs.locomotion import LocomotionConfig, forwards, show_task, velocities, velocity_miss
from metarl.envs.mujoco_env import Array, Body, Flags, Moved, MujocoEnv, Noise
from metarl.envs.physics import BatchPhysics, load_asset
from metarl.envs.random_dynamics import RandomDynamicsConfig, random_dynamics, scale_fields, varied
from metarl.protocols import TaskDistribution

_BONUS = 1.0
_CONTROL_COST = 1e-3
_MAX_OBSERVED_SPEED = 10.0


class PlanarBody(NamedTuple):
    """What tells one such body from another."""

    asset: str
    """Name of its XML file."""
    num_joints: int
    """Joints, each with a motor; the plane's three degrees of freedom are not among them."""
    unhealthy: Callable[[BatchPhysics], Flags]
    """Returns [N]: who has fallen."""


@dataclass(frozen=True, kw_only=True)
class PlanarConfig(LocomotionConfig):
    """Time limit, action scale and length of a step."""

    substeps: int = 4
    """Simulator steps of 0.002 s in one step."""

    def __post_init__(self) -> None:
        LocomotionConfig.__post_init__(self)
        check_fields(self, {"substeps": COUNT})


@dataclass(frozen=True, kw_only=True)
class PlanarVelConfig(PlanarConfig):
    """Move at a given velocity."""

    max_velocity: float = 2.0
    """Velocities are drawn from 0 to this, in m/s."""

    def __post_init__(self) -> None:
        PlanarConfig.__post_init__(self)
        check_fields(self, {"max_velocity": POSITIVE})


@dataclass(frozen=True, kw_only=True)
class PlanarRandParamsConfig(PlanarConfig, RandomDynamicsConfig):
    """Move forwards with a body whose constants are unknown."""

    def __post_init__(self) -> None:
        PlanarConfig.__post_init__(self)
        RandomDynamicsConfig.__post_init__(self)


def build_planar(
    name: str,
    config: PlanarVelConfig | PlanarRandParamsConfig,
    device: str,
    threads: int,
    body: PlanarBody,
) -> tuple[TaskDistribution, MujocoEnv]:
    """Build the distribution and the environment of a body, for either kind of task."""
    spec = config.spec(name, 2 * (3 + body.num_joints) - 1, body.num_joints)
    simulated = Body(
        xml=load_asset(body.asset),
        substeps=config.substeps,
        noise=Noise(position=0.005, velocity=0.005, normal=False),
        observe=observe,
        measure=forwards,
        reward=velocity_reward,
        unhealthy=body.unhealthy,
        markers=show_task,
    )
    if isinstance(config, PlanarVelConfig):
        tasks = velocities(name, device, config.max_velocity)
        return tasks, MujocoEnv(spec, simulated, tuple(tasks.parameters), device, threads)
    simulated = simulated._replace(reward=forward_reward, vary=scale_fields)
    env = MujocoEnv(spec, simulated, varied(config), device, threads)
    return random_dynamics(name, device, config, env.physics), env


def observe(physics: BatchPhysics) -> Sequence[Array]:
    """Return all positions but the way gone, and all velocities, clipped to [-10, 10]."""
    speeds = np.clip(physics.qvel, -_MAX_OBSERVED_SPEED, _MAX_OBSERVED_SPEED)
    return physics.qpos[:, 1:], speeds


def forward_reward(moved: Moved) -> Array:
    """Return v + 1 - 0.001 * sum(a^2), [N]."""
    reward: Array = moved.velocity + _BONUS - _CONTROL_COST * moved.effort
    return reward


def velocity_reward(moved: Moved) -> Array:
    """Return 1 - abs(v - velocity) - 0.001 * sum(a^2), [N]."""
    reward: Array = _BONUS - velocity_miss(moved) - _CONTROL_COST * moved.effort
    return reward
