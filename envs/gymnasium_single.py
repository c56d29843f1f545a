"""One copy of an environment as a ``gymnasium.Env``, for libraries that want a single one.

``gymnasium.make("metarl/HalfCheetahVel-v0", preset="promp-2019", split="test")`` builds it, after
``import metarl.envs``. The task stays what it is until ``set_task`` or ``reset(options={"task":
...})`` changes it. Before that, it is the first of a frozen list; in ``train``, the first seed that
``reset`` is given draws it (that of ``np_random`` until then), so that environments with different
seeds have different tasks. Actions lie in [-1, 1], which is all that the environment's own actions
can do, or are choices. The time limit is the environment's own and truncates; ``gymnasium.make`` is
to add none.

``reset`` tells the task in ``info["task"]``, and its place in a list, or -1, in
``info["task_id"]``. ``step`` tells ``task_id`` too, and ``faulty`` (the simulator failed; the
episode is truncated where it was before); where there is a goal, ``success`` (the copy is there
now), and at the end of an episode ``is_success``, the same again under the name that
Stable-Baselines3 counts.

``TaskEnv(FromMjcf(...))`` shows tasks of the user's own. ``metarl.envs.tells_reward.TellsReward``
puts the last reward behind the observation, for policies that remember a trial.
"""

import reprlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.checks import InputError, unknown
from metarl.envs import EnvConfig
from metarl.envs.copies import Copies, HasTasks
from metarl.envs.face import TRAIN, Face
from metarl.envs.own import OwnTasks
from metarl.envs.task_dicts import TaskDict, as_dicts, plain
from metarl.types import EnvSpec

Obs: TypeAlias = NDArray[np.float32]
Space: TypeAlias = spaces.Space[Any]

_OPTIONS = ("task",)


class TaskEnv(HasTasks, gymnasium.Env[Obs, Any]):
    """One copy of an environment, with one task at a time. Owns that copy."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        name: str | OwnTasks,
        preset: str | None = None,
        split: str = TRAIN,
        config: Mapping[str, Any] | EnvConfig | None = None,
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
            seed: of all that is random from now on, and of the first task in ``train``.
            options: ``{"task": dict}`` changes the task.

        Raises:
            InputError: another option, the dict is no task of this environment, or the seed is no
                whole number.
        """
        super().reset(seed=read_seed(seed))
        refuse_strangers(self._copies.spec.name, options, _OPTIONS)
        if options and "task" in options:
            self.set_task(options["task"])
        if seed is not None:
            self._copies.seed(self.np_random_seed)
        self._seed_at_first()
        obs = self._copies.reset()[0]
        return obs, {"task_id": self._task_id, "task": self.task}

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Apply an action, [A] in [-1, 1] or a choice.

        Raises:
            InputError: it has another shape or is not finite, or there is no such choice.
        """
        action, shape = np.asarray(action), self.action_space.shape
        if action.shape != shape:
            name = self._copies.spec.name
            raise InputError([f"{name}: an action must be {shape}, got {action.shape}"])
        stepped = self._copies.step(action[None])
        info: dict[str, Any] = {"task_id": self._task_id, "faulty": bool(stepped.faulty[0])}
        if stepped.success is not None:
            info["success"] = bool(stepped.success[0])
            if stepped.ended[0]:
                info["is_success"] = info["success"]
        ends = bool(stepped.terminated[0]), bool(stepped.truncated[0])
        return stepped.obs[0], float(stepped.reward[0]), *ends, info

    @property
    def task(self) -> TaskDict:
        """The task of the running episode; before the first, that which it will have."""
        self._seed_at_first()
        return as_dicts(self._copies.tasks.running)[0]

    def set_task(self, task: Mapping[str, Any]) -> None:
        """Change the task, from the next ``reset`` on.

        Raises:
            InputError: the dict is no task of this environment.
        """
        self._copies.tasks.set([task])

    def render(self) -> NDArray[np.uint8] | None:
        """Draw the copy as it is now, [height, width, 3] RGB; None without a render mode."""
        return None if self.render_mode is None else self._copies.picture(0)

    def close(self) -> None:
        """Let go of what drawing has taken."""
        self._copies.close()

    @property
    def learner_spec(self) -> EnvSpec:
        """What an agent must know of it; the limit of actions is that of its own, not of a face."""
        return self._copies.spec

    @property
    def _task_id(self) -> int:
        return int(self._copies.tasks.running.task_id[0])

    def _seed_at_first(self) -> None:
        # That of ``np_random`` serves: passing it to reset repeats everything.
        if not self._copies.is_seeded:
            self._copies.seed(self.np_random_seed, given=False)


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


def read_seed(seed: object) -> int | None:
    """Return a seed as Python's own number.

    Raises:
        InputError: it is neither None nor a whole number >= 0.
    """
    number = plain(seed)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise InputError([f"seed must be a whole number >= 0, got {seed!r}"])
    return number


def refuse_strangers(name: str, options: Mapping[str, Any] | None, known: tuple[str, ...]) -> None:
    """Raise InputError for options of ``reset`` that there are not."""
    if not isinstance(options, Mapping | None):
        need = f"a dict with {' or '.join(known)}"
        raise InputError([f"{name}: options of reset must be {need}; got {reprlib.repr(options)}"])
    strangers = [option for option in options or {} if option not in known]
    if strangers:
        owner = f"option of reset of {name}"
        raise InputError(unknown(owner, option, known) for option in strangers)
