"""Kept policies in the hands of Stable-Baselines3."""

from typing import Any

import gymnasium
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from metarl.adapted_policy import AdaptedPolicy


def evaluated(
    policy: AdaptedPolicy,
    env: gymnasium.Env[Any, Any] | VecEnv,
    episodes: int,
    deterministic: bool = True,
) -> tuple[list[float], list[int]]:
    """Return and length of every episode."""
    returns, lengths = evaluate_policy(
        policy,  # type: ignore[arg-type]  # theirs take dicts of arrays too
        env,
        n_eval_episodes=episodes,
        deterministic=deterministic,
        return_episode_rewards=True,
        warn=False,
    )
    assert isinstance(returns, list)
    assert isinstance(lengths, list)
    return returns, lengths
