"""Half-cheetah: a planar two-legged body that runs in a given direction or at a given velocity.

Task. ``direction`` is -1 or +1, with equal probability. ``velocity`` is drawn from
U[0, max_velocity] m/s; the shifted tasks lie in U[max_velocity, max_velocity + 1]. The task is
hidden: it shows in the reward alone.

Observation, in order (17 entries; 20 with ``observe_torso``):

===== ============================================================= =====
index what                                                          unit
===== ============================================================= =====
0     height of the torso above its 0.7 m in the model              m
1     pitch of the torso                                            rad
2-7   joint angles: back thigh, shin, foot; front thigh, shin, foot rad
8-9   velocity of the torso, forwards and upwards                   m/s
10    pitch rate                                                    rad/s
11-16 joint velocities, in the order of the angles                  rad/s
17-19 position of the torso: x, y (always 0), z                     m
===== ============================================================= =====

Action. Six numbers; divided by ``action_scale`` and clipped to [-1, 1] they are the motors' torques
as shares of 120, 90, 60 (back thigh, shin, foot), 120, 60 and 30 N m (front).

Reward per step, with v = (x after - x before) / 0.05 s and a the clipped action: direction * v, or
-abs(v - velocity); minus 0.05 * sum(a^2). Unit m/s.

Horizon. 100 or 200 steps (see the presets) of 5 substeps of 0.01 s. Never terminates.

Start. All nine positions (torso x, z and pitch, and the six joint angles) U(-0.1, 0.1) in m or rad,
their velocities 0.1 * N(0, 1), around the model's zero pose.

Presets:

================ ========= ================ ===== ================ =================
preset           task      ``max_velocity`` steps ``action_scale`` ``observe_torso``
================ ========= ================ ===== ================ =================
``promp-2019``   direction none             100   10               no
``maml-2017``    direction none             200   1                yes
``promp-2019``   velocity  3                100   10               no
``maml-2017``    velocity  2                200   1                yes
``pearl-2019``   velocity  3                200   1                yes
``varibad-2020`` velocity  3                200   1                yes
================ ========= ================ ===== ================ =================

Source. Finn et al. 2017 (``maml-2017``), Rothfuss et al. 2019 (``promp-2019``), Rakelly et al. 2019
(``pearl-2019``) and Zintgraf et al. 2020 (``varibad-2020``: as ``pearl-2019``, but tasks are drawn
afresh). ``promp-2019`` draws velocities from U[0, 3] where the paper's text says U[0, 2]; its code
is followed. ``pearl-2019`` has 100 training tasks and 30 held-out ones. The code of 2017 ran on
another simulator binding, with a smaller start noise and the velocity and position of the torso's
centre of mass; all presets here share the start and the velocity above. Body:
``assets/half_cheetah.xml``, the dynamics of Gymnasium's HalfCheetah-v5.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from metarl.checks import POSITIVE, check_fields
from metarl.envs.locomotion import (
    LocomotionConfig,
    directions,
    forwards,
    show_task,
    velocities,
    velocity_miss,
)
from metarl.envs.mujoco_env import Array, Body, Moved, MujocoEnv, Noise
from metarl.envs.physics import BatchPhysics, load_asset
from metarl.envs.task_lists import TaskListConfig, listed
from metarl.protocols import TaskDistribution

_SUBSTEPS = 5
CONTROL_COST = 0.05
_TORSO_HEIGHT = 0.7
NUM_ACTUATORS = 6


@dataclass(frozen=True, kw_only=True)
class HalfCheetahDirConfig(LocomotionConfig):
    """Run forwards or backwards."""

    observe_torso: bool = False
    """Append the torso's position (x, y, z) in m to the observation."""


@dataclass(frozen=True, kw_only=True)
class HalfCheetahVelConfig(HalfCheetahDirConfig, TaskListConfig):
    """Run at a given velocity."""

    max_velocity: float = 3.0
    """Velocities are drawn from 0 to this, in m/s."""

    def __post_init__(self) -> None:
        HalfCheetahDirConfig.__post_init__(self)
        TaskListConfig.__post_init__(self)
        check_fields(self, {"max_velocity": POSITIVE})


DIR_PRESETS: Mapping[str, HalfCheetahDirConfig] = {
    "promp-2019": HalfCheetahDirConfig(horizon=100, action_scale=10.0),
    "maml-2017": HalfCheetahDirConfig(observe_torso=True),
}
_VEL_2017 = HalfCheetahVelConfig(observe_torso=True, max_velocity=2.0)
VEL_PRESETS: Mapping[str, HalfCheetahVelConfig] = {
    "promp-2019": HalfCheetahVelConfig(horizon=100, action_scale=10.0),
    "maml-2017": _VEL_2017,
    "pearl-2019": replace(_VEL_2017, max_velocity=3.0, num_train_tasks=100, num_test_tasks=30),
    "varibad-2020": replace(_VEL_2017, max_velocity=3.0),
}


def half_cheetah(reward: Callable[[Moved], Array], *, observe_torso: bool) -> Body:
    """Return the body, paid by ``reward``."""
    return Body(
        xml=load_asset("half_cheetah.xml"),
        substeps=_SUBSTEPS,
        noise=Noise(position=0.1, velocity=0.1),
        observe=partial(_observe, observe_torso=observe_torso),
        measure=forwards,
        reward=reward,
        markers=show_task,
    )


def _direction_reward(moved: Moved) -> Array:
    return moved.parameter["direction"] * moved.velocity - CONTROL_COST * moved.effort


def _velocity_reward(moved: Moved) -> Array:
    return -velocity_miss(moved) - CONTROL_COST * moved.effort


def _observe(physics: BatchPhysics, observe_torso: bool) -> Sequence[Array]:
    parts = [physics.qpos[:, 1:], physics.qvel]
    if observe_torso:
        x, z = physics.qpos[:, 0], physics.qpos[:, 1] + _TORSO_HEIGHT
        parts.append(np.stack((x, np.zeros_like(x), z), axis=1))
    return parts


def build(
    name: str, config: HalfCheetahDirConfig, device: str, threads: int
) -> tuple[TaskDistribution, MujocoEnv]:
    """Build the distribution and the environment of either family."""
    tasks: TaskDistribution
    if isinstance(config, HalfCheetahVelConfig):
        tasks = listed(velocities(name, device, config.max_velocity), name, config, device)
        reward = _velocity_reward
    else:
        tasks, reward = directions(name, device), _direction_reward
    spec = config.spec(name, 20 if config.observe_torso else 17, NUM_ACTUATORS)
    body = half_cheetah(reward, observe_torso=config.observe_torso)
    return tasks, MujocoEnv(spec, body, tuple(tasks.parameters), device, threads)
