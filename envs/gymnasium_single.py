"""One copy of an environment as a ``gymnasium.Env``, for libraries that want a single one.

``gymnasium.make("metarl/HalfCheetahVel-v0", preset="promp-2019", split="test")`` builds it, after
``import metarl.envs``. The task stays what it is until ``set_task`` or ``reset(options={"task":
...})`` changes it; at first it is the first of the split. Actions lie in [-1, 1], which is all that
the environment's own actions can do, or are choices. The time limit is the environment's own and
truncates; ``gymnasium.make`` is to add none.

``reset`` tells the task in ``info["task"]`` and ``info["task_id"]`` (-1 where it has no place in a
list); ``step`` tells ``info["faulty"]`` (the simulator failed; the episode is truncated where it
was before) and, where there is a goal, ``info["success"]`` (the copy is there now).
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.checks import InputError, unknown
from metarl.envs.copies import Copies, Face
from metarl.envs.task_dicts import TaskDict, as_dicts
from metarl.types import EnvSpec

Obs: TypeAlias = NDArray[np.float32]
Space: TypeAlias = spaces.Space[Any]

_OPTIONS = ("task",)


class TaskEnv(gymnasium.Env[Obs, Any]):
    """One copy of an environment of the table, with one task at a time. Owns that copy."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        name: str,
        preset: str | None = None,
        split: str = "train",
        config: Mapping[str, Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        face = Face(
            name=name, preset=preset, split=split, config=config, render_mode=render_mode, threads=1
        )
        self._copies = Copies(face)
        self.render_mode = render_mode
        self.metadata = self._copies.metadata
        self.observation_space = observation_space(self._copies.spec)
        self.action_space = action_space(self._copies.spec)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Start an episode; return obs [O] and what the task is.

        Args:
            seed: of all that is random from now on; the task does not depend on it.
            options: ``{"task": dict}`` changes the task.

        Raises:
            InputError: another option, or the dict is no task of this environment.
        """
        super().reset(seed=seed)
        refuse_strangers(self._copies.spec.name, options, _OPTIONS)
        if options and "task" in options:
            self.set_task(options["task"])
        self._seed(anew=seed is not None)
        obs = self._copies.reset()[0]
        return obs, {"task_id": int(self._copies.tasks.task_id[0]), "task": self.task}

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Apply an action, [A] in [-1, 1] or a choice."""
        stepped = self._copies.step(np.asarray(action)[None])
        info = {"faulty": bool(stepped.faulty[0])}
        if stepped.success is not None:
            info["success"] = bool(stepped.success[0])
        ends = bool(stepped.terminated[0]), bool(stepped.truncated[0])
        return stepped.obs[0], float(stepped.reward[0]), *ends, info

    @property
    def task(self) -> TaskDict:
        """The task of the running episode."""
        return as_dicts(self._copies.tasks)[0]

    def set_task(self, task: Mapping[str, Any]) -> None:
        """Change the task, from the next ``reset`` on.

        Raises:
            InputError: the dict is no task of this environment.
        """
        self._copies.set_tasks([task])

    def sample_tasks(self, num_tasks: int) -> list[TaskDict]:
        """Draw tasks of the split; of a frozen list, its first.

        Raises:
            InputError: the list is shorter.
        """
        self._seed(anew=False)
        return self._copies.sample_tasks(num_tasks)

    def render(self) -> NDArray[np.uint8] | None:
        """Draw the copy as it is now, [height, width, 3] RGB; None without a render mode."""
        return None if self.render_mode is None else self._copies.picture(0)

    def close(self) -> None:
        """Let go of what drawing has taken."""
        self._copies.close()

    def _seed(self, anew: bool) -> None:
        # Without a seed, that of ``np_random`` serves: passing it to reset repeats everything.
        if anew or not self._copies.is_seeded:
            self._copies.seed(self.np_random_seed)


def observation_space(spec: EnvSpec) -> Space:
    """Return the space of one copy's observations."""
    # As wide as float32: Gymnasium's checker warns about bounds that are infinite.
    widest = np.finfo(np.float32).max
    return spaces.Box(-widest, widest, (spec.observation_size,), np.float32)


def action_space(spec: EnvSpec) -> Space:
    """Return the space of one copy's actions."""
    if spec.discrete:
        return spaces.Discrete(spec.action_size)
    return spaces.Box(-1.0, 1.0, (spec.action_size,), np.float32)


def refuse_strangers(name: str, options: Mapping[str, Any] | None, known: tuple[str, ...]) -> None:
    """Raise InputError for options of ``reset`` that there are not."""
    strangers = [option for option in options or {} if option not in known]
    if strangers:
        owner = f"option of reset of {name}"
        raise InputError(unknown(owner, option, known) for option in strangers)
