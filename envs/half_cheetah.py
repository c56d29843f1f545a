"""Half-cheetah: a planar two-legged body that runs in a given direction or at a given velocity.

Task. ``direction`` is -1 or +1, with equal probability. ``velocity`` is drawn from
U[0, max_velocity] m/s. The task is hidden: it shows in the reward alone.

Observation, in order (17 entries; 20 with ``observe_torso``):

====== ============================================================ ===========
index  what                                                         unit
====== ============================================================ ===========
0      height of the torso above its 0.7 m in the model             m
1      pitch of the torso                                           rad
2-7    joint angles: back thigh, shin, foot; front thigh, shin, foot rad
8-9    velocity of the torso, forwards and upwards                  m/s
10     pitch rate                                                   rad/s
11-16  joint velocities, in the order of the angles                 rad/s
17-19  position of the torso: x, y (always 0), z                    m
====== ============================================================ ===========

Action. Six numbers; divided by ``action_scale`` and clipped to [-1, 1] they are the motors' torques
as shares of 120, 90, 60 (back thigh, shin, foot), 120, 60 and 30 N m (front).

Reward per step, with v = (x after - x before) / 0.05 s and a the clipped action: direction * v, or
-abs(v - velocity); minus 0.05 * sum(a^2). Unit m/s.

Horizon. 100 or 200 steps of 5 substeps of 0.01 s. Never terminates.

Start. All nine positions (torso x, z and pitch, and the six joint angles) U(-0.1, 0.1) in m or rad,
their velocities 0.1 * N(0, 1), around the model's zero pose.

Source. Finn et al. 2017 (``maml-2017``), Rothfuss et al. 2019 (``promp-2019``) and Rakelly et al.
2019 (``pearl-2019``). ``promp-2019`` draws velocities from U[0, 3] where the paper's text says
U[0, 2]; its code is followed. ``pearl-2019`` has 100 training tasks and 30 held-out ones. The code
of 2017 ran on another simulator binding, with a smaller start noise and the velocity and position
of the torso's centre of mass; all presets here share the start and the velocity above. Body:
``assets/half_cheetah.xml``, the dynamics of Gymnasium's HalfCheetah-v5.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.checks import COUNT, COUNT_OR_ZERO, POSITIVE, check_fields
from metarl.envs.physics import BatchPhysics, load_asset
from metarl.envs.task_lists import EndlessTasks, FiniteTasks
from metarl.envs.transfers import to_device, to_host
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import EnvSpec, Step, Tasks

_SUBSTEPS = 5
_CONTROL_COST = 0.05
_TORSO_HEIGHT = 0.7
_NUM_ACTUATORS = 6


@dataclass(frozen=True, kw_only=True)
class HalfCheetahDirConfig:
    """Run forwards or backwards."""

    horizon: int = 100
    """Steps of an episode, 0.05 s each."""
    action_scale: float = 10.0
    """The policy's action is divided by this before it is clipped to [-1, 1]."""
    observe_torso: bool = False
    """Append the torso's position (x, y, z) in m to the observation."""

    def __post_init__(self) -> None:
        check_fields(self, {"horizon": COUNT, "action_scale": POSITIVE})


