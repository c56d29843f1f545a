"""Copies of an environment, one task each, behind the faces that other libraries see.

A face has a name of the table, a preset and fields of it to change, and a split from which its
tasks come: ``train``, or one of the frozen lists (``test``, ``shifted``). Actions are shares in
[-1, 1] of ``EnvSpec.action_limit``, or choices; arrays are numpy's, with one row per copy.

Only ``set_tasks`` changes the tasks, from the next ``reset`` on; before it, the copies have the
first tasks of the split. An episode ends by the family's own rules, by its horizon (truncated), or
when the simulator fails: then it is truncated where it was before the failing step, without reward.
The only step of an episode with horizon 1 terminates it: these learners would add the value of a
state after it, and a pull of a bandit has none.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl import envs
from metarl.checks import COUNT, InputError, check_fields, field_names, unknown
from metarl.envs.mujoco_env import MujocoEnv
from metarl.envs.task_dicts import TaskDict, as_dicts, from_dicts
from metarl.protocols import CanClose, CanDraw, CanRestart
from metarl.seeding import Streams
from metarl.types import Tasks

_TRAIN = "train"
_FIRST = Streams(seed=0, path=("first tasks of a face",))
_FRAMES_PER_SECOND = 10  # where the environment has no seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Face:
    """Which environment is shown, and how."""

    name: str
    """A key of the table of environments."""
    preset: str | None = None
    """One of the family's published settings; its first where left out."""
    split: str = _TRAIN
    """Where tasks come from: train, or a held-out list."""
    config: Mapping[str, Any] | None = None
    """Fields of the preset's config to change, such as the horizon."""
    render_mode: str | None = None
    """``rgb_array``, or None."""
    num_copies: int = 1
    """How many copies."""
    threads: int | None = None
    """Of the physics; all cores of this process where left out."""

    def __post_init__(self) -> None:
        modes = ("rgb_array",)
        wrong = self.render_mode not in (None, *modes)
        check_fields(
            self,
            {"num_copies": COUNT},
            unknown("render_mode", self.render_mode, modes) if wrong else None,
        )


class Stepped(NamedTuple):
    """What a step of N copies led to; where a copy did not run, its row says nothing."""

    obs: NDArray[np.float32]
    """[N, O], of a failed copy where it was before."""
    reward: NDArray[np.float32]
    """[N]"""
    terminated: NDArray[np.bool_]
    """[N]"""
    truncated: NDArray[np.bool_]
    """[N]: ended by the time limit or by a failure, and not terminated."""
    faulty: NDArray[np.bool_]
    """[N]: the simulator failed."""
    success: NDArray[np.bool_] | None
    """[N], where the task has a goal: whether the copy is there."""

    @property
    def ended(self) -> NDArray[np.bool_]:
        """[N]: whose episode is over."""
        return self.terminated | self.truncated


