"""MAML-TRPO on every published setting of every environment: it trains, and stays finite."""

import math
from dataclasses import replace
from typing import Any

import pytest

from metarl import agents, envs
from metarl.agents.maml import MamlTrpoConfig
from metarl.policies import PolicyConfig
from metarl.seeding import Streams
from metarl.trainer import TrainConfig, meta_train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CASES = [(name, preset) for name, family in envs.ENVS.items() for preset in family.presets]
CONFIG = TrainConfig(iterations=20, tasks_per_update=8, episodes=8)
LONGEST = 100
"""Longer episodes are cut: this is about trouble, not about learning."""


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_twenty_iterations_are_finite(name: str, preset: str) -> None:
    published: Any = envs.preset(name, preset)
    config = replace(published, horizon=min(published.horizon, LONGEST))
    distribution, env = envs.build(name, config)
    agent = agents.build(
        "maml-trpo", env.spec, MamlTrpoConfig(policy=PolicyConfig(hidden_sizes=(32, 32))), seed=1
    )
    before = {key: leaf.clone() for key, leaf in agent.state_dict().items()}
    iterations = list(meta_train(agent, env, distribution, CONFIG, Streams(1)))
    assert len(iterations) == CONFIG.iterations
    for iteration in iterations:
        assert all(math.isfinite(value) for value in iteration.metrics.values()), iteration
    after = agent.state_dict()
    # What nobody was ever paid for, as far mazes cut short, teaches nothing.
    paid = [
        abs(iteration.metrics[f"meta/{when}_return"])
        for iteration in iterations
        for when in ("pre", "post")
    ]
    assert any(not leaf.equal(after[key]) for key, leaf in before.items()) == (max(paid) > 0.0)
