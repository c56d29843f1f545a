"""Copies of an environment as a ``gymnasium.vector.VectorEnv``, stepped together.

``gymnasium.make_vec("metarl/HalfCheetahVel-v0", num_envs=64, split="test")`` builds it, after
``import metarl.envs``. Each copy has a task of its own, at first the first of the split;
``set_tasks`` takes one dict for each copy, or one for all. What else the faces have in common is in
``gymnasium_single.py``.

A copy whose episode is over starts again by itself under the same task: in the same step
(``AutoresetMode.SAME_STEP``: its last observation and info are in ``final_obs`` and
``final_info``), or in the next one (``NEXT_STEP``: which ignores its action and pays nothing).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from metarl.checks import InputError, unknown
from metarl.envs.copies import Copies, Face, Stepped
from metarl.envs.gymnasium_single import Obs, action_space, observation_space, refuse_strangers
from metarl.envs.task_dicts import TaskDict, as_dicts

_OPTIONS = ("tasks", "task")
_MODES = (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)

Infos = dict[str, Any]
VectorStep = tuple[Obs, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Infos]


class TaskVectorEnv(gymnasium.vector.VectorEnv[Obs, NDArray[Any], NDArray[Any]]):
    """Copies of an environment of the table, one task each. Owns them."""

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 10,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(  # noqa: PLR0913  Gymnasium hands them over one by one
        self,
        name: str,
        num_envs: int,
        *,
        preset: str | None = None,
        split: str = "train",
        config: Mapping[str, Any] | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    ) -> None:
        known = [mode.value for mode in _MODES]
        if autoreset_mode not in (*_MODES, *known):
            raise InputError([unknown("autoreset_mode", autoreset_mode, known)])
        self._mode = AutoresetMode(autoreset_mode)
        face = Face(
            name=name,
            preset=preset,
            split=split,
            config=config,
            render_mode=render_mode,
            num_copies=num_envs,
        )
        self._copies = Copies(face)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.metadata = self._copies.metadata | {"autoreset_mode": self._mode}
        self.single_observation_space = observation_space(self._copies.spec)
        self.single_action_space = action_space(self._copies.spec)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._ended = np.zeros(num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, Infos]:
        """Start an episode of every copy; return obs [N, O] and what the tasks are.

        Args:
            seed: of all that is random from now on; the tasks do not depend on it.
            options: ``{"tasks": [dict, ...]}`` changes the tasks, ``{"task": dict}`` gives all
                copies the same one.

        Raises:
            InputError: another option, or a dict is no task of this environment.
        """
        super().reset(seed=seed)
        refuse_strangers(self._copies.spec.name, options, _OPTIONS)
        if options:
            self.set_tasks(options["tasks"] if "tasks" in options else [options["task"]])
        self._seed(anew=seed is not None)
        obs = self._copies.reset()
        self._ended = np.zeros_like(self._ended)
        return obs, _spread(self._about_tasks(), ~self._ended)

    def step(self, actions: NDArray[Any]) -> VectorStep:
        """Apply actions, [N, A] in [-1, 1] or [N] choices."""
        actions = np.asarray(actions)
        if self._mode is AutoresetMode.NEXT_STEP and self._ended.any():
            return self._step_others(actions)
        stepped = self._copies.step(actions)
        obs, ended = stepped.obs, stepped.ended
        infos = _spread(_about_step(stepped), np.ones_like(ended))
        if self._mode is AutoresetMode.SAME_STEP and ended.any():
            infos = self._final(stepped)
            obs = self._copies.restart(ended)
        self._ended = ended
        reward = stepped.reward.astype(np.float64)
        return obs, reward, stepped.terminated, stepped.truncated, infos

    @property
    def tasks(self) -> list[TaskDict]:
        """The tasks of the running episodes."""
        return as_dicts(self._copies.tasks)

    def set_tasks(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Give each copy a task, or all the same one, from the next ``reset`` on.

        Raises:
            InputError: a dict is no task of this environment, or there are too few or too many.
        """
        self._copies.set_tasks(tasks)

    def sample_tasks(self, num_tasks: int) -> list[TaskDict]:
        """Draw tasks of the split; of a frozen list, its first.

        Raises:
            InputError: the list is shorter.
        """
        self._seed(anew=False)
        return self._copies.sample_tasks(num_tasks)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Draw every copy as it is now, [height, width, 3] RGB; None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(self._copies.picture(copy) for copy in range(self.num_envs))

    def close_extras(self) -> None:
        """Let go of what drawing has taken."""
        self._copies.close()

    def _seed(self, anew: bool) -> None:
        if anew or not self._copies.is_seeded:
            self._copies.seed(self.np_random_seed or 0)

    def _step_others(self, actions: NDArray[Any]) -> VectorStep:
        """Step the copies that have not ended, and start the others again."""
        starting, running = self._ended, ~self._ended
        if running.any():
            stepped = self._copies.step(actions, running)
            obs = self._copies.restart(starting)
            infos = _spread(_about_step(stepped), running)
            reward = np.where(running, stepped.reward, 0.0)
            terminated, truncated = stepped.terminated, stepped.truncated
        else:
            obs, infos = self._copies.restart(starting), {}
            reward = np.zeros(self.num_envs)
            terminated, truncated = np.zeros_like(starting), np.zeros_like(starting)
        infos |= _spread(self._about_tasks(), starting)
        self._ended = terminated | truncated
        return obs, reward.astype(np.float64), terminated, truncated, infos

    def _final(self, stepped: Stepped) -> Infos:
        """Return the infos of a step after which some copies start again."""
        ended, about = stepped.ended, _about_step(stepped)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for copy in ended.nonzero()[0]:
            final_obs[copy] = stepped.obs[copy]
        infos: Infos = {"final_obs": final_obs, "_final_obs": ended}
        infos |= {"final_info": _spread(about, ended), "_final_info": ended}
        if not ended.all():
            infos |= _spread(about, ~ended)
        return infos | _spread(self._about_tasks(), ended)

    def _about_tasks(self) -> Infos:
        tasks = self._copies.tasks
        columns = {name: leaf.double().numpy() for name, leaf in tasks.parameter.items()}
        return {"task_id": tasks.task_id.numpy(), "task": columns}


def _about_step(stepped: Stepped) -> Infos:
    success = {} if stepped.success is None else {"success": stepped.success}
    return {"faulty": stepped.faulty} | success


def _spread(columns: Mapping[str, Any], copies: NDArray[np.bool_]) -> Infos:
    """Lay out what is told of some copies [N] as Gymnasium's vector environments do.

    Each entry has a companion, under its name with an underscore, that says of which copies it is.
    """
    infos: Infos = {}
    for name, column in columns.items():
        infos[name] = _spread(column, copies) if isinstance(column, dict) else column
        infos[f"_{name}"] = copies
    return infos
