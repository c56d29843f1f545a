"""Ant: a four-legged body that runs at a given velocity, in a given direction, or to a given place.

Task. ``AntVel``: ``velocity`` ~ U[0, max_velocity] m/s along x; the shifted tasks lie in
U[max_velocity, max_velocity + 1]. ``AntDir``: ``heading``, a unit vector: (-1, 0) or (1, 0) with
equal probability, or (cos, sin) of an angle U[0, 2 pi] (``plane``). ``AntGoal``: ``goal`` in m,
uniform in the square [-radius, radius]^2 or in the disc of that radius (``disc``); the shifted
goals lie up to 1 m further out. The task is hidden: it shows in the reward alone.

Observation, in order (27 entries; 29 with ``observe_place``, which puts 2 before the others):

===== ================================================================= ===========
index what                                                              unit
===== ================================================================= ===========
(0-1) position of the torso, x and y, with ``observe_place`` only       m
0     height of the torso                                               m
1-4   orientation of the torso, a quaternion (w, x, y, z)               none
5-12  hip, ankle of each leg: front left and right, back left and right rad
13-15 velocity of the torso, x, y, z                                    m/s
16-18 angular velocity of the torso, in its own frame                   rad/s
19-26 joint velocities, in the order of the angles                      rad/s
===== ================================================================= ===========

Action. Eight numbers; divided by ``action_scale`` and clipped to [-1, 1] they are the motors'
torques as shares of 150 N m: hip and ankle of the back right leg, then of the front left, front
right and back left one.

Reward per step, with the torso's position p = (x, y), v = (p after - p before) / 0.05 s and a the
clipped action: ``bonus`` - ``control_cost`` * sum(a^2), plus

- ``AntVel``: -abs(v_x - velocity), in m/s
- ``AntDir``: heading . v, in m/s
- ``AntGoal``: -(abs(x - goal_x) + abs(y - goal_y)) after the step, in m

Horizon. 100 or 200 steps (see the presets) of 5 substeps of 0.01 s. Terminates where the torso's
height is outside [``lowest``, ``highest``], if ``can_fall``.

Start. All 15 positions (the quaternion's entries too; it is normalised when used) U(-0.1, 0.1) and
all 14 velocities 0.1 * N(0, 1), around the model's pose: upright at 0.75 m, with straight legs.

Presets, with the entries of an observation, ``action_scale``, ``control_cost`` and the heights in m
outside of which an episode ends:

======================= ===================== ======= ===== ===== ===== ========= ========
preset                  tasks                 entries steps scale cost  ``bonus`` height
======================= ===================== ======= ===== ===== ===== ========= ========
``maml-2017``           velocity, U[0, 3] m/s 29      200   1     0.005 1.05      0.2 to 1
``promp-2019``          two headings          27      100   10    0.5   1         0 to 1
``promp-2019-plane``    all headings          27      100   10    0.5   1         0 to 1
``maml-2017``           two headings          29      200   1     0.005 0.05      0.2 to 1
``pearl-2019``          all headings          27      200   1     0.5   1         0.2 to 1
``pearl-2019-fwd-back`` two headings          27      200   1     0.5   1         0.2 to 1
``promp-2019``          goal, disc of 3 m     29      100   10    0.1   0         any
``maml-2017``           goal, square of 3 m   29      200   1     0.005 4.05      0.2 to 1
``pearl-2019``          goal, disc of 3 m     29      200   1     0.1   0         any
======================= ===================== ======= ===== ===== ===== ========= ========

Source. Finn et al. 2017 (``maml-2017``), Rothfuss et al. 2019 (``promp-2019``; headings of the
whole plane in ``promp-2019-plane``) and Rakelly et al. 2019 (``pearl-2019``,
``pearl-2019-fwd-back``), by their code. Their observations end with contact forces, and these cost
a little: MuJoCo has not computed them by itself since version 2.0, so that they have been zero in
most results since, and they are left out here. The code of 2017 observed more of the torso, and its
velocity was that of the centre of mass. The others read the torso's place from a field that MuJoCo
fills just before the end of a step; here it is that after the step (the velocities differ by 0.004
m/s in the mean under random torques). ``pearl-2019`` of AntGoal has the 150 training and 30 test
tasks of the released settings. That of AntDir draws without end, our choice: the released settings
say two random directions where the paper has forwards and backwards. In ``maml-2017``, ``bonus`` is
0.05 for being alive plus the reward's constant 1 (velocity) or 4 (goal). Body: ``assets/ant.xml``,
the dynamics of Gymnasium's Ant-v5.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from metarl.checks import NON_NEGATIVE, POSITIVE, check_fields
from metarl.envs.locomotion import (
    LocomotionConfig,
    headings,
    outside,
    place,
    show_task,
    two_headings,
    velocities,
    velocity_miss,
)
from metarl.envs.mujoco_env import Array, Body, Moved, MujocoEnv, Noise
from metarl.envs.mujoco_renderer import View
from metarl.envs.physics import BatchPhysics, load_asset
from metarl.envs.plane_goals import goals_around
from metarl.envs.task_lists import TaskListConfig, listed
from metarl.protocols import TaskDistribution

_SUBSTEPS = 5
_NUM_ACTUATORS = 8
_OBSERVATION_SIZE = 27


@dataclass(frozen=True, kw_only=True)
class AntConfig(LocomotionConfig):
    """What the ant sees and pays for, and when it has fallen."""

    observe_place: bool = True
    """Put the torso's x and y in m before the rest of the observation."""
    control_cost: float = 0.005
    """Taken off the reward, times the sum of the squared clipped actions."""
    bonus: float = 0.05
    """Paid in every step."""
    can_fall: bool = True
    """Whether an episode ends when the torso's height is outside its range."""
    lowest: float = 0.2
    """Height of the torso in m below which the ant has fallen."""
    highest: float = 1.0
    """Height of the torso in m above which it counts as fallen, too."""

    def __post_init__(self) -> None:
        LocomotionConfig.__post_init__(self)
        rules = dict.fromkeys(("control_cost", "bonus", "lowest"), NON_NEGATIVE)
        check_fields(self, {**rules, "highest": POSITIVE})
        order = f"{type(self).__name__}.highest must be above lowest, {self.lowest!r},"
        check_fields(
            self, {}, None if self.lowest < self.highest else f"{order} got {self.highest!r}"
        )


