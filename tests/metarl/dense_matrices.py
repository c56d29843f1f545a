"""The regularised inner problem by dense matrices, one task at a time."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.func import grad, hessian, jacrev

from metarl import implicit_gradient, trees
from metarl.adaptation import Lesson, Rounds
from metarl.distributions import Distribution
from metarl.implicit_gradient import ProximalConfig, ProximalLoop
from metarl.linearisation import Linearisation
from metarl.meta_gradient import AfterAdaptation, Blocks
from metarl.policies import Policy, PolicyConfig, build_policy
from metarl.seeding import Streams
from metarl.types import EnvSpec, Params
from tests.conftest import far_from_symmetric, mean_weights, random_lesson
from tests.metarl.policies import WavePolicy

TASKS, EPISODES, HORIZON = 3, 2, 4
# The ratio, since few samples say little against a log-likelihood that runs off.
CONFIG = ProximalConfig(
    inner_lr=0.1,
    later_lr_scale=0.5,
    inner_objective="ratio",
    regularisation=8.0,
    inner_steps=3,
    cg_iterations=40,
)


class Setting:
    """A policy, K tasks' lessons, and the same by dense matrices, one task at a time."""

    def __init__(self, kind: str, config: ProximalConfig, adaptations: int = 1) -> None:
        self.spec = EnvSpec("test", 2, 3 if kind == "discrete" else 2, kind == "discrete", 4, False)
        network = PolicyConfig(hidden_sizes=(3,), init_std=0.7)
        self.policy: Policy = WavePolicy(self.spec)
        if kind != "other":
            self.policy = build_policy(self.spec, network)
        self.config = config
        self.loop = ProximalLoop(self.policy, config)
        self.params = far_from_symmetric(self.policy.init(Streams(0)))
        self.theta = trees.flatten(self.params)
        shape = (TASKS, EPISODES, HORIZON)
        self.lessons = [random_lesson(shape, self.spec, seed) for seed in range(adaptations + 1)]
        self.weights = mean_weights(self.lessons[-1].mask)
        self.rounds = Rounds(self.lessons[:-1], self.lessons[-1], self.weights)
        self.reached, self.matrix = cache(self.solve), cache(self.build_matrix)
        self.outer = cache(self.differentiate)

    def linearise(self) -> Linearisation:
        return implicit_gradient.linearise(self.loop, self.params, self.rounds)

    def after(self, blocks: Blocks) -> AfterAdaptation:
        return AfterAdaptation(self.loop, self.params, self.rounds, blocks)

    def loss(self, task: int, lesson: Lesson) -> Callable[[Tensor], Tensor]:
        """Minus the mean of the surrogate over the steps of one task."""
        obs, action, old, advantage, mask = (field[task] for field in lesson)

        def loss(flat: Tensor) -> Tensor:
            log_prob = self.at(flat, obs).log_prob(action)
            ratio = self.config.inner_objective == "ratio"
            terms = torch.exp(log_prob - old) if ratio else log_prob
            return -(terms * advantage)[mask].mean()

        return loss

    def at(self, flat: Tensor, obs: Tensor) -> Distribution:
        return self.policy.distribution(trees.unflatten(flat, self.params), obs)

    def solve(self, task: int, rounds: int) -> Tensor:
        """phi of one task [P] after some rounds, by gradient steps in the weights as one vector."""
        if rounds == 0:
            return self.theta
        phi = centre = self.reached(task, rounds - 1)
        size = self.config.inner_lr * (self.config.later_lr_scale if rounds > 1 else 1.0)
        for _ in range(self.config.inner_steps):
            slope = grad(self.loss(task, self.rounds.lessons[rounds - 1]))(phi)
            phi = phi - size * (slope + self.config.regularisation * (phi - centre))
        return phi

    def solution(self, task: int) -> Tensor:
        return self.reached(task, len(self.rounds.lessons))

    def build_matrix(self, task: int, rounds: int = 1) -> Tensor:
        """I + H / (lambda + damping) [P, P] of the last of some rounds."""
        strength = self.config.regularisation + self.config.cg_damping
        loss = self.loss(task, self.rounds.lessons[rounds - 1])
        curvature: Tensor = hessian(loss)(self.reached(task, rounds))
        return torch.eye(len(self.theta)) + curvature / strength

    def jacobian(self, task: int) -> Tensor:
        """The derivative of phi by theta [P, P]."""
        product = torch.eye(len(self.theta), dtype=torch.float64)
        if self.config.first_order:
            return product
        for rounds in range(1, len(self.rounds.lessons) + 1):
            product = torch.linalg.solve(self.matrix(task, rounds), product)
        return product

    def differentiate(self, task: int) -> Tensor:
        """Derivatives of a task's distribution parameters, in a row, by phi."""

        def parameters(flat: Tensor) -> Tensor:
            return torch.cat([leaf.flatten() for leaf in self.at(flat, self.rounds.last.obs[task])])

        jacobian: Tensor = jacrev(parameters)(self.solution(task))
        return jacobian

    def pulled(self, cotangent: Distribution) -> Tensor:
        """J^T u, summed over tasks."""
        rows = [torch.cat([leaf[k].flatten() for leaf in cotangent]) for k in range(TASKS)]
        return sum(
            (self.jacobian(k).T @ self.outer(k).T @ row for k, row in enumerate(rows)),
            torch.zeros_like(self.theta),
        )

    def fisher(self, distribution: Distribution, v: Tensor) -> Tensor:
        """J^T F J v, with the Fisher information as a Hessian of the weighted KL."""
        total = torch.zeros_like(v)
        for k in range(TASKS):
            shapes = {str(i): leaf[k] for i, leaf in enumerate(distribution)}

            def divergence(flat: Tensor, k: int = k, shapes: Params = shapes) -> Tensor:
                kind = type(distribution)
                old = kind(*shapes.values())
                new = kind(*trees.unflatten(flat, shapes).values())
                return (old.kl(new) * self.weights[k]).sum()  # type: ignore[arg-type]

            metric = hessian(divergence)(trees.flatten(shapes))
            through = self.outer(k) @ self.jacobian(k)
            total += through.T @ metric @ through @ v
        return total
