"""One Gymnasium environment, just as it stands before its user, as something to adapt in.

``FromGymnasium`` makes copies in processes of its own; this takes the one that is there: with its
wrappers and its task, perhaps a robot. An agent meets it one episode after the other
(``sampler.collect_in_turn``).

Task. The one it has: ``reset`` must not draw another. One that is given here is told as
``FromGymnasium`` does it: by ``set_task(task)`` where the environment has such a method, else by
``reset(options={"task": task})``. ``OneCopy.task`` is the same as plain data, which can be saved.

Observation. A ``Box`` of one axis; ``gymnasium.wrappers.FlattenObservation`` makes one.

Action. Shares of the bounds of a ``Box`` of one axis, in the units that the agent was trained with
(``EnvSpec.action_limit``); or a choice of a ``Discrete`` space that starts at 0.

End. ``terminated`` ends an episode, and so does ``horizon``; ``truncated`` before it is an error,
unless the simulator of one of the suite's environments has failed.
"""

import json
import reprlib
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.checks import COUNT, EnvFaultError, InputError
from metarl.envs.from_gymnasium import size_and_limit
from metarl.envs.gymnasium_single import TaskEnv
from metarl.envs.task_dicts import TaskDict, plain
from metarl.seeding import Streams
from metarl.types import ActionRange, EnvSpec, Step, Tasks


class OneCopy:
    """A Gymnasium environment as one copy of one task. Holds it; its user owns it."""

    def __init__(
        self,
        env: object,
        horizon: int | None = None,
        task: Mapping[str, Any] | None = None,
    ) -> None:
        env, self.threads = _checked(env), 1
        self._env, self.spec = env, _spec_of(env, horizon)
        own = env.unwrapped
        self._given = None if task is None else dict(task)
        self.task: TaskDict | None = None if task is None else _plain(self.spec.name, task)
        if task is None and isinstance(own, TaskEnv):
            # One that was set is there from now on, and no seed of ours will draw another.
            env.reset()
            self._given = self.task = own.task
        box = env.action_space
        self.action_range: ActionRange | None = None
        if isinstance(box, spaces.Box):
            low, high = (np.array(end, np.float32) for end in (box.low, box.high))
            self.action_range = ActionRange(torch.from_numpy(low), torch.from_numpy(high))
        self._time, self._last = 0, torch.zeros(1, 1, self.spec.observation_size)

    @property
    def tasks(self) -> Tasks:
        """Its task, as a rollout wants it: the parameters are the environment's own affair."""
        return Tasks(torch.tensor([-1]), {})

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        """Start an episode, with a seed that follows from the streams; return obs [1, 1, O].

        Raises:
            ValueError: more than one episode of one task is asked for.
        """
        if len(tasks.task_id) != 1 or episodes != 1:
            came = f"{len(tasks.task_id)} tasks, {episodes} episodes"
            raise ValueError(
                f"{self.spec.name} is one copy, with one episode at a time; got {came}"
            )
        seed = int(streams.uniform("seed", 1, ()).double() * 2**24)
        options = None if self._given is None else {"task": self._given}
        if options is not None and self._env.has_wrapper_attr("set_task"):
            self._env.get_wrapper_attr("set_task")(self._given)
            options = None
        obs, _ = self._env.reset(seed=seed, options=options)
        self._time = 0
        return self._obs(obs)

    def step(self, action: Tensor, running: Tensor) -> Step:
        """Apply an action [1, 1, A], or a choice [1, 1].

        Where ``running`` [1, 1] is off the environment is left alone, as Gymnasium wants it after
        an end: the last observation comes again, and no reward. Success is ``info["success"]``.

        Raises:
            EnvFaultError: the episode was truncated before the horizon.
        """
        if not running.any():
            over = torch.zeros(1, 1, dtype=torch.bool)
            return Step(self._last, torch.zeros(1, 1), over, over)
        given: Any = int(action) if self.action_range is None else self._placed(action[0, 0])
        obs, reward, terminated, truncated, info = self._env.step(given)
        self._time += 1
        faulty = isinstance(self._env.unwrapped, TaskEnv) and bool(info["faulty"])
        if truncated and not (terminated or faulty) and self._time < self.spec.horizon:
            raise EnvFaultError(
                f"{self.spec.name}: truncated at step {self._time}, before the horizon of"
                f" {self.spec.horizon} steps: give OneCopy a lower one"
            )
        return Step(
            obs=self._obs(obs),
            reward=torch.tensor([[float(reward)]]),
            terminated=torch.tensor([[bool(terminated)]]),
            faulty=torch.tensor([[faulty]]),
            success=torch.tensor([[bool(info["success"])]]) if "success" in info else None,
        )

    def _placed(self, action: Tensor) -> Any:
        assert self.action_range is not None
        box = self._env.action_space
        placed = self.action_range.place(action, self.spec.action_limit).numpy()
        return placed.astype(box.dtype)

    def _obs(self, obs: Any) -> Tensor:
        self._last = torch.from_numpy(np.array(obs, dtype=np.float32))[None, None]
        return self._last


def _checked(env: object) -> gymnasium.Env[Any, Any]:
    if not isinstance(env, gymnasium.Env):
        need = "a VectorTaskEnv with Tasks of length 1, or a gymnasium.Env,"
        raise InputError([f"to adapt in, {need} is needed, got {type(env).__name__}"])
    return env


def _plain(name: str, task: Mapping[str, Any]) -> TaskDict:
    """Return a task as JSON holds it, or refuse it before anything has been explored."""
    try:
        told: TaskDict = json.loads(json.dumps(dict(task), default=plain, allow_nan=False))
        return told
    except (TypeError, ValueError, RecursionError):
        need = "finite numbers, arrays, texts, or lists and dicts of them"
        raise InputError([f"{name}: a task must hold {need}; got {reprlib.repr(task)}"]) from None


def _spec_of(env: gymnasium.Env[Any, Any], horizon: int | None) -> EnvSpec:
    """Return what an agent must know of a Gymnasium environment, or refuse it."""
    own, given = env.unwrapped, env.spec
    shown = own.learner_spec if isinstance(own, TaskEnv) else None
    name = given.id if given is not None else type(own).__name__
    seen, action = env.observation_space, env.action_space
    if not isinstance(seen, spaces.Box) or len(seen.shape) != 1:
        need = "a Box of one axis (gymnasium.wrappers.FlattenObservation makes one)"
        raise InputError([f"{name}: observation_space must be {need}, got {seen}"])
    flat = isinstance(action, spaces.Box) and len(action.shape) == 1
    counts = isinstance(action, spaces.Discrete) and action.start == 0
    if not isinstance(action, spaces.Box | spaces.Discrete) or not (flat or counts):
        need = "a Box of one axis, or Discrete from 0"
        raise InputError([f"{name}: action_space must be {need}; got {action}"])
    size, limit = size_and_limit(name, action)
    steps = horizon
    if horizon is None:
        own_limit = given.max_episode_steps if given is not None else None
        steps = own_limit if shown is None else shown.horizon
    if steps is None or not COUNT.accepts(steps):
        tells = "; it tells no time limit: OneCopy(env, horizon=...)" if horizon is None else ""
        raise InputError([f"{name}: horizon must be {COUNT.text}, got {horizon!r}{tells}"])
    return EnvSpec(
        name if shown is None else shown.name,
        observation_size=seen.shape[0],
        action_size=size,
        discrete=counts,
        horizon=steps,
        score_is_total=shown is not None and shown.score_is_total,
        action_limit=limit if shown is None else shown.action_limit,
    )
