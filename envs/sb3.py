"""Copies of an environment as a ``VecEnv`` of Stable-Baselines3, stepped together in one process.

``PPO("MlpPolicy", TaskVecEnv("metarl/HalfCheetahVel-v0", 64))`` trains on them at the speed of the
batched physics. Each copy has a task of its own; what the faces have in common is in
``gymnasium_single.py``. A copy whose episode is over starts again in the same step, under the same
task. The info of an episode's last step has ``terminal_observation``, ``TimeLimit.truncated``,
``task_id``, ``faulty`` and, where there is a goal, ``is_success`` (whether the copy was there at
the end).
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import Wrapper
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from metarl.checks import InputError, unknown
from metarl.envs import EnvConfig
from metarl.envs.copies import Copies, HasTaskOfEach, Stepped
from metarl.envs.face import TRAIN, Face
from metarl.envs.gymnasium_single import Obs, action_space, observation_space, refuse_strangers
from metarl.envs.own import OwnTasks
from metarl.envs.task_dicts import TaskDict, as_dicts, plain

_OPTIONS = ("task",)


class TaskVecEnv(HasTaskOfEach, VecEnv):
    """Copies of an environment, one task each. Owns them."""

    def __init__(  # noqa: PLR0913  as the other faces
        self,
        name: str | OwnTasks,
        num_envs: int,
        preset: str | None = None,
        split: str = TRAIN,
        config: Mapping[str, Any] | EnvConfig | None = None,
        render_mode: str | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        face = Face(
            name=name,
            preset=preset,
            split=split,
            config=config,
            render_mode=render_mode,
            num_envs=num_envs,
            threads=threads,
        )
        self._copies = Copies(face)
        self.render_mode = render_mode
        self._actions: NDArray[Any] = np.zeros(0)
        spec = self._copies.spec
        super().__init__(self._copies.number, observation_space(spec), action_space(spec))
        self.metadata |= {"render_fps": self._copies.metadata["render_fps"]}

    def reset(self) -> Obs:
        """Start an episode of every copy; return obs [N, O].

        What ``seed`` and ``set_options`` were told holds for this reset: an option ``task`` changes
        the task of its copy.

        Raises:
            InputError: another option, or a dict is no task of this environment.
        """
        self._take_options()
        self._take_seed()
        obs = self._copies.reset()
        tasks = zip(self._task_ids, self.tasks, strict=True)
        self.reset_infos = [{"task_id": task_id, "task": task} for task_id, task in tasks]
        return obs

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep actions, [N, A] in [-1, 1] or [N] choices, for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step; return obs [N, O], reward [N], who has ended [N], and an info for each copy."""
        stepped = self._copies.step(self._actions)
        obs, ended = stepped.obs, stepped.ended
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if stepped.success is not None:
            for info, success in zip(infos, stepped.success.tolist(), strict=True):
                info["success"] = success
        if ended.any():
            task_ids = self._task_ids
            for copy in ended.nonzero()[0].tolist():
                infos[copy] |= {"task_id": task_ids[copy]} | _about_end(stepped, copy)
            obs = self._copies.restart(ended)
        return obs, stepped.reward.astype(np.float32), ended, infos

    def close(self) -> None:
        """Let go of what drawing has taken."""
        self._copies.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Draw every copy as it is now, [height, width, 3] RGB; None without a render mode."""
        return [self._picture(copy) for copy in range(self.num_envs)]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of some copies.

        Raises:
            AttributeError: they have no such attribute.
        """
        columns: dict[str, Sequence[Any]] = {
            "render_mode": [self.render_mode] * self._copies.number,
            "task": self.tasks,
            "task_id": self._task_ids,
        }
        if attr_name not in columns:
            raise AttributeError(unknown("attribute of TaskVecEnv", attr_name, columns))
        return [columns[attr_name][copy] for copy in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of some copies: ``task``, from the next ``reset`` on.

        Raises:
            AttributeError: it is none that can be set.
            InputError: the dict is no task of this environment.
        """
        if attr_name != "task":
            raise AttributeError(unknown("attribute of TaskVecEnv to set", attr_name, ("task",)))
        self._set_some(dict.fromkeys(self._chosen(indices), value))

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of some copies.

        There are ``set_task(task)``, ``sample_tasks(n)``, ``held_out_tasks(n)`` and ``render()``.

        Raises:
            AttributeError: they have no such method.
        """
        methods: dict[str, Callable[..., Any]] = {
            "set_task": lambda copy, task: self._set_some({copy: task}),
            "sample_tasks": lambda _copy, num_tasks: self.sample_tasks(num_tasks),
            "held_out_tasks": lambda _copy, num_tasks: self.held_out_tasks(num_tasks),
            "render": self._picture,
        }
        if method_name not in methods:
            raise AttributeError(unknown("method of TaskVecEnv", method_name, methods))
        method = methods[method_name]
        return [method(copy, *method_args, **method_kwargs) for copy in self._chosen(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Say of some copies whether they are wrapped: none ever is."""
        return [False for _ in self._chosen(indices)]

    @property
    def _task_ids(self) -> list[int]:
        self._seed_at_first()
        ids: list[int] = self._copies.tasks.running.task_id.tolist()
        return ids

    def _chosen(self, indices: VecEnvIndices) -> list[int]:
        """Return the copies that are meant; as in lists, -1 is the last."""
        if indices is None:
            return list(range(self.num_envs))
        named: Any = plain(indices)
        copies: list[Any] = (
            [plain(entry) for entry in named] if isinstance(named, Iterable) else [named]
        )
        allowed = range(-self.num_envs, self.num_envs)
        lines = [
            f"{self._copies.spec.name}: indices must be from 0 to {allowed[-1]}, got {copy!r}"
            for copy in copies
            if copy not in allowed
        ]
        if lines:
            raise InputError(lines)
        return copies

    def _picture(self, copy: int) -> NDArray[np.uint8] | None:
        return None if self.render_mode is None else self._copies.picture(copy)

    def _set_some(self, tasks: Mapping[int, TaskDict]) -> None:
        """Change the tasks of some copies, from the next ``reset`` on."""
        self._seed_at_first()
        coming = as_dicts(self._copies.tasks.coming)
        for copy, task in tasks.items():
            coming[copy] = task
        self._copies.tasks.set(coming)

    def _take_options(self) -> None:
        given = {copy: options for copy, options in enumerate(self._options) if options}
        self._reset_options()
        for options in given.values():
            refuse_strangers(self._copies.spec.name, options, _OPTIONS)
        if given:
            self._set_some({copy: options["task"] for copy, options in given.items()})

    def _seed_at_first(self) -> None:
        # A later one is for the next ``reset``, and episodes may be running.
        if not self._copies.is_seeded:
            self._take_seed()

    def _take_seed(self) -> None:
        seed = self._seeds[0]
        self._reset_seeds()
        if seed is not None:
            self._copies.seed(seed)
        elif not self._copies.is_seeded:
            self._copies.seed(secrets.randbits(63), given=False)


def _about_end(stepped: Stepped, copy: int) -> dict[str, Any]:
    """Return the info of the last step of a copy's episode."""
    about: dict[str, Any] = {
        "terminal_observation": stepped.obs[copy],
        "TimeLimit.truncated": bool(stepped.truncated[copy]),
        "faulty": bool(stepped.faulty[copy]),
    }
    if stepped.success is not None:
        about["is_success"] = bool(stepped.success[copy])
    return about
