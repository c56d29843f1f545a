"""The last reward behind the observation, as a trial is told it."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

import metarl.envs
from metarl.checks import InputError
from metarl.envs.tells_reward import TellsReward

GOAL = "metarl/PointNavigation-v0"


class Stairs(gymnasium.Env[Any, Any]):
    """Pays 2, 3, 4, ... and ends after two steps; its observation counts the steps."""

    def __init__(self, seen: Any) -> None:
        self.observation_space, self.action_space = seen, spaces.Discrete(2)
        self.total = 1

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self._obs(), {"told": options}

    def step(self, action: Any) -> Any:
        self.time, self.total = self.time + 1, self.total + 1
        return self._obs(), self.total, self.time == 2, False, {}

    def _obs(self) -> Any:
        return np.full(self.observation_space.shape, self.time, self.observation_space.dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_the_reward_stays_over_reset(dtype: Any) -> None:
    env = TellsReward(Stairs(spaces.Box(0, 9, (1,), dtype)))
    obs, info = env.reset(options={"a": 1})
    assert (obs.tolist(), info) == ([0.0, 0.0], {"told": {"a": 1}})
    seen = [env.step(0)[0].tolist(), env.step(0)[0].tolist(), env.reset()[0].tolist()]
    assert seen == [[1.0, 2.0], [2.0, 3.0], [0.0, 3.0]]
    obs, reward, terminated, _, _ = env.step(1)
    assert (obs.tolist(), reward, terminated) == ([1.0, 4.0], 4.0, False)
    assert obs.dtype == np.float32
    assert env.observation_space.contains(obs)


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version:UserWarning")
def test_the_space_has_one_more_entry_and_passes_gymnasiums_check() -> None:
    env = TellsReward(gymnasium.make(GOAL))
    space = env.observation_space
    assert isinstance(space, spaces.Box)
    assert (space.shape, space.dtype) == ((3,), np.dtype(np.float32))
    wide = TellsReward(Stairs(spaces.Box(-np.inf, np.inf, (2,), np.float64))).observation_space
    assert isinstance(wide, spaces.Box)
    assert np.isfinite(wide.low).all()
    narrow = TellsReward(Stairs(spaces.Box(-3.0, 5.0, (2,), np.float64))).observation_space
    assert isinstance(narrow, spaces.Box)
    assert (narrow.low[:2].tolist(), narrow.high[:2].tolist()) == ([-3.0, -3.0], [5.0, 5.0])
    check_env(env, skip_render_check=True)
    assert env.spec is not None
    assert isinstance(gymnasium.make(env.spec), TellsReward)


def test_other_observations_are_refused() -> None:
    for seen in (spaces.Discrete(3), spaces.Box(0, 1, (2, 2))):
        with pytest.raises(InputError, match="TellsReward: observation_space must be a Box of one"):
            TellsReward(Stairs(seen))


def test_the_task_is_reached_through_it() -> None:
    env = TellsReward(gymnasium.make(GOAL))
    env.reset(options={"task": {"goal": [0.5, -0.25]}})
    own = env.unwrapped
    assert isinstance(own, metarl.envs.gymnasium_single.TaskEnv)
    assert own.task == {"goal": [0.5, -0.25]}