@dataclass(frozen=True, kw_only=True)
class HalfCheetahVelConfig(HalfCheetahDirConfig):
    """Run at a given velocity."""

    max_velocity: float = 3.0
    """Velocities are drawn from 0 to this, in m/s."""
    num_train_tasks: int = 0
    """Length of the list of training tasks; 0 draws a fresh task every time."""
    num_test_tasks: int = 0
    """Length of the held-out list; 0, with ``num_train_tasks`` 0, for a list without end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(
            self,
            {
                "max_velocity": POSITIVE,
                "num_train_tasks": COUNT_OR_ZERO,
                "num_test_tasks": COUNT_OR_ZERO,
            },
            None
            if (self.num_train_tasks == 0) == (self.num_test_tasks == 0)
            else "HalfCheetahVelConfig.num_test_tasks must be 0 exactly when num_train_tasks is,"
            f" got {self.num_test_tasks} and {self.num_train_tasks}",
        )


DIR_PRESETS: Mapping[str, HalfCheetahDirConfig] = {
    "promp-2019": HalfCheetahDirConfig(),
    "maml-2017": HalfCheetahDirConfig(horizon=200, action_scale=1.0, observe_torso=True),
}
_VEL_2017 = HalfCheetahVelConfig(
    horizon=200, action_scale=1.0, observe_torso=True, max_velocity=2.0
)
VEL_PRESETS: Mapping[str, HalfCheetahVelConfig] = {
    "promp-2019": HalfCheetahVelConfig(),
    "maml-2017": _VEL_2017,
    "pearl-2019": replace(_VEL_2017, max_velocity=3.0, num_train_tasks=100, num_test_tasks=30),
}


class Directions:
    """The two tasks -1 and +1, drawn with equal probability; the test list has them in turn."""

    num_held_out = None

    def __init__(self, device: str) -> None:
        self.device = device

    def sample(self, num_tasks: int, streams: Streams) -> Tasks:
        """Draw K directions; ``task_id`` is 0 for backwards and 1 for forwards."""
        return self._tasks((streams.uniform("direction", num_tasks, ()) < 0.5).long())

    def held_out(self, num_tasks: int) -> Tasks:
        """Return K directions, backwards and forwards in turn."""
        return self._tasks(torch.arange(num_tasks, device=self.device) % 2)

    def _tasks(self, task_id: Tensor) -> Tasks:
        return Tasks(task_id, {"direction": 2.0 * task_id.float() - 1.0})


class HalfCheetah:
    """E copies of each of K half-cheetahs. Owns the physics of all of them."""

    def __init__(self, spec: EnvSpec, config: HalfCheetahDirConfig, device: str, threads: int):
        self.spec, self.threads = spec, threads
        self._config, self._device = config, device
        self.physics = self.build_physics(1)
        self._shape = (1, 1)
        by_velocity = isinstance(config, HalfCheetahVelConfig)
        self._parameter = "velocity" if by_velocity else "direction"
        self._goal, self._before = np.zeros(1), np.zeros(1)

    @cached_property
    def lanes(self) -> tuple["HalfCheetah", ...]:
        """Two environments that share the threads; none where these are few.

        On two threads, whose physics leaves no core for acting, two lanes gained nothing.
        """
        if self.threads < 4:
            return ()
        half = self.threads // 2
        return tuple(
            HalfCheetah(self.spec, self._config, self._device, threads)
            for threads in (half, self.threads - half)
        )

    def build_physics(self, num_copies: int) -> BatchPhysics:
        """Return the physics of N copies."""
        return BatchPhysics(load_asset("half_cheetah.xml"), num_copies, _SUBSTEPS, self.threads)

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        """Start E episodes of each task; return obs [K, E, O].

        Raises:
            ValueError: the tasks are those of another environment.
        """
        if self._parameter not in tasks.parameter:
            got = ", ".join(tasks.parameter)
            raise ValueError(f"{self.spec.name} takes tasks with {self._parameter!r}, got {got}")
        self._shape = (len(tasks.task_id), episodes)
        num_copies = self._shape[0] * episodes
        if self.physics.num_copies != num_copies:
            self.physics = self.build_physics(num_copies)
        num_joints = self.physics.qpos.shape[1]
        host = streams._replace(device="cpu")
        position = host.uniform("qpos", self._shape[0], (episodes, num_joints)).double().numpy()
        velocity = host.normal("qvel", self._shape[0], (episodes, num_joints)).double().numpy()
        self.physics.reset(
            (0.2 * position - 0.1).reshape(num_copies, -1), (0.1 * velocity).reshape(num_copies, -1)
        )
        goal = tasks.parameter[self._parameter].double().cpu().numpy()
        # One entry per copy, in the order of the copies.
        self._goal = np.repeat(goal, episodes)
        return self._observe()

    def step(self, action: Tensor, running: Tensor) -> Step:
        """Apply actions [K, E, 6] to the running copies.

        Raises:
            ValueError: the actions have another shape.
        """
        return self._result(self.physics.step(self._control(action, running)))

    def start_step(self, action: Tensor, running: Tensor) -> None:
        """Begin ``step``, and return at once.

        Raises:
            ValueError: the actions have another shape.
            RuntimeError: a step is under way.
        """
        self.physics.start_step(self._control(action, running))

    def finish_step(self) -> Step:
        """Wait for the step that was begun.

        Raises:
            RuntimeError: none was begun.
        """
        return self._result(self.physics.finish_step())

    def _control(self, action: Tensor, running: Tensor) -> NDArray[np.int64] | None:
        """Set the motors; return the copies to step, None for all."""
        expected = (*self._shape, _NUM_ACTUATORS)
        if action.shape != expected:
            raise ValueError(f"{self.spec.name}: action is {tuple(action.shape)}, not {expected}")
        physics = self.physics
        np.divide(_rows(action), self._config.action_scale, out=physics.ctrl)
        np.clip(physics.ctrl, -1.0, 1.0, out=physics.ctrl)
        self._before = physics.qpos[:, 0].copy()
        rows = to_host(running.flatten())
        return None if rows.all() else rows.nonzero()[0]

    def _result(self, faulty: NDArray[np.bool_]) -> Step:
        """Read what the step led to."""
        physics = self.physics
        speed = (physics.qpos[:, 0] - self._before) / physics.dt
        effort = np.einsum("na,na->n", physics.ctrl, physics.ctrl)
        reward = self._progress(speed) - _CONTROL_COST * effort
        return Step(
            obs=self._observe(),
            reward=self._tensor(reward.astype(np.float32)),
            terminated=torch.zeros(self._shape, dtype=torch.bool, device=self._device),
            faulty=self._tensor(faulty),
        )

    def _progress(self, speed: NDArray[np.float64]) -> NDArray[np.float64]:
        by_velocity = self._parameter == "velocity"
        progress: NDArray[np.float64] = (
            -np.abs(speed - self._goal) if by_velocity else self._goal * speed
        )
        return progress

    def _observe(self) -> Tensor:
        qpos, qvel = self.physics.qpos, self.physics.qvel
        parts = [qpos[:, 1:], qvel]
        if self._config.observe_torso:
            x, z = qpos[:, 0], qpos[:, 1] + _TORSO_HEIGHT
            parts.append(np.stack((x, np.zeros_like(x), z), axis=1))
        return self._tensor(np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind"))

    def _tensor(self, rows: NDArray[np.generic]) -> Tensor:
        return to_device(rows, self._device).reshape(*self._shape, *rows.shape[1:])


def _rows(x: Tensor) -> NDArray[np.generic]:
    """Turn [K, E, ...] into a numpy array with one row per copy."""
    return to_host(x.reshape(x.shape[0] * x.shape[1], -1))


def build(
    name: str, config: HalfCheetahDirConfig, device: str, threads: int
) -> tuple[TaskDistribution, HalfCheetah]:
    """Build the distribution and the environment of either family."""
    size = 20 if config.observe_torso else 17
    spec = EnvSpec(name, size, _NUM_ACTUATORS, False, config.horizon, score_is_total=False)
    env = HalfCheetah(spec, config, device, threads)
    if not isinstance(config, HalfCheetahVelConfig):
        return Directions(device), env
    top = config.max_velocity
    velocities = EndlessTasks(
        name, lambda k, streams: {"velocity": streams.uniform("velocity", k, ()) * top}, device
    )
    if not config.num_train_tasks:
        return velocities, env
    return FiniteTasks(velocities, name, config.num_train_tasks, config.num_test_tasks), env
