"""Adaptation of perceptron policies, and its derivatives, in closed form.

The letters are those of ``metarl.linearisation``. One adaptation is theta' = theta - A g(theta)
with g the gradient of the inner loss and A the diagonal matrix of step sizes, so a product with its
Jacobian I - A H, or with the transpose I - H A, takes one product with the Hessian H of the inner
loss: through the network (``metarl.mlp_derivatives``) and the objective above it (``Inner``). Where
step sizes are learned, the Jacobian by them is -g.

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
    STEP_SIZE,
    InnerLoop,
    Lesson,
    Rounds,
    spread,
    step_factors,
    weights_of,
)
from metarl.distributions import Distribution
from metarl.linearisation import Linearisation
from metarl.objectives import OBJECTIVES, Objective
from metarl.policies import MlpPolicy, stacked_head
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
    sizes: Params
    """The diagonal of A for the weights that move: [K], or [K, ...] of the weight's shape."""
    factor: Tensor
    """[K] of the sizes by those that are learned."""
    gradient: Params
    """g, [K, ...]."""
    values: list[Tensor]
    """Of the forward pass."""
    back: mlp_derivatives.Backward
    inner: Inner


def adapt_block(loop: InnerLoop, policy: MlpPolicy, adapted: Adapted, lesson: Lesson) -> Adapted:
    """Take one policy-gradient step in each task, as ``adaptation.adapt_stacked`` does."""
    return _adapt(loop, policy, adapted, lesson, twice=False)[0]


def _adapt(
    loop: InnerLoop, policy: MlpPolicy, adapted: Adapted, lesson: Lesson, *, twice: bool
) -> tuple[Adapted, Adaptation]:
    """Take one policy-gradient step; with ``twice``, it can be differentiated."""
    params, sizes = weights_of(adapted), loop.step_sizes(adapted)
    objective = OBJECTIVES[loop.config.inner_objective]
    gradient, values, back, inner = _differentiate(policy, params, lesson, objective, twice=twice)
    moved = adapted | descend({name: params[name] for name in sizes}, gradient, sizes)
    moved[NUM_ADAPTATIONS] = adapted[NUM_ADAPTATIONS] + 1
    factor = step_factors(adapted, loop.config)
    return moved, Adaptation(params, sizes, factor, gradient, values, back, inner)


def loss_gradient(
    policy: MlpPolicy, params: Params, lesson: Lesson, objective: Objective
) -> Params:
    """Differentiate each task's ``adaptation.inner_loss`` by its weights [K, ...]."""
    return _differentiate(policy, params, lesson, objective, twice=False)[0]


def descend(params: Params, step: Params, sizes: Params) -> Params:
    """Take steps of given sizes, [K] or [K, ...], against ``step``; leaves are [K, ...]."""
    return {
        name: torch.addcmul(leaf, spread(sizes[name], leaf), step[name], value=-1)
        for name, leaf in params.items()
    }


def _differentiate(
    policy: MlpPolicy, params: Params, lesson: Lesson, objective: Objective, *, twice: bool
) -> tuple[Params, list[Tensor], mlp_derivatives.Backward, Inner]:
    """Return the gradient of the inner loss, and what its way through the network has left."""
    values, distribution = _forward(policy, params, lesson.obs)
    inner = _inner(distribution, lesson, objective, twice=twice)
    output, head = _pull(policy, params, inner.gradient())
    activation = policy.config.activation
    back = mlp_derivatives.backward(params, values, output, activation, twice=twice)
    return back.gradient | head, values, back, inner


def _push_through(
    policy: MlpPolicy, adaptation: Adaptation, direction: Params, *, first_order: bool
) -> Params:
    """Multiply a direction, [K, ...] in theta, by the Jacobian of an adaptation."""
    moved = dict(direction)
    if not first_order:
        product = _hessian_product(policy, adaptation, direction)
        sizes = adaptation.sizes
        moved |= descend({name: direction[name] for name in sizes}, product, sizes)
    for name, gradient in _learned(adaptation, direction):
        moved[name] = moved[name] - spread(direction[STEP_SIZE + name], gradient) * gradient
    return moved


def _pull_through(
    policy: MlpPolicy, adaptation: Adaptation, cotangent: Params, *, first_order: bool
) -> Params:
    """Multiply a cotangent, [K, ...] in theta, by the transposed Jacobian of an adaptation."""
    pulled = dict(cotangent)
    if not first_order:
        sizes = adaptation.sizes
        scaled = {
            name: spread(sizes[name], leaf) * cotangent[name]
            if name in sizes
            else torch.zeros_like(leaf)
            for name, leaf in adaptation.params.items()
        }
        product = _hessian_product(policy, adaptation, scaled)
        pulled |= {name: cotangent[name] - product[name] for name in scaled}
    for name, gradient in _learned(adaptation, cotangent):
        own, slope = cotangent[STEP_SIZE + name], cotangent[name] * gradient
        per_layer = own.dim() < slope.dim()
        pulled[STEP_SIZE + name] = own - (slope.flatten(1).sum(-1) if per_layer else slope)
    return pulled


def _learned(adaptation: Adaptation, theta: Params) -> list[tuple[str, Tensor]]:
    """Return the weights whose step sizes are learned, with g times the factor on those sizes."""
    return [
        (name, spread(adaptation.factor, adaptation.gradient[name]) * adaptation.gradient[name])
        for name in adaptation.sizes
        if STEP_SIZE + name in theta
    ]


def _hessian_product(policy: MlpPolicy, adaptation: Adaptation, direction: Params) -> Params:
    """Multiply directions [K, ...] in the weights by H."""
    params, *_, values, back, inner = adaptation
    activation = policy.config.activation
    moved = mlp_derivatives.tangents(params, values, direction, activation)
    tangent = _push(policy, params, direction, moved[-1], inner.first.shape)
    output, head = _pull(policy, params, inner.hessian_product(tangent))
    product = mlp_derivatives.backward_tangent(
        params, (values, back, moved), direction, output, activation
    )
    return product | head


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


def linearise(loop: InnerLoop, policy: MlpPolicy, theta: Params, rounds: Rounds) -> Linearisation:
    """Linearise what theta does to the distributions of a block of tasks after adaptation.

    Args:
        loop: the adaptation.
        policy: the loop's, whose weights are adapted.
        theta: for all tasks.
        rounds: what the tasks adapt to, and what the result meets.
    """
    (lessons, last, weights), activation = rounds, policy.config.activation
    adapted, chain, first_order = loop.begin(theta, len(last.obs)), [], loop.config.first_order
    for lesson in lessons:
        adapted, step = _adapt(loop, policy, adapted, lesson, twice=not first_order)
        chain.append(step)
    values, distribution = _forward(policy, adapted, last.obs)

    def pull(cotangent: Distribution) -> Tensor:
        output, head = _pull(policy, adapted, cotangent)
        direction = {name: torch.zeros_like(adapted[name]) for name in theta}
        direction |= mlp_derivatives.backward(adapted, values, output, activation).gradient | head
        for step in reversed(chain):
            direction = _pull_through(policy, step, direction, first_order=first_order)
        return trees.flatten(trees.sum_over_tasks({name: direction[name] for name in theta}))

    def fisher(v: Tensor) -> Tensor:
        direction = trees.stack(trees.unflatten(v, theta), len(last.obs))
        for step in chain:
            direction = _push_through(policy, step, direction, first_order=first_order)
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
