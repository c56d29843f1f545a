"""Measuring: order and summaries of trials, and an agent whose calls are timed."""

import pytest
import torch

from metarl import agents, envs
from metarl.experiments.bench.measure import (
    Figure,
    TimedAgent,
    figure,
    in_turn,
    peak_memory,
    ratios,
    timed,
)
from metarl.seeding import Streams
from metarl.trainer import TrainConfig, meta_train


def test_trials_are_warmed_up_and_then_taken_in_turn() -> None:
    order: list[str] = []

    def trial(name: str) -> int:
        order.append(name)
        return len(order)

    results = in_turn({"a": lambda: trial("a"), "b": lambda: trial("b")}, 3)
    assert order == ["a", "b"] * 4
    assert results == {"a": [3, 5, 7], "b": [4, 6, 8]}


def test_figures_by_hand() -> None:
    assert figure("s", [4.0, 1.0, 2.0]) == Figure("s", 2.0, 1.0, 4.0)
    assert figure("s", [4.0, 1.0]) == Figure("s", 2.5, 1.0, 4.0)
    assert ratios([6.0, 1.0], [3.0, 4.0]) == [2.0, 0.25]


def test_memory_is_that_of_this_process() -> None:
    before = peak_memory("cpu")["host"].median
    held = torch.ones(2**24)
    after = peak_memory("cpu")["host"].median
    assert held.sum() == 2**24
    # Python with torch takes more than 50 MB; 64 MB of ones may fit into what was taken before.
    assert 50 < before <= after < 100_000


@pytest.mark.parametrize("name", ["maml-trpo", "rl2"])
def test_timed_agent_changes_nothing(name: str) -> None:
    weights = []
    for observed in (False, True):
        distribution, env = envs.build("metarl/BernoulliBandit-v0")
        agent = agents.build(name, env.spec, seed=1)
        watched = timed(agent, "cpu") if observed else agent
        config = TrainConfig(iterations=2, tasks_per_update=3, episodes=4)
        assert len(list(meta_train(watched, env, distribution, config, Streams(1)))) == 2
        if isinstance(watched, TimedAgent):
            taken = watched.take_seconds()
            assert taken.keys() == {"acting", "adaptation", "update"}
            assert all(value > 0 for value in taken.values())
            assert watched.take_seconds() == {}
        weights.append(watched.state_dict())
    plain, observed_too = weights
    assert all(torch.equal(plain[leaf], observed_too[leaf]) for leaf in plain)
