"""The Gymnasium door: tasks from any Gymnasium environment that takes one when it is reset.

Task. What ``train`` and ``test`` say: numbers by name. Each copy is told its task as a dict of
floats (arrays, where a value has axes; float32 both) before every episode: by ``set_task(task)``
where the environment has such a method, else by ``reset(options={"task": task})``.

Observation. The environment's, flattened as ``gymnasium.spaces.flatten`` does.

Action. A choice of a ``Discrete`` space, or the entries of a ``Box``. Where all entries of a box
are bounded by -b and b, ``action_limit`` is b; otherwise [-1, 1] is mapped to the bounds.

Reward, end. The environment's. ``terminated`` ends an episode; ``truncated`` before ``horizon`` is
an error: there is one time limit, the same for all tasks, and learners know it.

Start. ``reset(seed=...)``, with a seed that is a function of the run's seed, the round, the task
and the episode. An environment that draws from ``self.np_random`` alone gives the same results for
any number of workers.

Faults. What the environment raises, an observation or reward that is not finite, an observation
that is not what its space says in shape, dtype or bounds, spaces that change from task to task:
each ends the run with an ``EnvFaultError`` that names task, episode, seed, step and action. A
worker that dies or does not answer ends it too, with an error that names the worker and the step.
There is no way yet to drop such an episode, or to start a worker again and go on.

``docs/templates/gymnasium_env.py`` is an example.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.bundle import AnyEnv, Recipe
from metarl.checks import COUNT, LARGEST, POSITIVE, InputError, check_fields, unknown
from metarl.envs import Shows
from metarl.envs.gymnasium_spaces import spaces_of
from metarl.envs.gymnasium_workers import GymnasiumEnv
from metarl.envs.task_dicts import TaskDict
from metarl.envs.task_lists import check_held_out, take
from metarl.seeding import Streams
from metarl.types import EnvSpec, Parameter, Tasks

TaskSource: TypeAlias = Sequence[TaskDict] | Callable[[np.random.Generator], TaskDict]
"""A list of tasks, or a function that draws one."""


@dataclass(frozen=True, kw_only=True)
class FromGymnasium:
    """Tasks made of a Gymnasium environment."""

    name: str
    """Such as ``my/Valley-v0``."""
    make: Callable[[], AnyEnv] | str
    """Makes one environment, in the worker: a class or function at the top of a module, or an id
    for ``gymnasium.make``. Workers import that module: one without torch starts fastest."""
    horizon: int
    """Steps of an episode."""
    train: TaskSource
    """Training tasks: a list, from which they are drawn with equal probability, or a function that
    draws one from the generator it is given, the same for the same generator."""
    test: Sequence[TaskDict]
    """Held-out tasks, none of which is met in training."""
    shifted: Sequence[TaskDict] = ()
    """Held-out tasks outside of what training draws from, where there are some."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    """What the numbers of a task are, and may be; any finite number where left out."""
    shows: Shows = "dynamics"
    """Where a task shows itself: in rewards alone; in the dynamics too; or at the first sight."""
    success: bool = False
    """Whether ``info["success"]`` tells who is at the goal."""
    timeout: float = 120.0
    """Seconds that one step or one reset of all copies may take, or making the first of them."""

    def __post_init__(self) -> None:
        check_fields(self, {"horizon": COUNT, "timeout": POSITIVE}, *_faults(self))

    def within(self, seconds: float) -> "FromGymnasium":
        """Return the same tasks, with a timeout of at most so many seconds."""
        return dataclasses.replace(self, timeout=min(self.timeout, seconds))

    def build(self, device: str, threads: int) -> tuple["GivenTasks", GymnasiumEnv]:
        """Build the distribution and the environment, with a worker process for each thread.

        Raises:
            InputError: the tasks do not go together, or a space is of a kind that no agent takes.
            EnvFaultError: an environment cannot be made, or not within ``timeout``.
        """
        make = partial(gymnasium.make, self.make) if isinstance(self.make, str) else self.make
        tasks = GivenTasks(self, device)
        observation, action = spaces_of(self.name, make, self.timeout)
        if not observation.is_np_flattenable:
            raise InputError([f"{self.name}: observation_space {observation} cannot be flattened"])
        if not isinstance(action, spaces.Box | spaces.Discrete):
            raise InputError([f"{self.name}: action_space must be Box or Discrete, got {action}"])
        recipe = Recipe(self.name, make, observation, action, self.horizon, self.success)
        size, limit = size_and_limit(self.name, action)
        spec = EnvSpec(
            self.name,
            observation_size=spaces.flatdim(observation),
            action_size=size,
            discrete=isinstance(action, spaces.Discrete),
            horizon=self.horizon,
            score_is_total=False,
            action_limit=limit,
        )
        return tasks, GymnasiumEnv(spec, recipe, self.timeout, device, threads)


def _faults(door: FromGymnasium) -> list[str]:
    """Return what is of the wrong kind, and what is allowed."""
    owner, lines = "FromGymnasium", []
    if not isinstance(door.name, str) or not door.name.strip():
        lines.append(f"{owner}.name must be a name, such as 'my/Valley-v0'; got {door.name!r}")
    if not isinstance(door.make, str) and not callable(door.make):
        hint = ", not an environment itself" if isinstance(door.make, gymnasium.Env) else ""
        lines.append(f"{owner}.make must be a class, a function or an id{hint}; got {door.make!r}")
    for name in ("train", "test", "shifted"):
        value = getattr(door, name)
        if name == "train" and callable(value):
            continue
        if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
            lines.append(f"{owner}.{name} must be a list of dicts, got {value!r:.60}")
        elif not value and name != "shifted":
            or_function = "be a function or " if name == "train" else ""
            lines.append(f"{owner}.{name} must {or_function}hold at least one task")
    if not isinstance(door.parameters, Mapping):
        return [*lines, f"{owner}.parameters must be a dict, got {door.parameters!r:.60}"]
    for name, about in door.parameters.items():
        if not isinstance(about, Parameter):
            lines.append(f"{owner}.parameters: {name} must be a Parameter(...), got {about!r}")
        if not lines and isinstance(door.test[0], Mapping) and name not in door.test[0]:
            lines.append(unknown(f"{owner}.parameters", name, door.test[0]))
    return lines


class GivenTasks:
    """Tasks as a user lists or draws them. ``task_id`` counts through the lists: training tasks
    first, where they are a list, then the test tasks, then the shifted ones."""

    def __init__(self, source: FromGymnasium, device: str) -> None:
        self._name, self._device = source.name, device
        self._draw = source.train if callable(source.train) else None
        train = () if callable(source.train) else source.train
        self._num_train = len(train)
        self._like = _arrays("test", 0, source.test[0], None)
        splits = {"train": train, "test": source.test, "shifted": source.shifted}
        rows = [
            _arrays(split, place, task, self._like)
            for split, tasks in splits.items()
            for place, task in enumerate(tasks)
        ]
        self._all = self._stacked(rows)
        self._first = {"test": len(train), "shifted": len(train) + len(source.test)}
        lengths = {name: len(splits[name]) for name in ("test", "shifted") if splits[name]}
        self.held_out_lists: Mapping[str, int | None] = dict(lengths)
        self.parameters: Mapping[str, Parameter] = {
            name: source.parameters.get(
                name, Parameter("as the environment takes it", "", value.shape, -LARGEST, LARGEST)
            )
            for name, value in self._like.items()
        }

    def sample(self, num_tasks: int, streams: Streams) -> Tasks:
        """Draw K tasks; slot k depends on the streams and k alone."""
        host = streams._replace(device="cpu")
        if self._draw is None:
            places = (host.uniform("task", num_tasks, ()) * self._num_train).long()
            return take(self._all, places)
        words = (host.uniform("task", num_tasks, (2,)).double() * 2**24).long().tolist()
        tasks = [self._draw(np.random.default_rng(seed)) for seed in words]
        rows = [_arrays("train", place, task, self._like) for place, task in enumerate(tasks)]
        fresh = torch.full((num_tasks,), -1, dtype=torch.int64, device=self._device)
        return Tasks(fresh, self._stacked(rows))

    def held_out(self, num_tasks: int, split: str = "test") -> Tasks:
        """Return the first K tasks of a list."""
        check_held_out(self, self._name, num_tasks, split)
        return take(self._all, torch.arange(num_tasks) + self._first[split])

    def _stacked(self, rows: Sequence[Mapping[str, np.ndarray[Any, Any]]]) -> dict[str, Tensor]:
        return {
            name: torch.from_numpy(np.stack([row[name] for row in rows])).to(self._device)
            for name in self._like
        }


def _arrays(
    split: str, place: int, task: object, like: Mapping[str, np.ndarray[Any, Any]] | None
) -> dict[str, np.ndarray[Any, Any]]:
    """Read one task, strictly: it has the names and shapes of the first test task."""
    where = f"{split} task {place}"
    if not isinstance(task, Mapping) or not task:
        raise InputError([f"{where} must be a dict of numbers by name, got {task!r}"])
    if like is not None and set(task) != set(like):
        raise InputError([f"{where} has {', '.join(task)}; test task 0 has {', '.join(like)}"])
    arrays = {}
    for name, value in task.items():
        array = np.asarray(value)
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_):
            raise InputError([f"{where}: {name} must be a number or an array, got {value!r}"])
        if not np.isfinite(array).all():
            raise InputError([f"{where}: {name} must be finite, got {value!r}"])
        if like is not None and array.shape != like[name].shape:
            expected = like[name].shape
            raise InputError([f"{where}: {name} has shape {array.shape}, test task 0 {expected}"])
        arrays[name] = array.astype(np.float32)
    return arrays


def size_and_limit(name: str, action: spaces.Box | spaces.Discrete) -> tuple[int, float]:
    """Return how large an action is and where its entries saturate."""
    if isinstance(action, spaces.Discrete):
        return int(action.n), 1.0
    if not np.issubdtype(action.dtype, np.floating):
        raise InputError([f"{name}: a Box of actions must hold floats, got {action}"])
    if not action.is_bounded():
        raise InputError([f"{name}: every entry of an action needs finite bounds, got {action}"])
    largest = float(action.high.flat[0])
    even = bool((action.high == largest).all() and (action.low == -largest).all()) and largest > 0
    return int(np.prod(action.shape)), largest if even else 1.0
