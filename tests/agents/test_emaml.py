"""E-MAML against a plain implementation: one task after the other, by torch's own autograd."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import agents, trees
from metarl.adaptation import InnerLoop, Lesson, adapt_stacked, begin_stacked, estimate
from metarl.agents.emaml import Emaml, EmamlConfig
from metarl.agents.maml import MamlTrpoConfig
from metarl.checks import InputError
from metarl.distributions import Distribution
from metarl.linearisation import Term
from metarl.policies import PolicyConfig, stacked_distribution
from metarl.seeding import Streams
from metarl.trust_region import TrustRegionConfig, trust_region_step
from metarl.types import EnvSpec, Trajectories
from tests.conftest import ByAutograd, far_from_symmetric, mean_weights, random_round

TASKS, EPISODES, HORIZON = SHAPE = (4, 3, 5)
CONFIG = EmamlConfig(
    inner_lr=0.25,
    later_lr_scale=0.5,
    policy=PolicyConfig(hidden_sizes=(4,), init_std=0.7),
    trust_region=TrustRegionConfig(cg_damping=0.1, cg_iterations=6),
    credit_weight=0.6,
)
cases = pytest.mark.parametrize(
    ("discrete", "first_order", "adaptations"),
    list(itertools.product([False, True], [False, True], [1, 2])),
)


def spec(discrete: bool) -> EnvSpec:
    return EnvSpec("test", 3, 3, discrete, HORIZON, False)


def random_rounds(discrete: bool, adaptations: int) -> list[Trajectories]:
    """Rounds of episodes that end early, with returns that differ from task to task."""
    of_task = torch.tensor([2.0, -1.0, 0.5, 4.0]).double()[:, None, None]
    rounds = [random_round(SHAPE, spec(discrete), seed) for seed in range(adaptations + 1)]
    return [batch._replace(reward=batch.reward + of_task * batch.mask) for batch in rounds]


def new_agent(discrete: bool, config: EmamlConfig) -> Emaml:
    agent = Emaml(spec(discrete), config, Streams(0))
    agent.outer.params = far_from_symmetric(agent.outer.params)
    return agent


def credit_by_hand(last: Trajectories, config: EmamlConfig) -> list[float]:
    """Return less the others' mean, over the mean of length times spread."""
    advantage = estimate(last, config).advantage
    earned, scale = [], []
    for k in range(TASKS):
        steps = [
            float(advantage[k, e, t])
            for e in range(EPISODES)
            for t in range(HORIZON)
            if last.mask[k, e, t]
        ]
        mean = sum(steps) / len(steps)
        spread = (sum((x - mean) ** 2 for x in steps) / len(steps)) ** 0.5
        earned.append(float(last.reward[k].sum()) / EPISODES)
        scale.append(len(steps) / EPISODES * spread)
    return [
        (earned[k] - (sum(earned) - earned[k]) / 3) / (sum(scale) / TASKS) for k in range(TASKS)
    ]


class Plain:
    """E-MAML's outer objective, from ``adapt_stacked`` and sums by hand on."""

    def __init__(self, agent: Emaml, rounds: list[Trajectories]) -> None:
        assert isinstance(agent.loop, InnerLoop)
        self.agent, self.loop, self.like = agent, agent.loop, dict(agent.outer.params)
        self.lessons = [agent.lesson(batch) for batch in rounds]
        self.weights = mean_weights(self.lessons[-1].mask)
        self.credit = credit_by_hand(rounds[-1], agent.config)

    def policies(self, theta: Tensor, adaptations: int) -> Distribution:
        adapted = begin_stacked(trees.unflatten(theta, self.like), TASKS)
        for lesson in self.lessons[:adaptations]:
            adapted = adapt_stacked(self.loop, adapted, lesson)
        obs = self.lessons[adaptations].obs
        return stacked_distribution(self.loop.policy, adapted, obs)

    def surrogate(self, new: Distribution) -> Tensor:
        last = self.lessons[-1]
        ratio = torch.exp(new.log_prob(last.action) - last.log_prob)
        return (ratio * last.advantage * self.weights).sum()

    def credited(self, new: Distribution, lesson: Lesson) -> Tensor:
        """Mean over tasks of credit times the log-probability of all that was adapted to."""
        log_ratio = new.log_prob(lesson.action) - lesson.log_prob
        parts = [self.credit[k] * log_ratio[k][lesson.mask[k]].sum() for k in range(TASKS)]
        return self.agent.config.credit_weight * torch.stack(parts).sum() / TASKS

    def value(self, theta: Tensor) -> Tensor:
        last = len(self.lessons) - 1
        parts = [self.credited(self.policies(theta, i), self.lessons[i]) for i in range(last)]
        return self.surrogate(self.policies(theta, last)) + torch.stack(parts).sum()

    def terms(self) -> list[Term]:
        last = len(self.lessons) - 1

        def adapted(theta: Tensor) -> Distribution:
            return self.policies(theta, last)

        terms = [Term(ByAutograd(adapted, self.weights), self.surrogate)]
        for i in range(last):

            def before(theta: Tensor, i: int = i) -> Distribution:
                return self.policies(theta, i)

            def credited(new: Distribution, i: int = i) -> Tensor:
                return self.credited(new, self.lessons[i])

            terms.append(Term(ByAutograd(before, mean_weights(self.lessons[i].mask)), credited))
        return terms


