"""The same environments in the vector environments that people use otherwise, random actions.

Beside them steps our own ``VecEnv``, with as many copies and with 64. Imported only when a
benchmark asks for peers: Stable-Baselines3 takes a while to load.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from importlib import resources
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import SubprocVecEnv

from metarl.envs import EnvConfig, name_of
from metarl.envs.half_cheetah import HalfCheetahDirConfig
from metarl.envs.navigation import NavigationConfig
from metarl.envs.sb3 import TaskVecEnv
from metarl.experiments.bench.measure import (
    STEP_RATE,
    TIMES,
    Figures,
    figure,
    in_turn,
    ratios,
    seconds,
)
from metarl.experiments.bench.phases import Trial, first_round, sampling_trial
from metarl.experiments.experiment import Experiment

MakeEnv: TypeAlias = Callable[[], gymnasium.Env[Any, Any]]
VectorStep: TypeAlias = Callable[[NDArray[np.float32]], object]

_FIRST_STEPS = 20
"""Vector steps of the warm-up, which tells how many make a round."""
_MANY_COPIES = 64
"""Copies of our second vector environment: one process holds as many as one likes."""
_SUBPROC = "sb3_subproc"
_NUM_ACTIONS = 64
"""Random actions are drawn ahead, so many for each copy, and taken in turn."""


class PointEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Point navigation as one writes it for Gymnasium: one point, numpy, a goal for each episode.

    The rules are those of ``metarl/PointNavigation-v0`` with actions in [-1, 1].
    """

    def __init__(self, goal_range: float) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._goal_range = goal_range
        self.goal = np.zeros(2)
        self._position = np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draw a goal and go back to the origin; return obs [2]."""
        super().reset(seed=seed, options=options)
        self.goal = self.np_random.uniform(-self._goal_range, self._goal_range, 2)
        self._position = np.zeros(2)
        return self._position.astype(np.float32), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Move by a tenth of the action [2]."""
        self._position = self._position + np.clip(0.1 * action, -0.1, 0.1)
        offset = self._position - self.goal
        reward = -float(np.linalg.norm(offset))
        reached = bool((np.abs(offset) < 0.01).all())
        return self._position.astype(np.float32), reward, reached, False, {}


def peer_of(config: EnvConfig) -> MakeEnv | None:
    """Return what makes the single Gymnasium environment with the work of ours; None without one.

    Half-cheetah is Gymnasium's HalfCheetah-v5 on its own body with the masses written out: about
    its own file MuJoCo 4 complains in every worker, and leaves a log in the working directory.
    """
    if isinstance(config, NavigationConfig) and _is_point(config):
        return partial(_point, config.goal_range, config.horizon)
    if isinstance(config, HalfCheetahDirConfig):
        body = resources.files("metarl.envs").joinpath("assets", "half_cheetah.xml")
        return partial(
            gymnasium.make, "HalfCheetah-v5", max_episode_steps=config.horizon, xml_file=str(body)
        )
    return None


def _is_point(config: NavigationConfig) -> bool:
    """Whether the rules are those of ``PointEnv``."""
    return config == NavigationConfig(
        horizon=config.horizon, goal_range=config.goal_range, action_scale=config.action_scale
    )


def bench_peers(
    experiment: Experiment, rounds: int, num_envs: int, round_s: float = 1.0
) -> Figures:
    """Time our sampling, policy included, beside peers that step random actions, in turn.

    Args:
        experiment: its environment, and the size of our rounds.
        rounds: of each.
        num_envs: copies that each peer steps; of those with processes, one process each.
        round_s: about how many seconds a peer's round takes. Peers are timed by their steps per
            second: as many steps as a round of ours has would take some of them minutes.

    Returns:
        Env steps per second of each, and how many times those of a peer ours are; nothing for an
        environment without a peer.
    """
    make = peer_of(experiment.env)
    if make is None:
        return {}
    sampled = first_round(experiment)
    action_size = sampled.parts.env.spec.action_size
    with ExitStack() as stack:
        steps = _start_peers([make] * num_envs, stack)
        peers = {name: _trial(step, num_envs, action_size, round_s) for name, step in steps.items()}
        ours = {
            f"metarl_vec_env_{number}": _trial(
                _our_vec_env(experiment.env, number), number, action_size, round_s
            )
            for number in sorted({num_envs, _MANY_COPIES})
        }
        trials = {"metarl_with_policy": sampling_trial(sampled), **peers, **ours}
        rates = in_turn(trials, rounds)
    figures = {name: figure(STEP_RATE, values) for name, values in rates.items()}
    for name in peers:
        over = ratios(rates["metarl_with_policy"], rates[name])
        figures[f"metarl_over_{name}"] = figure(TIMES, over)
    for name in ours:
        figures[f"{name}_over_sb3_subproc"] = figure(TIMES, ratios(rates[name], rates[_SUBPROC]))
    return figures


def _our_vec_env(config: EnvConfig, num_envs: int) -> VectorStep:
    env = TaskVecEnv(name_of(config), num_envs, config=asdict(config))
    env.reset()
    return env.step


def _start_peers(copies: list[MakeEnv], stack: ExitStack) -> dict[str, VectorStep]:
    """Start every peer; ``stack`` closes them."""
    subproc = SubprocVecEnv(copies)
    stack.callback(subproc.close)
    sync = gymnasium.vector.SyncVectorEnv(copies)
    stack.callback(sync.close)
    # As SB3 does by itself: a fork of a process with threads may hang.
    asynchronous = gymnasium.vector.AsyncVectorEnv(copies, context="forkserver")
    stack.callback(asynchronous.close)
    subproc.reset()
    sync.reset(seed=0)
    asynchronous.reset(seed=0)
    return {
        _SUBPROC: subproc.step,
        "gymnasium_sync": sync.step,
        "gymnasium_async": asynchronous.step,
    }


def _trial(step: VectorStep, num_envs: int, action_size: int, round_s: float) -> Trial:
    """Return a trial of about ``round_s`` seconds; its warm-up tells how many steps that is."""
    shape = (_NUM_ACTIONS, num_envs, action_size)
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)
    num_steps = _FIRST_STEPS

    def walk() -> None:
        for number in range(num_steps):
            step(actions[number % _NUM_ACTIONS])

    def run() -> float:
        nonlocal num_steps
        taken, duration = num_steps, seconds(walk, "cpu")
        num_steps = max(1, round(taken * round_s / duration))
        return taken * num_envs / duration

    return run


def _point(goal_range: float, horizon: int) -> gymnasium.Env[Any, Any]:
    return gymnasium.wrappers.TimeLimit(PointEnv(goal_range), horizon)
