"""A user's environments for the tests: one that tells what it was told, one with every fault."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Echo(gymnasium.Env[Any, Any]):
    """Observes its task, the two halves of its seed, its steps, its last action and a draw."""

    def __init__(self, ends_after: int = 1000) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2, 3), np.float32)
        self.action_space = spaces.Box(-1.0, 3.0, (1,), np.float32)
        self._ends_after = ends_after
        self._seen = np.zeros(6)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        assert seed is not None
        number = (options or {})["task"]["number"]
        self._seen = np.array([number, seed >> 16, seed & 0xFFFF, 0.0, 0.0, self._draw()])
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self._seen[3:] = self._seen[3] + 1, action[0], self._draw()
        # Task 1's copies end early, the others with the time limit.
        ended = self._seen[0] == 1 and self._seen[3] >= self._ends_after
        return self._observe(), self._seen[5], bool(ended), False, {"success": bool(ended)}

    def _draw(self) -> float:
        return float(self.np_random.normal())

    def _observe(self) -> Any:
        return self._seen.astype(np.float32).reshape(2, 3)


class Chooser(gymnasium.Env[Any, Any]):
    """Takes its task from ``set_task``; discrete, and observes its state one-hot."""

    def __init__(self) -> None:
        self.observation_space = spaces.Discrete(3)
        self.action_space = spaces.Discrete(3, start=5)
        self._paying = 0

    def set_task(self, task: dict[str, Any]) -> None:
        self._paying = int(task["number"])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        assert options is None
        return 0, {}

    def step(self, action: Any) -> Any:
        assert action in self.action_space
        choice = int(action) - 5
        return choice, float(choice == self._paying), False, False, {}


class Faulty(gymnasium.Env[Any, Any]):
    """Works until its third step in task 1; then what its name says."""

    def __init__(self, fault: str, home: str = "") -> None:
        if fault == "constructor":
            raise OSError("no such robot")
        if fault == "slow constructor":
            time.sleep(1000.0)
        if fault == "dying constructor":
            os._exit(3)
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._fault, self._home = fault, Path(home)
        self._bad, self._steps = False, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._bad, self._steps = (options or {})["task"]["number"] == 1, 0
        if self._bad and self._fault == "reset raises":
            raise KeyError("gripper")
        if self._bad and self._fault == "space changes":
            self.observation_space = spaces.Box(-2.0, 2.0, (2,), np.float32)
        if self._bad and self._fault == "reset alone":
            return np.zeros(2, np.float32)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:  # noqa: PLR0912
        self._steps += 1
        obs: Any = np.zeros(2, np.float32)
        result = [obs, 0.5, False, False, {}]
        if not self._bad or self._steps < 3:
            return tuple(result)
        match self._fault:
            case "step raises":
                result[1] = 1.0 / 0
            case "nan":
                result[0] = np.array([0.0, np.nan], np.float32)
            case "nan reward":
                result[1] = float("nan")
            case "array reward":
                result[1] = np.zeros(1)
            case "bounds":
                result[0] = np.array([0.0, 1.5], np.float32)
            case "shape":
                result[0] = np.zeros(3, np.float32)
            case "dtype":
                result[0] = np.zeros(2)
            case "terminated":
                result[2] = 1.0
            case "truncated":
                result[3] = True
            case "four":
                del result[3]
            case "hangs":
                time.sleep(1000.0)
            case "dies":
                os._exit(3)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
        return tuple(result)
