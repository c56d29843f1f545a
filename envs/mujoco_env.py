"""Copies of a MuJoCo body that do a task: what all simulated families share.

A family says in a ``Body`` what its copies are, observe and are paid for, as functions of numpy
arrays with one row per copy. Its actions are shares of the motors' ranges: divided by
``action_limit`` and clipped to [-1, 1], -1 is a motor's lowest control and 1 its highest.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metarl.checks import EnvFaultError
from metarl.envs.body_checks import asked, flags, numbers, rows, side_by_side
from metarl.envs.mujoco_renderer import Marker, Renderer, View
from metarl.envs.physics import BatchPhysics
from metarl.envs.refusals import refuse_other_actions, refuse_other_tasks
from metarl.envs.transfers import to_device, to_host
from metarl.seeding import Streams
from metarl.types import EnvSpec, Step, Tasks

Array: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Parameters: TypeAlias = Mapping[str, Array]
"""Task parameters by name, [N, ...]: one row per copy."""


class Moved(NamedTuple):
    """One step of N copies, as what they are paid for sees it."""

    before: Array
    """[N, ...] what ``Body.measure`` returned before the step."""
    after: Array
    """[N, ...] what it returned after it."""
    action: Array
    """[N, A] in [-1, 1]."""
    parameter: Parameters
    physics: BatchPhysics

    @property
    def velocity(self) -> Array:
        """Change of what is measured, per second."""
        velocity: Array = (self.after - self.before) / self.physics.dt
        return velocity

    @property
    def effort(self) -> Array:
        """[N] sum of the squared actions."""
        effort: Array = np.einsum("na,na->n", self.action, self.action)
        return effort


class Noise(NamedTuple):
    """How starts differ from the model's own pose; every entry of it independently."""

    position: float | Array
    """Positions get U(-this, this) in m or rad; one number, or one for each of them [nq]."""
    velocity: float
    """Velocities get this times N(0, 1), or U(-this, this), in m/s or rad/s."""
    normal: bool = True
    """Which of the two."""


class Body(NamedTuple):
    """What the copies of a family are. Arrays have one row per copy."""

    xml: str | Path
    """The model, as MJCF: its text, or a file."""
    substeps: int
    """Simulator steps of one environment step."""
    noise: Noise
    observe: Callable[[BatchPhysics], Sequence[Array]]
    """Returns the parts [N, ...] of the observation, which are put side by side."""
    measure: Callable[[BatchPhysics], Array]
    """Returns [N, ...] whose change in a step the reward needs."""
    reward: Callable[[Moved], Array]
    """Returns [N]."""
    unhealthy: Callable[[BatchPhysics], Flags] | None = None
    """Returns [N]: whose episode ends here. None where none ever does."""
    success: Callable[[Moved], Flags] | None = None
    """Returns [N]: who is at the goal, where there is one."""
    derive: Callable[[Parameters], Parameters] | None = None
    """Returns parameters to add to those of the tasks: what follows from them, once a reset."""
    arrange: Callable[[Array, Array, Parameters], None] | None = None
    """Changes starts ``qpos`` [N, nq] and ``qvel`` [N, nv] in place, to suit the tasks."""
    refuse: Callable[[Mapping[str, Tensor]], None] | None = None
    """Raises InputError for tasks, by their parameters [K, ...], that cannot be."""
    vary: Callable[[BatchPhysics, Parameters], None] | None = None
    """Writes each copy's own model fields (``BatchPhysics.expand``) before its start."""
    outputs: Sequence[str] = ()
    """Derived fields of ``mjData`` that these functions read by ``BatchPhysics.output``."""
    view: View = View()
    """From where it is drawn."""
    markers: Callable[[Array, Parameters], Sequence[Marker]] | None = None
    """Of one copy, what shows its task in a picture, from the position [3] of its first body and
    its own parameters [...]."""
    speed_limit: float | None = None
    """Velocities are clipped to [-this, this] m/s or rad/s before each step; None for free ones."""


