"""A Gymnasium environment that tells the last reward, for policies that remember a trial.

A policy of RL^2 learns its task from rewards, which ``predict`` of Stable-Baselines3 does not hand
over: ``TellsReward(gymnasium.make(...))`` puts them where it sees them
(``metarl.adapted_policy.AdaptedPolicy.predict``).

Observation. That of the environment, a ``Box`` of one axis, as float32; behind it, as one more
entry, the reward of the last step. It stays over ``reset``, as in a trial, where the first decision
of an episode must know how the one before has ended; before the first step it is 0.

All else is the environment's own.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from metarl.checks import InputError
from metarl.envs.gymnasium_single import Obs

_WIDEST = np.finfo(np.float32).max


class TellsReward(gymnasium.Wrapper[Obs, Any, Any, Any], RecordConstructorArgs):
    """Puts the reward of the last step behind the observation. Holds that reward.

    Raises:
        InputError: observations are not a ``Box`` of one axis.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        # With its arguments on record, ``gymnasium.make`` can make it again from its spec.
        RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)
        seen = env.observation_space
        if not isinstance(seen, spaces.Box) or len(seen.shape) != 1:
            need = "a Box of one axis (gymnasium.wrappers.FlattenObservation makes one)"
            raise InputError([f"TellsReward: observation_space must be {need}, got {seen}"])
        low, high = (
            np.clip(np.append(end, own), -_WIDEST, _WIDEST).astype(np.float32)
            for end, own in ((seen.low, -np.inf), (seen.high, np.inf))
        )
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self._reward = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Start an episode; return obs [O + 1], which tells the last reward of the one before."""
        obs, info = self.env.reset(seed=seed, options=options)
        return self._told(obs), info

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Apply an action; return obs [O + 1], which tells the reward of this step."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._reward = float(reward)
        return self._told(obs), self._reward, terminated, truncated, info

    def _told(self, obs: NDArray[Any]) -> Obs:
        return np.append(obs, self._reward).astype(np.float32)
