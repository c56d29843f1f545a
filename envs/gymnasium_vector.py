"""Copies of an environment as a ``gymnasium.vector.VectorEnv``, stepped together.

``gymnasium.make_vec("metarl/HalfCheetahVel-v0", num_envs=64, split="test")`` builds it, after
``import metarl.envs``. Each copy has a task of its own: at first those of a frozen list in turn, or
what the first seed draws in ``train``; ``set_tasks`` takes one dict for each copy, or one for all.
What else the faces have in common is in ``gymnasium_single.py``.

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
from metarl.envs import EnvConfig
from metarl.envs.copies import Copies, HasTaskOfEach, Stepped
from metarl.envs.face import TRAIN, Face
from metarl.envs.gymnasium_single import (
    Obs,
    action_space,
    observation_space,
    read_seed,
    refuse_strangers,
)
from metarl.envs.own import OwnTasks

_OPTIONS = ("tasks", "task")
_MODES = (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)

Infos = dict[str, Any]
VectorStep = tuple[Obs, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Infos]


class TaskVectorEnv(HasTaskOfEach, gymnasium.vector.VectorEnv[Obs, NDArray[Any], NDArray[Any]]):
    """Copies of an environment, one task each. Owns them."""

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 10,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(  # noqa: PLR0913  Gymnasium hands them over one by one
        self,
        name: str | OwnTasks,
        num_envs: int,
        *,
        preset: str | None = None,
        split: str = TRAIN,
        config: Mapping[str, Any] | EnvConfig | None = None,
        render_mode: str | None = None,
        threads: int | None = None,
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
            num_envs=num_envs,
            threads=threads,
        )
        self._copies = Copies(face)
        self.num_envs, self.render_mode = self._copies.number, render_mode
        self.metadata = self._copies.metadata | {"autoreset_mode": self._mode}
        self.single_observation_space = observation_space(self._copies.spec)
        self.single_action_space = action_space(self._copies.spec)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)

    def reset(
        self,
        *,
        seed: int | Sequence[int] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Obs, Infos]:
        """Start an episode of every copy; return obs [N, O] and what the tasks are.

        Args:
            seed: of all that is random from now on, and of the first tasks in ``train``. A list
                with one for each copy serves as one seed: the copies do not have theirs apart.
            options: ``{"tasks": [dict, ...]}`` changes the tasks, ``{"task": dict}`` gives all
                copies the same one.

        Raises:
            InputError: another option, a dict is no task of this environment, or the seed is no
                whole number.
        """
        name = self._copies.spec.name
        super().reset(seed=self._one_seed(seed))
        refuse_strangers(name, options, _OPTIONS)
        if options and len(options) > 1:
            raise InputError([f"{name}: give reset the option tasks or task, not both"])
        if options:
            self.set_tasks(options["tasks"] if "tasks" in options else [options["task"]])
        if seed is not None:
            self._copies.seed(self.np_random_seed or 0)
        self._seed_at_first()
        obs = self._copies.reset()
        self._ended = np.zeros_like(self._ended)
        return obs, _spread(self._about_tasks(), ~self._ended)

    def step(self, actions: NDArray[Any]) -> VectorStep:
        """Apply actions, [N, A] in [-1, 1] or [N] choices.

        Raises:
            InputError: they have another shape or are not finite, or there is no such choice.
        """
        actions = np.asarray(actions)
        if self._mode is AutoresetMode.NEXT_STEP and self._ended.any():
            return self._step_others(actions)
        stepped = self._copies.step(actions)
        obs, ended = stepped.obs, stepped.ended
        if self._mode is AutoresetMode.SAME_STEP and ended.any():
            infos = self._final(stepped)
            obs = self._copies.restart(ended)
        else:
            infos = self._about_step(stepped, np.ones_like(ended))
        self._ended = ended
        reward = stepped.reward.astype(np.float64)
        return obs, reward, stepped.terminated, stepped.truncated, infos

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Draw every copy as it is now, [height, width, 3] RGB; None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(self._copies.picture(copy) for copy in range(self.num_envs))

    def close_extras(self) -> None:
        """Let go of what drawing has taken."""
        self._copies.close()

    def _seed_at_first(self) -> None:
        if not self._copies.is_seeded:
            self._copies.seed(self.np_random_seed or 0, given=False)

    def _one_seed(self, seed: int | Sequence[int] | None) -> int | None:
        if not isinstance(seed, Sequence | np.ndarray):
            return read_seed(seed)
        seeds = [number for entry in seed if (number := read_seed(entry)) is not None]
        if len(seeds) != self.num_envs:
            need = f"one seed, or {self.num_envs} of them"
            raise InputError([f"{self._copies.spec.name}: {need} are needed, got {seed!r}"])
        return int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0])

    def _step_others(self, actions: NDArray[Any]) -> VectorStep:
        """Step the copies that have not ended, and start the others again."""
        starting, running = self._ended, ~self._ended
        if running.any():
            stepped = self._copies.step(actions, running)
            obs = self._copies.restart(starting)
            infos = self._about_step(stepped, running)
            reward = np.where(running, stepped.reward, 0.0)
            terminated, truncated = stepped.terminated, stepped.truncated
        else:
            obs, infos = self._copies.restart(starting), {}
            reward = np.zeros(self.num_envs)
            terminated, truncated = np.zeros_like(starting), np.zeros_like(starting)
        infos |= _spread(self._about_tasks(), starting) | self._places()
        self._ended = terminated | truncated
        return obs, reward.astype(np.float64), terminated, truncated, infos

    def _final(self, stepped: Stepped) -> Infos:
        """Return the infos of a step after which some copies start again."""
        ended = stepped.ended
        final_obs = np.full(self.num_envs, None, dtype=object)
        for copy in ended.nonzero()[0]:
            final_obs[copy] = stepped.obs[copy]
        infos: Infos = {"final_obs": final_obs, "_final_obs": ended.copy()}
        infos |= {"final_info": self._about_step(stepped, ended), "_final_info": ended.copy()}
        if not ended.all():
            infos |= self._about_step(stepped, ~ended)
        return infos | _spread(self._about_tasks(), ended) | self._places()

    def _about_step(self, stepped: Stepped, copies: NDArray[np.bool_]) -> Infos:
        """Return what the infos of a step tell of some copies."""
        about: dict[str, Any] = {"task_id": self._task_ids, "faulty": stepped.faulty}
        if stepped.success is None:
            return _spread(about, copies)
        ended = stepped.ended & copies
        ends = _spread({"is_success": stepped.success}, ended) if ended.any() else {}
        return _spread(about | {"success": stepped.success}, copies) | ends

    def _about_tasks(self) -> Infos:
        parameter = self._copies.tasks.running.parameter
        columns = {name: leaf.double().numpy() for name, leaf in parameter.items()}
        return {"task_id": self._task_ids, "task": columns}

    def _places(self) -> Infos:
        """Return what is told of every copy, whether it goes on or starts again."""
        return _spread({"task_id": self._task_ids}, np.ones_like(self._ended))

    @property
    def _task_ids(self) -> NDArray[np.int64]:
        ids: NDArray[np.int64] = self._copies.tasks.running.task_id.numpy()
        return ids


def _spread(columns: Mapping[str, Any], copies: NDArray[np.bool_]) -> Infos:
    """Lay out what is told of some copies [N] as Gymnasium's vector environments do.

    Each entry has a companion, under its name with an underscore, that says of which copies it is.
    All of it is the caller's to keep.
    """
    infos: Infos = {}
    for name, column in columns.items():
        infos[name] = _spread(column, copies) if isinstance(column, dict) else column.copy()
        infos[f"_{name}"] = copies.copy()
    return infos