def test_the_credit_is_the_return_against_the_others_in_the_surrogates_unit() -> None:
    agent, last = new_agent(False, CONFIG), random_rounds(False, 0)[0]
    expected = torch.tensor(credit_by_hand(last, CONFIG), dtype=torch.float64) / TASKS
    assert expected.abs().min() > 0.01
    torch.testing.assert_close(agent.credit(last), expected, rtol=1e-6, atol=1e-9)
    scaled = last._replace(reward=100.0 * last.reward)
    torch.testing.assert_close(agent.credit(scaled), expected, rtol=1e-4, atol=1e-6)


def test_the_only_task_that_found_a_reward_is_credited_within_bounds() -> None:
    agent, last = new_agent(False, CONFIG), random_rounds(False, 0)[0]
    reward = torch.zeros_like(last.reward)
    reward[0, 0, 0] = 1.0
    credit = TASKS * agent.credit(last._replace(reward=reward))
    assert 0.0 < float(credit[0]) < 10.0
    torch.testing.assert_close(credit[1:], (-credit[0] / 3).expand(3))
    assert torch.equal(agent.credit(last._replace(reward=0.0 * reward)), torch.zeros(4).double())


@cases
def test_a_meta_update_is_the_trust_region_step_of_both_terms(
    discrete: bool, first_order: bool, adaptations: int
) -> None:
    agent = new_agent(discrete, replace(CONFIG, first_order=first_order))
    rounds = random_rounds(discrete, adaptations)
    plain, theta = Plain(agent, rounds), trees.flatten(agent.outer.params)
    expected, told = trust_region_step(theta, plain.terms(), CONFIG.trust_region)
    metrics = agent.meta_update(rounds)
    # Without the second derivatives the step may go down, and is refused.
    assert first_order or metrics["train/accepted"] == 1.0
    moved = trees.flatten(agent.outer.params)
    torch.testing.assert_close(moved, expected, rtol=1e-6, atol=1e-8)
    assert metrics == pytest.approx(told, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("adaptations", [1, 2])
@pytest.mark.parametrize("discrete", [False, True])
def test_its_gradient_is_the_finite_difference(discrete: bool, adaptations: int) -> None:
    agent, rounds = new_agent(discrete, CONFIG), random_rounds(discrete, adaptations)
    plain, theta = Plain(agent, rounds), trees.flatten(agent.outer.params)
    width = 1e-5
    with torch.no_grad():
        steps = width * torch.eye(len(theta), dtype=torch.float64)
        rises = [plain.value(theta + d) - plain.value(theta - d) for d in steps]
        gradient = torch.stack(rises) / (2 * width)
        value = float(plain.value(theta))
    metrics = agent.meta_update(rounds)
    assert metrics["train/surrogate"] == pytest.approx(value, rel=1e-6)
    assert metrics["train/gradient_norm"] == pytest.approx(float(gradient.norm()), rel=1e-6)


def test_without_credit_it_is_maml_trpo() -> None:
    shared = {name: CONFIG.__dict__[name] for name in MamlTrpoConfig.__dataclass_fields__}
    configs = {"emaml": replace(CONFIG, credit_weight=0.0), "maml-trpo": MamlTrpoConfig(**shared)}
    states, told = [], []
    for name, config in configs.items():
        agent = agents.build(name, spec(True), config, seed=1)
        single = [
            Trajectories(*(x.float() if x.is_floating_point() else x for x in batch))
            for batch in random_rounds(True, 2)
        ]
        told.append(agent.meta_update(single))
        states.append(agent.state_dict())
    assert told[0] == told[1]
    for name, leaf in states[0].items():
        assert torch.equal(leaf, states[1][name]), name


def test_one_task_alone_is_refused_unless_nothing_is_credited() -> None:
    alone = [Trajectories(*(x[:1] for x in batch)) for batch in random_rounds(False, 1)]
    with pytest.raises(InputError, match="tasks_per_update must be at least 2 with EmamlConfig"):
        new_agent(False, CONFIG).meta_update(alone)
    new_agent(False, replace(CONFIG, credit_weight=0.0)).meta_update(alone)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"credit_weight": -0.1}, "credit_weight must be a finite number >= 0"),
        ({"inner_objective": "ratio"}, "second time"),
        ({"inner_objective": "dice"}, "second time"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EmamlConfig(**fields)
    EmamlConfig(credit_weight=0.0, inner_objective="ratio")
