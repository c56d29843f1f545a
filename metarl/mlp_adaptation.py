"""Adaptation of perceptron policies, and its derivatives, in closed form.

The letters are those of ``metarl.trust_region``. One adaptation is theta' = theta - alpha g(theta)
with g the gradient of the inner loss, so its Jacobian I - alpha H is symmetric: ``transport`` is a
product with it and serves J v and J^T u alike. H v is a Hessian-vector product through the network
(``metarl.mlp_derivatives``) and through the objective above it (``Inner``).

Everything here is for a block of tasks whose activations fit in memory, with shapes as in
``metarl.adaptation``. It equals automatic differentiation of ``adaptation.adapt_stacked`` up to
rounding; tests hold the two against each other.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarl import mlp_derivatives, trees
from metarl.adaptation import (
    NUM_ADAPTATIONS,
    InnerConfig,
    Lesson,
    Rounds,
    begin_stacked,
    step_sizes,
    weights_of,
)
from metarl.distributions import Distribution
from metarl.objectives import OBJECTIVES, Objective
from metarl.policies import MlpPolicy, stacked_head
from metarl.trust_region import Linearisation
from metarl.types import Adapted, Params


class Inner(NamedTuple):
    """The inner loss of a block of tasks, as a function of the distributions of its actions.

    J sums over steps what each contributes by its own log-probability, so that its second
    derivative is diagonal: with s the score of a step, gradient g s and Hessian-vector product
    g R{s} + h s (s . t).
    """

    distribution: Distribution
    """[K, E, T, ...]."""
    action: Tensor
    """[K, E, T, ...]."""
    first: Tensor
    """g: derivative of the loss by each log-probability, [K, E, T]."""
    second: Tensor | None
    """h: second derivative by each, [K, E, T]; None where it is 0 everywhere."""

    def gradient(self) -> Distribution:
        """Differentiate the loss by the distributions' parameters."""
        return _scaled(self.distribution.score(self.action), self.first)

    def hessian_product(self, tangent: Distribution) -> Distribution:
        """Multiply a tangent of the distributions' parameters by the Hessian of the loss."""
        bent: Distribution = self.distribution.score_tangent(self.action, tangent)  # type: ignore[arg-type]
        if self.second is None:
            return _scaled(bent, self.first)
        score = self.distribution.score(self.action)
        pairs = zip(score, tangent, strict=True)
        along = torch.stack([(a * b).sum(-1) for a, b in pairs]).sum(0) * self.second
        parts = zip(_scaled(bent, self.first), _scaled(score, along), strict=True)
        return type(score)(*(a + b for a, b in parts))


class Adaptation(NamedTuple):
    """What one adaptation leaves for products with its Jacobian."""

    params: Params
    """theta, [K, ...]."""
    size: Tensor
    """alpha, [K]."""
    values: list[Tensor]
    """Of the forward pass."""
    back: mlp_derivatives.Backward
    inner: Inner


def adapt_block(
    policy: MlpPolicy, adapted: Adapted, lesson: Lesson, config: InnerConfig
) -> Adapted:
    """Take one policy-gradient step in each task, as ``adaptation.adapt_stacked`` does."""
    return _adapt(policy, adapted, lesson, config, twice=False)[0]


def transport(policy: MlpPolicy, adaptation: Adaptation, direction: Params) -> Params:
    """Multiply directions [K, ...] in the weights by I - alpha H, which is symmetric."""
    params, size, values, back, inner = adaptation
    activation = policy.config.activation
    moved = mlp_derivatives.tangents(params, values, direction, activation)
    tangent = _push(policy, params, direction, moved[-1], inner.first.shape)
    output, head = _pull(policy, params, inner.hessian_product(tangent))
    product = mlp_derivatives.backward_tangent(
        params, (values, back, moved), direction, output, activation
    )
    return _minus(direction, product | head, size)


def _adapt(
    policy: MlpPolicy, adapted: Adapted, lesson: Lesson, config: InnerConfig, *, twice: bool
) -> tuple[Adapted, Adaptation]:
    """Take one policy-gradient step; with ``twice``, it can be differentiated."""
    params = weights_of(adapted)
    activation, size = policy.config.activation, step_sizes(adapted, config)
    values, distribution = _forward(policy, params, lesson.obs)
    inner = _inner(distribution, lesson, OBJECTIVES[config.inner_objective], twice=twice)
    output, head = _pull(policy, params, inner.gradient())
    back = mlp_derivatives.backward(params, values, output, activation, twice=twice)
    moved = _minus(params, back.gradient | head, size)
    moved[NUM_ADAPTATIONS] = adapted[NUM_ADAPTATIONS] + 1
    return moved, Adaptation(params, size, values, back, inner)