class Copies:
    """N copies of an environment. Owns it, their tasks, and how old their episodes are."""

    def __init__(self, face: Face) -> None:
        config = _changed(envs.preset(face.name, face.preset), face.config)
        self.distribution, env = envs.build(face.name, config, threads=face.threads)
        if not isinstance(env, CanRestart):
            raise TypeError(f"{face.name}: {type(env).__name__} has no restart")
        if face.render_mode is not None and not isinstance(env, CanDraw):
            raise InputError([f"{face.name} cannot be drawn: render_mode must be None"])
        self._env, self.spec, self.number = env, env.spec, face.num_copies
        splits = (_TRAIN, *self.distribution.held_out_lists)
        if face.split not in splits:
            raise InputError([unknown(f"split of {face.name}", face.split, splits)])
        self._split = face.split
        self.tasks = self._draw(self.number, _FIRST)
        self.coming_tasks = self.tasks
        """The tasks from the next ``reset`` on."""
        self._streams: Streams | None = None
        self._num_starts = self._num_draws = 0
        self._age = np.zeros(self.number, dtype=np.int64)
        self._obs: NDArray[np.float32] | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """How the copies can be drawn, as Gymnasium has it."""
        modes = ["rgb_array"] if isinstance(self._env, CanDraw) else []
        rate = _FRAMES_PER_SECOND
        if isinstance(self._env, MujocoEnv):
            rate = round(1.0 / self._env.physics.dt)
        return {"render_modes": modes, "render_fps": rate}

    @property
    def is_seeded(self) -> bool:
        """Whether ``seed`` was ever called."""
        return self._streams is not None

    def seed(self, seed: int) -> None:
        """Begin the streams of random numbers anew; tasks stay as they are."""
        self._streams = Streams(int(seed)).at("face")
        self._num_starts = self._num_draws = 0

    def sample_tasks(self, num_tasks: int) -> list[TaskDict]:
        """Draw tasks for training, others each time; or return the first of the frozen list.

        Raises:
            InputError: the list is shorter, or ``num_tasks`` is not a whole number > 0.
        """
        if not COUNT.accepts(num_tasks):
            raise InputError([f"num_tasks must be {COUNT.text}, got {num_tasks!r}"])
        self._num_draws += 1
        return as_dicts(self._draw(num_tasks, self._place("tasks", self._num_draws)))

    def set_tasks(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Give each copy a task, or all the same one, from the next ``reset`` on.

        Raises:
            InputError: a dict is no task of this environment, or there are too few or too many.
        """
        if isinstance(tasks, Mapping | str) or len(tasks) not in (1, self.number):
            many = f", or one of {self.number}" if self.number > 1 else ""
            raise InputError([f"{self.spec.name}: a list of one task{many} is needed"])
        read = from_dicts(self.spec.name, self.distribution.parameters, tasks)
        rows = torch.arange(self.number) % len(tasks)
        parameter = {name: leaf[rows] for name, leaf in read.parameter.items()}
        self.coming_tasks = Tasks(read.task_id[rows], parameter)

    def reset(self) -> NDArray[np.float32]:
        """Start an episode of every copy, under the tasks that were set; return obs [N, O]."""
        self.tasks = self.coming_tasks
        return self._start(np.ones(self.number, dtype=np.bool_))

    def restart(self, copies: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Start an episode of some copies [N], under the tasks they have; return obs [N, O]."""
        return self._start(copies)

    def step(self, action: NDArray[Any], running: NDArray[np.bool_] | None = None) -> Stepped:
        """Apply actions, [N, A] in [-1, 1] or [N] choices, to the running copies, or to all.

        Raises:
            RuntimeError: before the first ``reset``.
            InputError: the actions have another shape, or there is no such choice.
        """
        if self._obs is None:
            raise RuntimeError(f"{self.spec.name}: reset comes before step")
        runs = np.ones(self.number, dtype=np.bool_) if running is None else running
        step = self._env.step(self._action(action), torch.from_numpy(runs)[:, None])
        obs, reward, faulty = self._rows(step.obs), self._rows(step.reward), self._rows(step.faulty)
        faulty, terminated = faulty & runs, self._rows(step.terminated) & runs
        if faulty.any():
            obs = np.where(faulty[:, None], self._obs, obs)
            reward, terminated = np.where(faulty, 0.0, reward), terminated & ~faulty
        self._age += runs
        late = (self._age >= self.spec.horizon) & runs & ~terminated
        if self.spec.horizon == 1:
            terminated, late = terminated | (late & ~faulty), late & faulty
        self._obs = obs
        success = None if step.success is None else self._rows(step.success)
        return Stepped(obs.copy(), reward, terminated, faulty | late, faulty, success)

    def picture(self, copy: int) -> NDArray[np.uint8]:
        """Draw a copy as it is now, [height, width, 3] RGB.

        Raises:
            RuntimeError: before the first ``reset``, or where nothing can be drawn.
        """
        if self._obs is None or not isinstance(self._env, CanDraw):
            why = "reset comes before render" if self._obs is None else "cannot be drawn"
            raise RuntimeError(f"{self.spec.name}: {why}")
        return self._env.picture(copy, 0)

    def close(self) -> None:
        """Let go of what drawing has taken."""
        if isinstance(self._env, CanClose):
            self._env.close()

    def _start(self, copies: NDArray[np.bool_]) -> NDArray[np.float32]:
        streams = self._place("start", self._num_starts)
        self._num_starts += 1
        if copies.all():
            obs = self._env.reset(self.tasks, 1, streams)
        else:
            obs = self._env.restart(torch.from_numpy(copies)[:, None], streams)
        self._age[copies] = 0
        self._obs = self._rows(obs)
        return self._obs.copy()

    def _draw(self, num_tasks: int, streams: Streams) -> Tasks:
        if self._split == _TRAIN:
            return self.distribution.sample(num_tasks, streams)
        return self.distribution.held_out(num_tasks, self._split)

    def _place(self, *names: str | int) -> Streams:
        if self._streams is None:
            raise RuntimeError(f"{self.spec.name}: seed comes before random numbers")
        return self._streams.at(*names)

    def _action(self, action: NDArray[Any]) -> Tensor:
        """Return the environment's own actions, [N, 1, A] or [N, 1]."""
        shape = (self.number,) if self.spec.discrete else (self.number, self.spec.action_size)
        if action.shape != shape:
            raise InputError([f"{self.spec.name}: actions must be {shape}, got {action.shape}"])
        if not self.spec.discrete:
            own = np.multiply(action, self.spec.action_limit, dtype=np.float32)
            return torch.from_numpy(own)[:, None]
        whole = np.issubdtype(action.dtype, np.integer)
        if not whole or not ((action >= 0) & (action < self.spec.action_size)).all():
            most = self.spec.action_size - 1
            message = f"{self.spec.name}: choices are whole numbers from 0 to {most}, got {action}"
            raise InputError([message])
        return torch.from_numpy(action.astype(np.int64))[:, None]

    def _rows(self, leaf: Tensor) -> NDArray[Any]:
        """Return a tensor [N, 1, ...] as an array [N, ...] that shares its memory."""
        rows: NDArray[Any] = leaf[:, 0].numpy()
        return rows


def _changed(config: envs.EnvConfig, changes: Mapping[str, Any] | None) -> envs.EnvConfig:
    """Return a config with other values in some fields."""
    names = field_names(type(config))
    strangers = [name for name in changes or {} if name not in names]
    if strangers:
        owner = f"field of {type(config).__name__}"
        raise InputError(unknown(owner, name, names) for name in strangers)
    return dataclasses.replace(config, **changes) if changes else config
