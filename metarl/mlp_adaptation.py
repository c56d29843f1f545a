"""Adaptation of perceptron policies, and its derivatives, in closed form.

The letters are those of ``metarl.linearisation``. One adaptation is theta' = theta - A g(theta)
with g the gradient of the inner loss and A the diagonal matrix of step sizes, so a product with its
Jacobian I - A H, or with the transpose I - H A, takes one product with the Hessian H of the inner
loss: through the network (``metarl.mlp_derivatives``) and the objective above it
(``metarl.inner_loss``). Where step sizes are learned, the Jacobian by them is -g.

Everything here is for a block of tasks whose activations fit in memory, with shapes as in
``metarl.adaptation``. It equals automatic differentiation of ``adaptation.adapt_stacked`` up to
rounding; tests hold the two against each other.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor
from torch.func import grad, vmap

from metarl import context, mlp_derivatives, trees
from metarl.adaptation import (
    NUM_ADAPTATIONS,
    STEP_SIZE,
    InnerConfig,
    InnerLoop,
    Lesson,
    Rounds,
    inner_loss,
    spread,
    step_factors,
    weights_of,
)
from metarl.distributions import Distribution, scaled
from metarl.inner_loss import Inner, inner_of
from metarl.linearisation import Linearisation
from metarl.objectives import OBJECTIVES, SEPARABLE, Objective
from metarl.policies import MlpPolicy, Policy, stacked_head
from metarl.types import Adapted, Params


class InnerGradient(NamedTuple):
    """The gradient of the inner loss, and what it leaves for products with H."""

    params: Params
    """theta, [K, ...]."""
    gradient: Params
    """g, [K, ...]."""
    values: list[Tensor]
    """Of the forward pass."""
    back: mlp_derivatives.Backward
    inner: Inner


class Adaptation(NamedTuple):
    """What one adaptation leaves for products with its Jacobian."""

    start: InnerGradient
    sizes: Params
    """The diagonal of A for the weights that move: [K], or [K, ...] of the weight's shape."""
    factor: Tensor
    """[K] of the sizes by those that are learned."""


class PoliciesAt(NamedTuple):
    """The policies of K tasks at the observations of a round, by their weights."""

    distribution: Distribution
    """[K, E, T, ...]."""
    push: Callable[[Params], Distribution]
    """A direction in weights, [K, ...], to the tangent of the distributions' parameters."""
    pull: Callable[[Distribution], Params]
    """A cotangent of these to one of the weights, [K, ...]."""


def has_closed_form(policy: Policy, config: InnerConfig) -> TypeGuard[MlpPolicy]:
    """Tell whether an adaptation can be differentiated here."""
    return isinstance(policy, MlpPolicy) and config.inner_objective in SEPARABLE


def adapt_block(loop: InnerLoop, policy: MlpPolicy, adapted: Adapted, lesson: Lesson) -> Adapted:
    """Take one policy-gradient step in each task, as ``adaptation.adapt_stacked`` does."""
    return _adapt(loop, policy, adapted, lesson, twice=False)[0]


def _adapt(
    loop: InnerLoop, policy: MlpPolicy, adapted: Adapted, lesson: Lesson, *, twice: bool
) -> tuple[Adapted, Adaptation]:
    """Take one policy-gradient step; with ``twice``, it can be differentiated."""
    params, sizes = weights_of(adapted), loop.step_sizes(adapted)
    objective = OBJECTIVES[loop.config.inner_objective]
    start = inner_gradient(policy, params, lesson, objective, twice=twice)
    moved = adapted | descend({name: params[name] for name in sizes}, start.gradient, sizes)
    moved[NUM_ADAPTATIONS] = adapted[NUM_ADAPTATIONS] + 1
    return moved, Adaptation(start, sizes, step_factors(adapted, loop.config))


def descend(params: Params, step: Params, sizes: Params) -> Params:
    """Take steps of given sizes, [K] or [K, ...], against ``step``; leaves are [K, ...]."""
    return {
        name: torch.addcmul(leaf, spread(sizes[name], leaf), step[name], value=-1)
        for name, leaf in params.items()
    }


def inner_gradient(
    policy: MlpPolicy, params: Params, lesson: Lesson, objective: Objective, *, twice: bool
) -> InnerGradient:
    """Differentiate each task's ``adaptation.inner_loss`` by its weights.

    Args:
        policy: a perceptron.
        params: its weights in each task, [K, ...].
        lesson: [K, E, T, ...].
        objective: any; with ``twice``, one of those in ``objectives.SEPARABLE``.
        twice: whether the result is to serve ``hessian_product``, for which it then holds more.

    Returns:
        The gradient [K, ...], in the unit of the objective, and what was computed on the way.
    """
    values, distribution = _forward(policy, params, lesson.obs)
    inner = inner_of(distribution, lesson, objective, twice=twice)
    output, head = _pull(policy, params, inner.gradient())
    activation = policy.config.activation
    back = mlp_derivatives.backward(params, values, output, activation, twice=twice)
    gradient = context.gradient(params, back.gradient) | head
    return InnerGradient(params, gradient, values, back, inner)