def _inner(
    distribution: Distribution, lesson: Lesson, objective: Objective, *, twice: bool
) -> Inner:
    with torch.enable_grad():
        log_prob = distribution.log_prob(lesson.action).requires_grad_()
        loss = -objective(log_prob, lesson.log_prob, lesson.advantage, lesson.mask).sum()
        (first,) = torch.autograd.grad(loss, log_prob, create_graph=twice)
        bends = first.requires_grad
        second = torch.autograd.grad(first.sum(), log_prob)[0] if bends else None
    return Inner(distribution, lesson.action, first.detach(), second)


def linearise(
    policy: MlpPolicy, params: Params, rounds: Rounds, config: InnerConfig
) -> Linearisation:
    """Linearise what theta does to the distributions of a block of tasks after adaptation.

    Args:
        policy: whose weights are adapted.
        params: theta, for all tasks.
        rounds: what the tasks adapt to, and what the result meets.
        config: of the adaptation.
    """
    (lessons, last, weights), activation = rounds, policy.config.activation
    adapted, chain = begin_stacked(params, len(last.obs)), []
    for lesson in lessons:
        adapted, step = _adapt(policy, adapted, lesson, config, twice=not config.first_order)
        chain.append(step)
    if config.first_order:
        chain = []  # I - alpha H counts as I
    values, distribution = _forward(policy, adapted, last.obs)

    def pull(cotangent: Distribution) -> Tensor:
        output, head = _pull(policy, adapted, cotangent)
        direction = mlp_derivatives.backward(adapted, values, output, activation).gradient | head
        for step in reversed(chain):
            direction = transport(policy, step, direction)
        return trees.flatten(trees.sum_over_tasks({name: direction[name] for name in params}))

    def fisher(v: Tensor) -> Tensor:
        direction = trees.stack(trees.unflatten(v, params), len(last.obs))
        for step in chain:
            direction = transport(policy, step, direction)
        moved = mlp_derivatives.tangents(adapted, values, direction, activation)[-1]
        tangent = _push(policy, adapted, direction, moved, weights.shape)
        return pull(_scaled(distribution.fisher_product(tangent), weights))  # type: ignore[arg-type]

    return Linearisation(distribution, pull, fisher)


def _forward(policy: MlpPolicy, params: Params, obs: Tensor) -> tuple[list[Tensor], Distribution]:
    """Return the values at obs [K, E, T, O], [K, E * T, ...], and the distributions [K, E, T]."""
    num_layers, activation = len(policy.layer_sizes) - 1, policy.config.activation
    passed = mlp_derivatives.forward(params, obs.flatten(1, 2), num_layers, activation)
    return passed.values, stacked_head(policy, params, passed.output.view(*obs.shape[:3], -1))


def _push(
    policy: MlpPolicy, params: Params, direction: Params, output: Tensor, shape: torch.Size
) -> Distribution:
    """Push a direction in weights and the output's tangent [K, E * T, out] to the distributions."""
    return policy.push_head(params, direction, output.view(*shape, -1))


def _pull(policy: MlpPolicy, params: Params, cotangent: Distribution) -> tuple[Tensor, Params]:
    """Pull a cotangent of the distributions to the output [K, E * T, out] and other weights."""
    output, head = policy.pull_head(params, cotangent)  # type: ignore[arg-type]
    return output.flatten(1, 2), head


def _scaled(distribution: Distribution, factor: Tensor) -> Distribution:
    """Multiply the parameters of each distribution by a factor [K, E, T]."""
    return type(distribution)(*(leaf * factor[..., None] for leaf in distribution))


def _minus(params: Params, step: Params, size: Tensor) -> Params:
    """Take steps of sizes [K] against ``step``, both with leaves [K, ...]."""
    return {
        name: torch.addcmul(leaf, size.view(-1, *[1] * (leaf.dim() - 1)), step[name], value=-1)
        for name, leaf in params.items()
    }
