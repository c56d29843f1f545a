"""The meta-iteration: resumed bit for bit, whatever the threads and the split of the tasks."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import agents, envs
from metarl.agents.maml import MamlTrpoConfig
from metarl.checks import InputError
from metarl.policies import PolicyConfig
from metarl.protocols import Algorithm
from metarl.seeding import Streams
from metarl.trainer import TrainConfig, meta_train
from metarl.types import Metrics
from tests.conftest import World, build_world

CONFIG = TrainConfig(iterations=4, tasks_per_update=4, episodes=5, adaptations=2)


def train(world: World, agent: Algorithm, start: int, stop: int) -> list[Metrics]:
    training = meta_train(agent, world.env, world.distribution, CONFIG, Streams(11), start=start)
    results = list(itertools.islice(training, stop - start))
    assert [result.number for result in results] == list(range(start + 1, stop + 1))
    return [
        {name: value for name, value in result.metrics.items() if not name.startswith("time/")}
        for result in results
    ]


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def test_four_iterations_are_two_and_two_more(world: World) -> None:
    whole, first, second = (world.new_agent() for _ in range(3))
    metrics = train(world, whole, 0, 4)
    before = train(world, first, 0, 2)
    second.load_state_dict({name: leaf.clone() for name, leaf in first.state_dict().items()})
    after = train(world, second, 2, 4)
    assert metrics == before + after
    assert equal(whole.state_dict(), second.state_dict())


@pytest.mark.parametrize("env", ["metarl/PointNavigation-v0", "metarl/HalfCheetahDir-v0"])
def test_one_and_two_threads_give_the_same_weights(env: str) -> None:
    threads_before = torch.get_num_threads()
    weights = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            world = build_world("maml-trpo", env, threads=threads)
            agent = world.new_agent()
            train(world, agent, 0, 3)
            weights.append(agent.state_dict())
    finally:
        torch.set_num_threads(threads_before)
    assert equal(*weights)


def test_threads_do_not_show_where_torch_splits_work_either() -> None:
    """It does so beyond some ten thousand numbers: here a task's activations are 64,000 a layer."""
    config = TrainConfig(iterations=1, tasks_per_update=8, episodes=10)
    threads_before, weights = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            distribution, env = envs.build("metarl/PointNavigation-v0")
            policy = PolicyConfig(hidden_sizes=(64, 64))
            agent = agents.build("maml-trpo", env.spec, MamlTrpoConfig(policy=policy))
            results = list(meta_train(agent, env, distribution, config, Streams(1)))
            weights.append(agent.state_dict())
            assert results[0].metrics["train/accepted"] == 1.0
    finally:
        torch.set_num_threads(threads_before)
    assert equal(*weights)


def test_seeds_differ() -> None:
    world = build_world("maml-trpo", "metarl/PointNavigation-v0")
    returns = [
        next(meta_train(world.new_agent(), world.env, world.distribution, CONFIG, Streams(seed)))
        for seed in (1, 2)
    ]
    assert returns[0].metrics["meta/pre_return"] != returns[1].metrics["meta/pre_return"]


def test_env_steps_count_adaptation_too() -> None:
    world = build_world("random", "metarl/BernoulliBandit-v0")
    (first, *_) = meta_train(world.new_agent(), world.env, world.distribution, CONFIG, Streams(1))
    assert first.env_steps == 4 * 5 * 3  # tasks x episodes x rounds, one step each


@pytest.mark.parametrize("field", ["tasks_per_update", "episodes", "adaptations"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, float("nan")])
def test_bad_amounts_are_refused_by_name(field: str, value: Any) -> None:
    if (field, value) == ("adaptations", 0):
        assert TrainConfig(adaptations=0).adaptations == 0
        return
    with pytest.raises(InputError, match=f"TrainConfig.{field}"):
        TrainConfig(**{field: value})
