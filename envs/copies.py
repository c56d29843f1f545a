"""Copies of an environment, one task each, behind the faces that other libraries see.

A face has a name of the table, a preset and fields of it to change; or tasks of the user's own
(``metarl.envs.own``). Its tasks come from a split: ``train``, or one of the frozen lists (``test``,
``shifted``). Actions are shares in [-1, 1] of ``EnvSpec.action_limit``, or choices; arrays are
numpy's, with one row per copy.

Tasks change when they are set, from the next ``reset`` on. Before that, the copies of a frozen list
have its first tasks, and those of ``train`` have tasks drawn from the first seed that is given, so
that copies in several processes differ. An episode ends by the family's own rules, by its horizon
(truncated), or when the simulator fails: then it is truncated where it was before the failing step,
without reward. The only step of an episode with horizon 1 terminates it: these learners would add
the value of a state after it, and a pull of a bandit has none.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.checks import InputError
from metarl.envs.face import Face
from metarl.envs.face_tasks import FaceTasks
from metarl.envs.mujoco_env import MujocoEnv
from metarl.envs.task_dicts import TaskDict, as_dicts
from metarl.protocols import CanClose, CanDraw, CanRestart
from metarl.seeding import Streams

_FRAMES_PER_SECOND = 10  # where the environment has no seconds


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
        distribution, env = face.build()
        self._env, self.spec, self.number = env, env.spec, int(face.num_envs)
        if self.number > 1 and not isinstance(env, CanRestart):
            raise InputError(
                [
                    f"{self.spec.name}: {type(env).__name__} has no restart (see CanRestart in"
                    " metarl.protocols): num_envs must be 1"
                ]
            )
        if face.render_mode is not None and not isinstance(env, CanDraw):
            raise InputError([f"{self.spec.name} cannot be drawn: render_mode must be None"])
        self.tasks = FaceTasks(self.spec.name, distribution, face.split, self.number)
        self._streams: Streams | None = None
        self._num_starts = 0
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

    def seed(self, seed: int, given: bool = True) -> None:
        """Begin the streams of random numbers anew; tasks stay, as ``FaceTasks.seed`` has it."""
        self._streams = Streams(int(seed)).at("face")
        self._num_starts = 0
        self.tasks.seed(self._streams, given)

    def reset(self) -> NDArray[np.float32]:
        """Start an episode of every copy, under the tasks that were set; return obs [N, O]."""
        self.tasks.begin()
        return self._start(np.ones(self.number, dtype=np.bool_))

    def restart(self, copies: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Start an episode of some copies [N], under the tasks they have; return obs [N, O].

        The observations of the others are their last.
        """
        return self._start(copies)

    def step(self, action: NDArray[Any], running: NDArray[np.bool_] | None = None) -> Stepped:
        """Apply actions, [N, A] in [-1, 1] or [N] choices, to the running copies, or to all.

        Raises:
            RuntimeError: before the first ``reset``.
            InputError: the actions have another shape or are not finite, or there is no such
                choice. What is told to a copy that does not run is not looked at.
        """
        if self._obs is None:
            raise RuntimeError(f"{self.spec.name}: reset comes before step")
        runs = np.ones(self.number, dtype=np.bool_) if running is None else running
        own = self._action(np.asarray(action), runs)
        step = self._env.step(own, torch.from_numpy(runs)[:, None])
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
        if self._streams is None:
            raise RuntimeError(f"{self.spec.name}: seed comes before reset")
        streams = self._streams.at("start", self._num_starts)
        self._num_starts += 1
        if copies.all() or self._obs is None:
            obs = self._rows(self._env.reset(self.tasks.running, 1, streams))
        else:
            assert isinstance(self._env, CanRestart)
            restarted = self._env.restart(torch.from_numpy(copies)[:, None], streams)
            # Of a copy that failed, the simulator tells where it has put it.
            obs = np.where(copies[:, None], self._rows(restarted), self._obs)
        self._age[copies] = 0
        self._obs = obs
        return obs.copy()

    def _action(self, action: NDArray[Any], runs: NDArray[np.bool_]) -> Tensor:
        """Return the environment's own actions, [N, 1, A] or [N, 1]; 0 where a copy waits."""
        spec = self.spec
        shape = (self.number,) if spec.discrete else (self.number, spec.action_size)
        if action.shape != shape or action.dtype.kind not in "biuf":
            came = f"{action.shape} of {action.dtype}"
            raise InputError([f"{spec.name}: actions must be {shape} numbers, got {came}"])
        if spec.discrete:
            whole = action.dtype.kind in "iu"
            fits = (action >= 0) & (action < spec.action_size) & whole
            text = f"choices are whole numbers from 0 to {spec.action_size - 1}"
            own = np.where(runs & fits, action, 0).astype(np.int64)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                own = np.multiply(action, spec.action_limit, dtype=np.float32)
            fits, text = np.isfinite(own).all(1), "actions are finite numbers"
            if not runs.all():
                own[~runs] = 0.0
        if not (fits | ~runs).all():
            wrong = int((runs & ~fits).argmax())
            copy = f" for copy {wrong}" if self.number > 1 else ""
            raise InputError([f"{spec.name}: {text}, got {action[wrong]}{copy}"])
        return torch.from_numpy(own)[:, None]

    def _rows(self, leaf: Tensor) -> NDArray[Any]:
        """Return a tensor [N, 1, ...] as an array [N, ...] that shares its memory."""
        rows: NDArray[Any] = leaf[:, 0].numpy()
        return rows


class HasTasks(ABC):
    """What every face offers of the tasks of its copies."""

    _copies: Copies

    @abstractmethod
    def _seed_at_first(self) -> None:
        """Seed the copies, unless that was done before: their first tasks may be drawn from it."""

    def sample_tasks(self, num_tasks: int) -> list[TaskDict]:
        """Draw tasks of the split; of a frozen list, the next, and so on around it.

        Raises:
            InputError: the list is shorter.
        """
        self._seed_at_first()
        return self._copies.tasks.sample(num_tasks)

    def held_out_tasks(self, num_tasks: int) -> list[TaskDict]:
        """Return the first tasks of the frozen list: of the split, or of ``test`` in training.

        Raises:
            InputError: the list is shorter.
        """
        return self._copies.tasks.held_out(num_tasks)


class HasTaskOfEach(HasTasks):
    """What the faces of several copies offer besides."""

    @property
    def tasks(self) -> list[TaskDict]:
        """The tasks of the running episodes; before the first, those that it will have."""
        self._seed_at_first()
        return as_dicts(self._copies.tasks.running)

    def set_tasks(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Give each copy a task, or all the same one, from the next ``reset`` on.

        Raises:
            InputError: a dict is no task of this environment, or there are too few or too many.
        """
        self._copies.tasks.set(tasks)
