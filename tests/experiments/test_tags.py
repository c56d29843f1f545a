"""The names of metrics, agent by agent: what users of Stable-Baselines3 look for is there."""

import re

import pytest

from metarl.logger import with_sb3_names
from metarl.seeding import Streams
from metarl.trainer import TrainConfig, meta_train
from metarl.types import Metrics
from tests.conftest import build_world

ALWAYS = {
    *("rollout/ep_rew_mean", "rollout/ep_len_mean"),
    *("time/fps", "time/iterations", "time/total_timesteps"),
    *("meta/pre_return", "meta/post_return", "meta/gain"),
}
OF_LEARNERS = {"train/loss", "train/approx_kl", "train/entropy_loss", "train/policy_gradient_loss"}
WITHOUT_OBJECTIVE = {"reptile", "random"}
NAME = re.compile(r"(rollout|time|meta|train)/[a-z][a-z0-9_]*")


def tags(agent_name: str) -> tuple[Metrics, Metrics]:
    """Return what one meta-iteration reports, and the same under SB3's names too."""
    world = build_world(agent_name, "metarl/BernoulliBandit-v0")
    config = TrainConfig(iterations=1, tasks_per_update=3, episodes=5)
    (result,) = meta_train(world.new_agent(), world.env, world.distribution, config, Streams(1))
    return result.metrics, with_sb3_names(1, result.env_steps, result.metrics)


def test_every_agent_reports_what_sb3_would(agent_name: str) -> None:
    metrics, named = tags(agent_name)
    wanted = ALWAYS | (set() if agent_name in WITHOUT_OBJECTIVE else OF_LEARNERS)
    assert wanted <= named.keys()
    assert all(NAME.fullmatch(name) for name in named)
    assert metrics.items() <= named.items()
    assert (named["time/iterations"], named["time/total_timesteps"]) == (1, 3 * 5 * 2)


def test_signs_are_those_of_sb3() -> None:
    named = with_sb3_names(3, 40, {"train/entropy": 0.7, "train/surrogate": 0.2})
    assert named["train/entropy_loss"] == -0.7
    assert named["train/loss"] == named["train/policy_gradient_loss"] == -0.2
    assert (named["time/iterations"], named["time/total_timesteps"]) == (3, 40)
    assert with_sb3_names(1, 1, {"validation/post_return": 2.0})["eval/mean_reward"] == 2.0


def test_the_loss_of_ppo_is_all_that_it_lowers() -> None:
    _, named = tags("rl2")
    parts = named["train/policy_gradient_loss"] + 0.5 * named["train/value_loss"]
    assert named["train/loss"] == pytest.approx(parts + 0.02 * named["train/entropy_loss"])
    assert named["train/loss"] != named["train/policy_gradient_loss"]
