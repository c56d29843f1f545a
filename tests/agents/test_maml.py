"""MAML's outer step against the plain differentiable path, whole and on a share of the tasks."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metarl import trees
from metarl.adaptation import InnerLoop, Lesson, adapt_stacked, begin_stacked
from metarl.agents.maml import MamlTrpo, MamlTrpoConfig
from metarl.distributions import Distribution
from metarl.linearisation import Term
from metarl.objectives import InnerObjective
from metarl.policies import PolicyConfig, stacked_distribution
from metarl.seeding import Streams
from metarl.trust_region import TrustRegionConfig, trust_region_step
from metarl.types import EnvSpec, Metrics, Trajectories
from tests.conftest import ByAutograd, far_from_symmetric, mean_weights, random_round

SHAPE = (4, 3, 5)
OBJECTIVES: list[InnerObjective] = ["log_likelihood", "ratio", "dice"]
CONFIG = MamlTrpoConfig(
    inner_lr=0.25,
    later_lr_scale=0.5,
    policy=PolicyConfig(hidden_sizes=(5, 4), init_std=0.7),
    trust_region=TrustRegionConfig(cg_damping=0.1, cg_iterations=6),
)


def spec(discrete: bool) -> EnvSpec:
    return EnvSpec("test", 3, 3, discrete, SHAPE[2], False)


def new_agent(discrete: bool, config: MamlTrpoConfig) -> MamlTrpo:
    agent = MamlTrpo(spec(discrete), config, Streams(0))
    agent.outer.params = far_from_symmetric(agent.outer.params)
    return agent


class Plain:
    """The outer step of some of the tasks, by automatic differentiation of ``adapt_stacked``."""

    def __init__(self, agent: MamlTrpo, rounds: list[Trajectories], rows: list[int]) -> None:
        assert isinstance(agent.loop, InnerLoop)
        self.agent, self.loop, self.like = agent, agent.loop, dict(agent.outer.params)
        lessons = [agent.lesson(batch) for batch in rounds]
        *self.lessons, self.last = [Lesson(*(field[rows] for field in each)) for each in lessons]
        self.weights = mean_weights(self.last.mask)
        self.policies = ByAutograd(self.after, self.weights)

    def after(self, theta: Tensor) -> Distribution:
        adapted = begin_stacked(trees.unflatten(theta, self.like), len(self.weights))
        for lesson in self.lessons:
            adapted = adapt_stacked(self.loop, adapted, lesson)
        return stacked_distribution(self.loop.policy, adapted, self.last.obs)

    def surrogate(self, distribution: Distribution) -> Tensor:
        ratio = torch.exp(distribution.log_prob(self.last.action) - self.last.log_prob)
        return (ratio * self.last.advantage * self.weights).sum()

    def step(self) -> tuple[Tensor, Metrics]:
        return trust_region_step(
            trees.flatten(self.like),
            [Term(self.policies, self.surrogate)],
            self.agent.config.trust_region,
        )


def assert_same_step(agent: MamlTrpo, metrics: Metrics, expected: tuple[Tensor, Metrics]) -> None:
    assert metrics["train/accepted"] == 1.0
    torch.testing.assert_close(trees.flatten(agent.outer.params), expected[0], rtol=1e-8, atol=1e-9)
    assert metrics == pytest.approx(expected[1], rel=1e-7, abs=1e-9)


@pytest.mark.parametrize(
    ("discrete", "objective", "first_order", "adaptations"),
    list(itertools.product([False, True], OBJECTIVES, [False, True], [0, 1, 2])),
)
def test_a_meta_update_is_the_step_of_the_plain_path(
    discrete: bool, objective: InnerObjective, first_order: bool, adaptations: int
) -> None:
    config = replace(CONFIG, inner_objective=objective, first_order=first_order)
    agent = new_agent(discrete, config)
    rounds = [random_round(SHAPE, spec(discrete), seed) for seed in range(adaptations + 1)]
    expected = Plain(agent, rounds, [0, 1, 2, 3]).step()
    assert_same_step(agent, agent.meta_update(rounds), expected)


@pytest.mark.parametrize(
    ("fraction", "chosen"), [(0.5, [1, 3]), (0.75, [1, 2, 3]), (1e-6, [0]), (1.0, [0, 1, 2, 3])]
)
@pytest.mark.parametrize("discrete", [False, True])
def test_the_curvature_may_be_that_of_a_fraction_of_the_tasks(
    discrete: bool, fraction: float, chosen: list[int]
) -> None:
    trust_region = replace(CONFIG.trust_region, curvature_fraction=fraction)
    agent = new_agent(discrete, replace(CONFIG, trust_region=trust_region))
    rounds = [random_round(SHAPE, spec(discrete), seed) for seed in range(2)]
    plain = Plain(agent, rounds, [0, 1, 2, 3])
    plain.policies.share = Plain(agent, rounds, chosen).policies
    assert_same_step(agent, agent.meta_update(rounds), plain.step())


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_no_bit_of_a_meta_update_depends_on_torchs_threads(fraction: float) -> None:
    # Large enough for several blocks of tasks, and for torch to split the sums over weights.
    shape = (5, 10, 70)
    trust_region = TrustRegionConfig(cg_iterations=2, curvature_fraction=fraction)
    policy = PolicyConfig(hidden_sizes=(192, 192))
    config = replace(CONFIG, policy=policy, trust_region=trust_region)
    rounds = [random_round(shape, spec(False), seed) for seed in range(2)]
    single = [
        Trajectories(*(x.float() if x.is_floating_point() else x for x in batch))
        for batch in rounds
    ]
    standing, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            agent = MamlTrpo(spec(False), config, Streams(0))
            results.append((agent.meta_update(single), trees.flatten(agent.outer.params)))
    finally:
        torch.set_num_threads(standing)
    assert len(results[0][1]) > 2**15
    for metrics, theta in results[1:]:
        assert metrics == results[0][0]
        assert torch.equal(theta, results[0][1])
