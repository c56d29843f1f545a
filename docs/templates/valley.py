"""A car in a valley, as one writes it for Gymnasium: an engine too weak, and a hidden slope.

It knows nothing of metarl, and imports no torch: that keeps worker processes quick and small.
"""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

Observation = NDArray[np.float32]
Action = NDArray[np.float32]


class Valley(gymnasium.Env[Observation, Action]):
    """Reach the flag on the right-hand slope; ``task`` says how steep it is, and where the flag."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-4.0, 4.0, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._task = {"slope": 1.0, "flag": 1.0}
        self._state = np.zeros(2)  # m, m/s

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start near the bottom; ``options["task"]`` is the task."""
        super().reset(seed=seed)  # seeds self.np_random, the only source of chance
        self._task = (options or {}).get("task", self._task)
        self._state = np.array([self.np_random.uniform(-0.1, 0.1), 0.0])
        return self._state.astype(np.float32), {}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Push for 0.1 s; the reward is minus the distance to the flag, in m."""
        place, speed = self._state.tolist()
        speed += 0.1 * (float(action[0]) - self._task["slope"] * np.sin(2.0 * place))
        speed = float(np.clip(speed, -4.0, 4.0))
        place = float(np.clip(place + 0.1 * speed, -2.0, 2.0))
        self._state = np.array([place, speed])
        reached = place >= self._task["flag"]
        reward = -abs(self._task["flag"] - place)
        return self._state.astype(np.float32), reward, reached, False, {"success": reached}