def loss_gradient(policy: Policy, params: Params, lesson: Lesson, objective: Objective) -> Params:
    """Differentiate each task's inner loss, of any policy, by its weights [K, ...]."""
    if isinstance(policy, MlpPolicy):
        return inner_gradient(policy, params, lesson, objective, twice=False).gradient

    def loss(one: Params, part: Lesson) -> Tensor:
        return inner_loss(policy, one, part, objective)

    with torch.no_grad():
        gradient: Params = vmap(grad(loss))(params, lesson)
    return gradient


def _push_through(
    policy: MlpPolicy, adaptation: Adaptation, direction: Params, *, first_order: bool
) -> Params:
    """Multiply a direction, [K, ...] in theta, by the Jacobian of an adaptation."""
    moved = dict(direction)
    if not first_order:
        product = hessian_product(policy, adaptation.start, direction)
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
        sized = {
            name: spread(sizes[name], leaf) * cotangent[name]
            if name in sizes
            else torch.zeros_like(leaf)
            for name, leaf in adaptation.start.params.items()
        }
        product = hessian_product(policy, adaptation.start, sized)
        pulled |= {name: cotangent[name] - product[name] for name in sized}
    for name, gradient in _learned(adaptation, cotangent):
        own, slope = cotangent[STEP_SIZE + name], cotangent[name] * gradient
        per_layer = own.dim() < slope.dim()
        pulled[STEP_SIZE + name] = own - (slope.flatten(1).sum(-1) if per_layer else slope)
    return pulled


def _learned(adaptation: Adaptation, theta: Params) -> list[tuple[str, Tensor]]:
    """Return the weights whose step sizes are learned, with g times the factor on those sizes."""
    gradient = adaptation.start.gradient
    return [
        (name, spread(adaptation.factor, gradient[name]) * gradient[name])
        for name in adaptation.sizes
        if STEP_SIZE + name in theta
    ]


def hessian_product(policy: MlpPolicy, start: InnerGradient, direction: Params) -> Params:
    """Multiply directions [K, ...] in the weights by H."""
    params, _, values, back, inner = start
    activation = policy.config.activation
    of_layers = context.absorbed_tangent(params, direction)
    moved = mlp_derivatives.tangents(params, values, of_layers, activation)
    tangent = _push(policy, params, direction, moved[-1], inner.first.shape)
    output, head = _pull(policy, params, inner.hessian_product(tangent))
    product = mlp_derivatives.backward_tangent(
        params, (values, back, moved), of_layers, output, activation
    )
    return context.gradient_tangent(params, direction, back.gradient, product) | head


def linearise(loop: InnerLoop, policy: MlpPolicy, theta: Params, rounds: Rounds) -> Linearisation:
    """Linearise what theta does to the distributions of a block of tasks after adaptation.

    Args:
        loop: the adaptation.
        policy: the loop's, whose weights are adapted.
        theta: for all tasks.
        rounds: what the tasks adapt to, and what the result meets.
    """
    assert has_closed_form(policy, loop.config), loop.config.inner_objective
    lessons, last, weights = rounds
    adapted, chain, first_order = loop.begin(theta, len(last.obs)), [], loop.config.first_order
    for lesson in lessons:
        adapted, step = _adapt(loop, policy, adapted, lesson, twice=not first_order)
        chain.append(step)
    after = policies_at(policy, adapted, last.obs)

    def pull(cotangent: Distribution) -> Tensor:
        direction = {name: torch.zeros_like(adapted[name]) for name in theta}
        direction |= after.pull(cotangent)
        for step in reversed(chain):
            direction = _pull_through(policy, step, direction, first_order=first_order)
        return trees.flatten(trees.sum_over_tasks({name: direction[name] for name in theta}))

    def fisher(v: Tensor) -> Tensor:
        direction = {name: torch.zeros_like(adapted[name]) for name in loop.fresh}
        direction |= trees.stack(trees.unflatten(v, theta), len(last.obs))
        for step in chain:
            direction = _push_through(policy, step, direction, first_order=first_order)
        image = after.distribution.fisher_product(after.push(direction))  # type: ignore[arg-type]
        return pull(scaled(image, weights))

    return Linearisation(after.distribution, pull, fisher)


def policies_at(policy: MlpPolicy, stacked: Params, obs: Tensor) -> PoliciesAt:
    """Return the policies of K tasks at obs [K, E, T, O], and their derivatives."""
    activation = policy.config.activation
    values, distribution = _forward(policy, stacked, obs)

    def push(direction: Params) -> Distribution:
        of_layers = context.absorbed_tangent(stacked, direction)
        moved = mlp_derivatives.tangents(stacked, values, of_layers, activation)[-1]
        return _push(policy, stacked, direction, moved, obs.shape[:3])

    def pull(cotangent: Distribution) -> Params:
        output, head = _pull(policy, stacked, cotangent)
        of_layers = mlp_derivatives.backward(stacked, values, output, activation).gradient
        return context.gradient(stacked, of_layers) | head

    return PoliciesAt(distribution, push, pull)


def _forward(policy: MlpPolicy, params: Params, obs: Tensor) -> tuple[list[Tensor], Distribution]:
    """Return the values at obs [K, E, T, O], [K, E * T, ...], and the distributions [K, E, T]."""
    num_layers, activation = len(policy.layer_sizes) - 1, policy.config.activation
    weights = context.absorbed(params)
    passed = mlp_derivatives.forward(weights, obs.flatten(1, 2), num_layers, activation)
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
