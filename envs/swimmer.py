"""Swimmer: three links that wriggle through a dense liquid, in a plane, at a given velocity.

Task. ``velocity`` is drawn from U[0, max_velocity] m/s along x; the shifted tasks lie in
U[max_velocity, max_velocity + 0.1]. The task is hidden: it shows in the reward alone.

Observation, in order (8 entries). The origin is the model's: a point fixed to the head link, on its
axis and 0.5 m behind its end.

===== ================================= ======
index what                              unit
===== ================================= ======
0     direction of the head link        rad
1-2   joint angles: front, back         rad
3-4   velocity of the origin: x, y      m/s
5     angular velocity of the head link rad/s
6-7   joint velocities: front, back     rad/s
===== ================================= ======

Action. Two numbers; divided by ``action_scale`` and clipped to [-1, 1] they are the torques on the
front and the back joint, as shares of 150 N m.

Reward per step, with v = (x after - x before) / 0.04 s of the origin and a the clipped action:
-abs(v - velocity) - 0.0001 * sum(a^2). Unit m/s.

Horizon. 200 steps of 4 substeps of 0.01 s. Never terminates.

Start. All five positions (x, y, direction and two angles) and all five velocities U(-0.1, 0.1),
around the straight body at rest in the origin.

Source. Our choice (``default``), after the family of this name in Rothfuss et al. 2019's code. That
draws from U[0.1, 0.2] and pays +abs(v - velocity), for staying away from the velocity asked for,
surely by mistake. Body: ``assets/swimmer.xml``, the dynamics of Gymnasium's Swimmer-v5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from metarl.checks import POSITIVE, check_fields
from metarl.envs.locomotion import LocomotionConfig, forwards, show_task, velocities, velocity_miss
from metarl.envs.mujoco_env import Array, Body, Moved, MujocoEnv, Noise
from metarl.envs.mujoco_renderer import View
from metarl.envs.physics import BatchPhysics, load_asset
from metarl.envs.task_lists import EndlessTasks

_SUBSTEPS = 4
_NUM_ACTUATORS = 2
_OBSERVATION_SIZE = 8
_CONTROL_COST = 1e-4
_SHIFT = 0.1
_ARROW = 5.0  # m for each m/s: velocities are small


@dataclass(frozen=True, kw_only=True)
class SwimmerVelConfig(LocomotionConfig):
    """Swim at a given velocity."""

    max_velocity: float = 0.2
    """Velocities are drawn from 0 to this, in m/s."""

    def __post_init__(self) -> None:
        LocomotionConfig.__post_init__(self)
        check_fields(self, {"max_velocity": POSITIVE})


PRESETS: Mapping[str, SwimmerVelConfig] = {"default": SwimmerVelConfig()}


def swimmer() -> Body:
    """Return the body, paid for its velocity along x."""
    return Body(
        xml=load_asset("swimmer.xml"),
        substeps=_SUBSTEPS,
        noise=Noise(position=0.1, velocity=0.1, normal=False),
        observe=_observe,
        measure=forwards,
        reward=_reward,
        view=View(elevation=-35.0),
        markers=partial(show_task, scale=_ARROW),
    )


def _reward(moved: Moved) -> Array:
    return -velocity_miss(moved) - _CONTROL_COST * moved.effort


def _observe(physics: BatchPhysics) -> Sequence[Array]:
    return physics.qpos[:, 2:], physics.qvel


def build(
    name: str, config: SwimmerVelConfig, device: str, threads: int
) -> tuple[EndlessTasks, MujocoEnv]:
    """Build the distribution and the environment."""
    tasks = velocities(name, device, config.max_velocity, beyond=_SHIFT)
    spec = config.spec(name, _OBSERVATION_SIZE, _NUM_ACTUATORS)
    return tasks, MujocoEnv(spec, swimmer(), tuple(tasks.parameters), device, threads)
