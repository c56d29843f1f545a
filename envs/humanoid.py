"""Humanoid: a body on two legs that runs in a given direction.

Task. ``heading``, the unit vector (cos, sin) of an angle U[0, 2 pi]. It is hidden: it shows in the
reward alone.

Observation, in order (292 entries). The 14 bodies are the world (whose entries are always 0), the
torso, lower waist, pelvis, right thigh, shin and foot, left thigh, shin and foot, right upper and
lower arm, left upper and lower arm; what is said of each of them is about the centre of mass of the
whole, along the axes of the world.

======= ================================================================== ===================
index   what                                                               unit
======= ================================================================== ===================
0       height of the torso                                                m
1-4     orientation of the torso, a quaternion (w, x, y, z)                none
5-7     waist angles: about z, y, x                                        rad
8-11    right hip about x, z, y; right knee                                rad
12-15   left hip about x, z, y; left knee                                  rad
16-18   right shoulder (2), right elbow                                    rad
19-21   left shoulder (2), left elbow                                      rad
22-24   velocity of the torso, x, y, z                                     m/s
25-27   angular velocity of the torso, in its own frame                    rad/s
28-44   joint velocities, in the order of the angles                       rad/s
45-184  for each body: inertia (6), first moment of mass (3), mass (1)     kg m^2, kg m, kg
185-268 for each body: angular velocity (3), linear velocity (3)           rad/s, m/s
269-291 force of the motors on the torso (6, always 0) and on each joint   N, N m
======= ================================================================== ===================

Action. 17 numbers; divided by ``action_scale`` and clipped to [-1, 1] they are shares of the
largest control, 0.4 of a motor's gear: waist y, z, x (40 N m each); right hip x, z, y (40, 40, 120)
and knee (80); left hip and knee alike; both right shoulders and the elbow, and the left ones (10).

Reward per step: 1.25 * heading . v - 0.1 * sum(c^2) + 5, where v is the change of the centre of
mass in the plane over the step, in m/s, and c are the controls themselves, from -0.4 to 0.4. Unit
m/s.

Horizon. 200 steps of 5 substeps of 0.003 s. Terminates where the torso's height is outside
[1, 2] m.

Start. All 24 positions (the quaternion's entries too; it is normalised when used) and all 23
velocities U(-0.01, 0.01), around the model's pose: standing, with its torso at 1.4 m.

Source. Rakelly et al. 2019 (``pearl-2019``), with 100 training tasks and 30 held-out ones, by its
code. As there, the centre of mass and the entries from 45 on are those that MuJoCo last computed in
the step, just before its end. The published observation goes on with 84 contact forces, and these
cost a little: MuJoCo has not computed them by itself since version 2.0, so that they have been zero
in most results since, and they are left out here. Body: ``assets/humanoid.xml``, the dynamics of
Gymnasium's Humanoid-v5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from metarl.envs.locomotion import LocomotionConfig, headings, outside, show_task
from metarl.envs.mujoco_env import Array, Body, Moved, MujocoEnv, Noise
from metarl.envs.mujoco_renderer import View
from metarl.envs.physics import BatchPhysics, load_asset
from metarl.envs.task_lists import TaskListConfig, listed
from metarl.protocols import TaskDistribution

_SUBSTEPS = 5
_NUM_ACTUATORS = 17
_OBSERVATION_SIZE = 292
_FORWARD_WEIGHT = 1.25
_CONTROL_COST = 0.1
_ALIVE_BONUS = 5.0
_HEALTHY = (1.0, 2.0)
_OBSERVED = ("cinert", "cvel", "qfrc_actuator")


@dataclass(frozen=True, kw_only=True)
class HumanoidDirConfig(LocomotionConfig, TaskListConfig):
    """Run in a given direction."""

    num_train_tasks: int = 100
    """Length of the list of training tasks; 0 draws a fresh task every time."""
    num_test_tasks: int = 30
    """Length of the held-out list; 0, with ``num_train_tasks`` 0, for a list without end."""

    def __post_init__(self) -> None:
        LocomotionConfig.__post_init__(self)
        TaskListConfig.__post_init__(self)


PRESETS: Mapping[str, HumanoidDirConfig] = {"pearl-2019": HumanoidDirConfig()}


def humanoid() -> Body:
    """Return the body, paid for its velocity along ``heading``."""
    return Body(
        xml=load_asset("humanoid.xml"),
        substeps=_SUBSTEPS,
        noise=Noise(position=0.01, velocity=0.01, normal=False),
        observe=_observe,
        measure=centre_of_mass,
        reward=_reward,
        unhealthy=partial(outside, healthy=_HEALTHY),
        outputs=("xipos", *_OBSERVED),
        view=View(distance=5.0),
        markers=show_task,
    )


def centre_of_mass(physics: BatchPhysics) -> Array:
    """Return where the centre of mass of everything is in the plane, [N, 2] in m."""
    mass = physics.nominal("body_mass")
    centre: Array = np.einsum("b,nbd->nd", mass / mass.sum(), physics.output("xipos")[..., :2])
    return centre


def _reward(moved: Moved) -> Array:
    along = np.einsum("nd,nd->n", moved.velocity, moved.parameter["heading"])
    control = moved.physics.ctrl
    cost = _CONTROL_COST * np.einsum("na,na->n", control, control)
    paid: Array = _FORWARD_WEIGHT * along - cost + _ALIVE_BONUS
    return paid


def _observe(physics: BatchPhysics) -> Sequence[Array]:
    rows = physics.num_copies
    derived = map(physics.output, _OBSERVED)
    return physics.qpos[:, 2:], physics.qvel, *(field.reshape(rows, -1) for field in derived)


def build(
    name: str, config: HumanoidDirConfig, device: str, threads: int
) -> tuple[TaskDistribution, MujocoEnv]:
    """Build the distribution and the environment."""
    tasks = listed(headings(name, device), name, config, device)
    spec = config.spec(name, _OBSERVATION_SIZE, _NUM_ACTUATORS)
    return tasks, MujocoEnv(spec, humanoid(), tuple(tasks.parameters), device, threads)