@dataclass(frozen=True, kw_only=True)
class AntVelConfig(AntConfig):
    """Run at a given velocity."""

    bonus: float = 1.05
    """Paid in every step, in m/s."""
    max_velocity: float = 3.0
    """Velocities are drawn from 0 to this, in m/s."""

    def __post_init__(self) -> None:
        AntConfig.__post_init__(self)
        check_fields(self, {"max_velocity": POSITIVE})


@dataclass(frozen=True, kw_only=True)
class AntDirConfig(AntConfig):
    """Run in a given direction."""

    plane: bool = False
    """Whether headings come from the whole plane; else they are forwards and backwards."""


@dataclass(frozen=True, kw_only=True)
class AntGoalConfig(AntConfig, TaskListConfig):
    """Go to a given place."""

    bonus: float = 4.05
    """Paid in every step, in m."""
    radius: float = 3.0
    """How far away goals are, at most, in m: of the disc, or half the side of the square."""
    disc: bool = False
    """Whether goals lie in a disc; else they lie in a square."""

    def __post_init__(self) -> None:
        AntConfig.__post_init__(self)
        TaskListConfig.__post_init__(self)
        check_fields(self, {"radius": POSITIVE})


_PEARL_DIR = AntDirConfig(plane=True, observe_place=False, control_cost=0.5, bonus=1.0)
_PROMP_DIR = replace(_PEARL_DIR, plane=False, horizon=100, action_scale=10.0, lowest=0.0)
_PEARL_GOAL = AntGoalConfig(
    disc=True,
    control_cost=0.1,
    bonus=0.0,
    can_fall=False,
    num_train_tasks=150,
    num_test_tasks=30,
)
VEL_PRESETS: Mapping[str, AntVelConfig] = {"maml-2017": AntVelConfig()}
DIR_PRESETS: Mapping[str, AntDirConfig] = {
    "promp-2019": _PROMP_DIR,
    "promp-2019-plane": replace(_PROMP_DIR, plane=True),
    "maml-2017": AntDirConfig(),
    "pearl-2019": _PEARL_DIR,
    "pearl-2019-fwd-back": replace(_PEARL_DIR, plane=False),
}
GOAL_PRESETS: Mapping[str, AntGoalConfig] = {
    "promp-2019": replace(
        _PEARL_GOAL, horizon=100, action_scale=10.0, num_train_tasks=0, num_test_tasks=0
    ),
    "maml-2017": AntGoalConfig(),
    "pearl-2019": _PEARL_GOAL,
}


def ant(
    reward: Callable[[Moved], Array],
    *,
    observe_place: bool,
    healthy: tuple[float, float] | None = None,
) -> Body:
    """Return the body, paid by ``reward``; ``healthy`` is the torso's allowed range of heights."""
    return Body(
        xml=load_asset("ant.xml"),
        substeps=_SUBSTEPS,
        noise=Noise(position=0.1, velocity=0.1),
        observe=partial(_observe, observe_place=observe_place),
        measure=place,
        reward=reward,
        unhealthy=healthy and partial(outside, healthy=healthy),
        view=View(distance=5.0, elevation=-25.0),
        markers=show_task,
    )


def _observe(physics: BatchPhysics, observe_place: bool) -> Sequence[Array]:
    return physics.qpos[:, 0 if observe_place else 2 :], physics.qvel


def _reward(moved: Moved, config: AntConfig) -> Array:
    paid: Array = _progress(moved) + config.bonus - config.control_cost * moved.effort
    return paid


def _progress(moved: Moved) -> Array:
    """Return what is paid for doing the task, whichever of the three it is."""
    parameter = moved.parameter
    if "velocity" in parameter:
        progress: Array = -velocity_miss(moved)
    elif "heading" in parameter:
        progress = np.einsum("nd,nd->n", moved.velocity, parameter["heading"])
    else:
        progress = -np.abs(moved.after - parameter["goal"]).sum(1)
    return progress


def _tasks(name: str, config: AntConfig, device: str) -> TaskDistribution:
    if isinstance(config, AntVelConfig):
        return velocities(name, device, config.max_velocity)
    if isinstance(config, AntGoalConfig):
        return listed(
            goals_around(name, device, config.radius, disc=config.disc), name, config, device
        )
    plane = isinstance(config, AntDirConfig) and config.plane
    return headings(name, device) if plane else two_headings(name, device)


def build(
    name: str, config: AntConfig, device: str, threads: int
) -> tuple[TaskDistribution, MujocoEnv]:
    """Build the distribution and the environment of any of the three families."""
    tasks = _tasks(name, config, device)
    spec = config.spec(name, _OBSERVATION_SIZE + 2 * config.observe_place, _NUM_ACTUATORS)
    body = ant(
        partial(_reward, config=config),
        observe_place=config.observe_place,
        healthy=(config.lowest, config.highest) if config.can_fall else None,
    )
    return tasks, MujocoEnv(spec, body, tuple(tasks.parameters), device, threads)