class MujocoEnv:
    """E copies of each of K tasks of one body. Owns the physics of all of them."""

    def __init__(
        self, spec: EnvSpec, body: Body, parameters: Sequence[str], device: str, threads: int
    ) -> None:
        self.spec, self.threads, self.body = spec, threads, body
        self._parameters, self._device = tuple(parameters), device
        self.physics = self.build_physics(1)
        low, high = self.physics.control_range
        self._middle, self._half = (low + high) / 2.0, (high - low) / 2.0
        self._plain = bool((self._middle == 0.0).all() and (self._half == 1.0).all())
        self._shape, self._time = (1, 1), 0
        self._parameter: Parameters = {}
        self._action, self._before = np.zeros((1, spec.action_size)), np.zeros(1)
        self._renderer = Renderer(body.view)

    @cached_property
    def lanes(self) -> tuple["MujocoEnv", ...]:
        """Two environments that share the threads; none where these are few.

        On two threads that leave no core for acting they gained nothing; a GPU acts beside them.
        """
        if self.threads < (4 if self._device == "cpu" else 2):
            return ()
        half = self.threads // 2
        return tuple(
            MujocoEnv(self.spec, self.body, self._parameters, self._device, threads)
            for threads in (half, self.threads - half)
        )

    def build_physics(self, num_copies: int) -> BatchPhysics:
        """Return the physics of N copies."""
        body = self.body
        return BatchPhysics(body.xml, num_copies, body.substeps, self.threads, body.outputs)

    def copy_physics(self) -> BatchPhysics:
        """Return physics of its own with as many copies, their model fields and their state."""
        physics = self.build_physics(self.physics.num_copies)
        if self.body.vary is not None:
            self.body.vary(physics, self._parameter)
        physics.reset(self.physics.qpos.copy(), self.physics.qvel.copy())
        return physics

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        """Start E episodes of each task; return obs [K, E, O].

        Raises:
            ValueError: the tasks are those of another environment, or cannot be.
        """
        refuse_other_tasks(self.spec, self._parameters, tasks)
        if self.body.refuse is not None:
            self.body.refuse(tasks.parameter)
        self._shape, self._time = (len(tasks.task_id), episodes), 0
        num_copies = self._shape[0] * episodes
        self._action = np.zeros((num_copies, self.spec.action_size))
        if self.physics.num_copies != num_copies:
            self.physics = self.build_physics(num_copies)
        self._parameter = {
            name: np.repeat(leaf.double().cpu().numpy(), episodes, axis=0)
            for name, leaf in tasks.parameter.items()
        }
        if self.body.derive is not None:
            self._parameter = {**self._parameter, **self.body.derive(self._parameter)}
        if self.body.vary is not None:
            self.body.vary(self.physics, self._parameter)
        self.physics.reset(*self._starts(streams))
        return self._observe()

    def restart(self, copies: Tensor, streams: Streams) -> Tensor:
        """Start a new episode in ``copies`` [K, E] bool; return obs [K, E, O]."""
        chosen = to_host(copies).reshape(-1).nonzero()[0]
        self.physics.reset(*self._starts(streams), chosen)
        return self._observe()

    def step(self, action: Tensor, running: Tensor) -> Step:
        """Apply actions [K, E, A] to the running copies.

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

    def place(self, task: int, episode: int) -> Array:
        """Return where the first body of a copy is, [3] in m; errors as of ``picture``."""
        return self.physics.place_of(self._copy(task, episode))

    def picture(self, task: int, episode: int, path: Sequence[Array] = ()) -> NDArray[np.uint8]:
        """Draw one copy, its way from earlier places, and its task: [height, width, 3] RGB.

        Raises:
            RuntimeError: before ``reset``; or, as CannotDrawError, there is no OpenGL.
            IndexError: there is no such copy.
        """
        copy, mark = self._copy(task, episode), self.body.markers
        own = {name: values[copy] for name, values in self._parameter.items()}
        marks = () if mark is None else mark(self.place(task, episode), own)
        return self._renderer.draw(self.physics, copy, marks, path)

    def close(self) -> None:
        """Let go of what drawing has taken."""
        self._renderer.close()

    def _copy(self, task: int, episode: int) -> int:
        if not self._parameter:
            raise RuntimeError(f"{self.spec.name}: reset comes before picture")
        if not (0 <= task < self._shape[0] and 0 <= episode < self._shape[1]):
            raise IndexError(f"no copy {(task, episode)} among {self._shape}")
        return task * self._shape[1] + episode

    def _starts(self, streams: Streams) -> tuple[Array, Array]:
        """Draw starts ``qpos`` [N, nq] and ``qvel`` [N, nv] of all copies."""
        num_tasks, episodes = self._shape
        noise, host = self.body.noise, streams._replace(device="cpu")
        rest, num_speeds = self.physics.nominal("qpos0"), self.physics.qvel.shape[1]
        qpos = host.uniform("qpos", num_tasks, (episodes, len(rest))).double().numpy()
        draw = host.normal if noise.normal else host.uniform
        qvel = draw("qvel", num_tasks, (episodes, num_speeds)).double().numpy()
        if not noise.normal:
            qvel = 2.0 * qvel - 1.0
        qpos = (2.0 * noise.position * qpos - noise.position).reshape(-1, len(rest)) + rest
        qvel = (noise.velocity * qvel).reshape(-1, num_speeds)
        if self.body.arrange is not None:
            asked(self._named("arrange"), self.body.arrange, qpos, qvel, self._parameter)
        return qpos, qvel

    def _control(self, action: Tensor, running: Tensor) -> NDArray[np.int64] | None:
        """Set the motors; return the copies to step, None for all."""
        physics, size = self.physics, self.spec.action_size
        refuse_other_actions(self.spec, action, self._shape)
        physics.refuse_two_steps()
        np.divide(to_host(action).reshape(-1, size), self.spec.action_limit, out=self._action)
        np.clip(self._action, -1.0, 1.0, out=self._action)
        physics.ctrl[:] = self._action if self._plain else self._middle + self._half * self._action
        self._time += 1
        # A copy: a view of the state would be what it is after the step.
        self._before = self._measured().copy()
        run = to_host(running).reshape(-1)
        copies = None if run.all() else run.nonzero()[0]
        if self.body.speed_limit is not None:
            chosen, limit = slice(None) if copies is None else copies, self.body.speed_limit
            speeds = np.array(physics.qvel[chosen])  # clipped in half the time: it has no strides
            physics.qvel[chosen] = np.clip(speeds, -limit, limit, out=speeds)
        return copies

    def _result(self, faulty: Flags) -> Step:
        """Read what the step led to."""
        body, physics, shape = self.body, self.physics, faulty.shape
        moved = Moved(self._before, self._measured(), self._action, self._parameter, physics)
        reward = numbers(self._named("reward"), shape, body.reward, moved)
        ended, there = np.zeros_like(faulty), None
        if body.unhealthy is not None:
            ended = flags(self._named("unhealthy"), shape, body.unhealthy, physics)
        if body.success is not None:
            there = self._tensor(flags(self._named("success"), shape, body.success, moved))
        return Step(
            obs=self._observe(),
            reward=self._tensor(reward.astype(np.float32)),
            terminated=self._tensor(ended),
            faulty=self._tensor(faulty),
            success=there,
        )

    def _named(self, function: str) -> str:
        """Name one of the body's functions, for messages."""
        return f"{self.spec.name}: {function}" + (f" in step {self._time}" if self._time else "")

    def _measured(self) -> Array:
        return rows(self._named("measure"), len(self._action), self.body.measure, self.physics)

    def _observe(self) -> Tensor:
        what, size = self._named("observe"), self.spec.observation_size
        obs = side_by_side(what, self.physics.num_copies, self.body.observe, self.physics)
        if obs.shape[1] != size:
            raise EnvFaultError(f"{what} returned {obs.shape[1]} numbers per copy, at first {size}")
        return self._tensor(obs)

    def _tensor(self, values: NDArray[np.generic]) -> Tensor:
        return to_device(values.reshape(*self._shape, *values.shape[1:]), self._device)
