"""iMAML's outer steps against dense implicit gradients, one task at a time."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import grad, hessian

from metarl import trees
from metarl.adaptation import Lesson
from metarl.agents.imaml import Imaml, ImamlConfig, ImamlTrpo, ImamlTrpoConfig
from metarl.checks import InputError
from metarl.distributions import Distribution
from metarl.implicit_gradient import ProximalLoop
from metarl.policies import PolicyConfig
from metarl.seeding import Streams
from metarl.trust_region import TrustRegionConfig
from metarl.types import Trajectories
from tests.agents.test_maml import spec
from tests.conftest import far_from_symmetric, random_round

SHAPE = (3, 2, 4)
NET = PolicyConfig(hidden_sizes=(3,), init_std=0.7)
LAMBDA, ALPHA = 8.0, 0.1
CONFIG = ImamlConfig(
    policy=NET,
    inner_lr=ALPHA,
    inner_objective="ratio",
    regularisation=LAMBDA,
    inner_steps=3,
    cg_iterations=40,
    outer_optimizer="sgd",
    outer_lr=0.5,
)


class ByHand:
    """The outer loss of one agent's tasks as the paper writes it, in vectors and matrices."""

    def __init__(self, agent: Imaml | ImamlTrpo, rounds: Sequence[Trajectories]) -> None:
        assert isinstance(agent.loop, ProximalLoop)
        self.policy, self.like = agent.loop.policy, dict(agent.outer.params)
        self.theta, self.steps = trees.flatten(self.like), agent.loop.config.inner_steps
        self.lessons = [agent.lesson(batch) for batch in rounds]

    def at(self, flat: Tensor, lesson: Lesson, task: int) -> Distribution:
        return self.policy.distribution(trees.unflatten(flat, self.like), lesson.obs[task])

    def loss(self, flat: Tensor, lesson: Lesson, task: int) -> Tensor:
        log_prob = self.at(flat, lesson, task).log_prob(lesson.action[task])
        ratio = torch.exp(log_prob - lesson.log_prob[task])
        return -(ratio * lesson.advantage[task])[lesson.mask[task]].mean()

    def adapted(self, task: int, rounds: int | None = None) -> Tensor:
        phi = self.theta
        for lesson in self.lessons[:-1][:rounds]:
            centre = phi
            for _ in range(self.steps):
                slope = grad(self.loss)(phi, lesson, task)
                phi = phi - ALPHA * (slope + LAMBDA * (phi - centre))
        return phi

    def jacobian(self, task: int) -> Tensor:
        product = torch.eye(len(self.theta), dtype=torch.float64)
        for number, lesson in enumerate(self.lessons[:-1], 1):
            curvature = hessian(self.loss)(self.adapted(task, number), lesson, task)
            matrix = torch.eye(len(self.theta)) + curvature / LAMBDA
            product = torch.linalg.solve(matrix, product)
        return product

    def value(self) -> float:
        losses = [self.loss(self.adapted(k), self.lessons[-1], k) for k in range(SHAPE[0])]
        return -float(torch.stack(losses).mean())

    def gradient(self) -> Tensor:
        """Equation 6, averaged over tasks."""
        parts = [
            self.jacobian(k).T @ grad(self.loss)(self.adapted(k), self.lessons[-1], k)
            for k in range(SHAPE[0])
        ]
        return torch.stack(parts).mean(0)

    def metric(self) -> Tensor:
        """J^T F J, the mean over tasks of means over steps."""
        total = torch.zeros(len(self.theta), len(self.theta), dtype=torch.float64)
        for k in range(SHAPE[0]):
            mask, old = self.lessons[-1].mask[k], self.at(self.adapted(k), self.lessons[-1], k)

            def divergence(flat: Tensor, k: int = k) -> Tensor:
                new = self.at(flat, self.lessons[-1], k)
                return old.kl(new)[mask].mean()  # type: ignore[arg-type]  # noqa: B023

            through = self.jacobian(k)
            total += through.T @ hessian(divergence)(self.adapted(k)) @ through / SHAPE[0]
        return total


def in_double(agent: Imaml | ImamlTrpo) -> None:
    moved = far_from_symmetric(agent.outer.params)
    for name, leaf in agent.outer.params.items():
        leaf.data = moved[name]


settings = pytest.mark.parametrize(
    ("discrete", "adaptations", "steps"),
    [(False, 1, 1), (False, 2, 3), (True, 1, 3), (True, 2, 1)],
)


@settings
def test_a_meta_update_steps_along_the_implicit_gradient(
    discrete: bool, adaptations: int, steps: int
) -> None:
    agent = Imaml(spec(discrete), replace(CONFIG, inner_steps=steps), Streams(0))
    in_double(agent)
    rounds = [random_round(SHAPE, spec(discrete), seed) for seed in range(adaptations + 1)]
    by_hand = ByHand(agent, rounds)
    gradient, value = by_hand.gradient(), by_hand.value()
    metrics = agent.meta_update(rounds)
    moved = trees.flatten(agent.outer.params).detach()
    assert gradient.norm() > 1e-2
    torch.testing.assert_close(moved, by_hand.theta - 0.5 * gradient, rtol=1e-9, atol=1e-10)
    assert metrics["train/gradient_norm"] == pytest.approx(float(gradient.norm()))
    assert metrics["train/surrogate"] == pytest.approx(value)


@settings
def test_a_trust_region_takes_the_implicit_jacobian(
    discrete: bool, adaptations: int, steps: int
) -> None:
    region = TrustRegionConfig(cg_damping=0.1, cg_iterations=60)
    names = ("inner_lr", "inner_objective", "regularisation", "policy")
    fields = {name: getattr(CONFIG, name) for name in names}
    config = ImamlTrpoConfig(**fields, inner_steps=steps, cg_iterations=40, trust_region=region)
    agent = ImamlTrpo(spec(discrete), config, Streams(0))
    in_double(agent)
    rounds = [random_round(SHAPE, spec(discrete), seed) for seed in range(adaptations + 1)]
    by_hand = ByHand(agent, rounds)
    gradient = -by_hand.gradient()
    matrix = by_hand.metric() + 0.1 * torch.eye(len(gradient))
    metrics = agent.meta_update(rounds)
    direction = torch.linalg.solve(matrix, gradient)
    step = math.sqrt(2 * 0.01 / float(direction @ gradient)) * direction
    step *= 0.8 ** metrics["train/backtracks"]
    moved = trees.flatten(agent.outer.params)
    assert metrics["train/accepted"] == 1.0
    assert (moved - by_hand.theta - step).norm() < 1e-4 * step.norm()


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(InputError, match=r"ImamlTrpoConfig\.inner_lr times regularisation"):
        ImamlTrpoConfig(regularisation=1000.0)
    with pytest.raises(InputError, match=r"ImamlConfig\.outer_lr"):
        ImamlConfig(outer_lr=0.0)
