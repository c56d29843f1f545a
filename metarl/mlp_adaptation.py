"""Adaptation of perceptron policies, and its derivatives, in closed form.

The letters are those of ``metarl.trust_region``. One adaptation is theta' = theta - alpha g(theta)
with g the gradient of the inner loss, so its Jacobian I - alpha H is symmetric: ``transport`` is a
product with it and serves J v and J^T u alike. H v is a Hessian-vector product through the network
(``metarl.mlp_derivatives``); what stands above the network's output, the objective or the KL
divergence, is small and differentiated automatically (``OutputSpace``).

Everything here is for a block of tasks whose activations fit in memory, with shapes as in
``metarl.adaptation``. It equals automatic differentiation of ``adaptation.adapt_stacked`` up to
rounding; tests hold the two against each other.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from metarl import mlp_derivatives, trees
from metarl.adaptation import (
    NUM_ADAPTATIONS,
    InnerConfig,
    Lesson,
    begin_stacked,
    step_sizes,
)
from metarl.distributions import Distribution, detached, kl
from metarl.networks import is_layer
from metarl.objectives import OBJECTIVES
from metarl.policies import MlpPolicy
from metarl.returns import weighted_sum
from metarl.trust_region import Linearisation
from metarl.types import Adapted, Params

OUTPUT = "network output"


class OutputSpace(NamedTuple):
    """What follows a network: its distribution as a function of the output and further weights."""

    inputs: Params
    """The network's ``OUTPUT`` [K, E, T, out], and the other weights [K, ...] by name."""
    distribution: Distribution
    """[K, E, T, ...], computed from the inputs with its graph."""

    @classmethod
    def at(cls, policy: MlpPolicy, params: Params, output: Tensor) -> "OutputSpace":
        """Start a graph at the network's output [K, E, T, out]."""
        head = {n: leaf for n, leaf in _head(params).items() if n != NUM_ADAPTATIONS}
        inputs = {OUTPUT: output} | head
        inputs = {name: leaf.detach().requires_grad_() for name, leaf in inputs.items()}
        with torch.enable_grad():
            return cls(inputs, vmap(policy.head)(_head(inputs), inputs[OUTPUT]))

    def pull(self, cotangent: Distribution) -> Params:
        """Pull a cotangent of the distribution's parameters back to the inputs."""
        return self._derivative(list(self.distribution), list(cotangent))

    def gradient(self, scalar: Callable[[Distribution], Tensor], *, twice: bool) -> Params:
        """Differentiate a scalar of the distribution by the inputs, with a graph if ``twice``."""
        with torch.enable_grad():
            return self._derivative([scalar(self.distribution)], None, create_graph=twice)

    def hessian_product(self, gradient: Params, tangent: Params) -> Params:
        """Multiply a tangent of the inputs by the Hessian of the scalar with that gradient."""
        along = [tangent[name] for name in self.inputs]
        return self._derivative(list(gradient.values()), along)

    def _derivative(
        self, of: list[Tensor], along: list[Tensor] | None, *, create_graph: bool = False
    ) -> Params:
        """Return along^T times the Jacobian by the inputs; a scalar need not depend on them all."""
        leaves = torch.autograd.grad(
            of,
            list(self.inputs.values()),
            along,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=True,
        )
        return dict(zip(self.inputs, leaves, strict=True))


class Adaptation(NamedTuple):
    """What one adaptation leaves for products with its Jacobian."""

    params: Params
    """theta, [K, ...]."""
    size: Tensor
    """alpha, [K]."""
    values: list[Tensor]
    """Of the forward pass."""
    back: mlp_derivatives.Backward
    space: OutputSpace
    slopes: Params
    """Gradient of the loss by the inputs of ``space``, with its graph."""


def adapt_block(
    policy: MlpPolicy, adapted: Adapted, lesson: Lesson, config: InnerConfig
) -> Adapted:
    """Take one policy-gradient step in each task, as ``adaptation.adapt_stacked`` does."""
    return _adapt(policy, adapted, lesson, config, twice=False)[0]


def transport(policy: MlpPolicy, adaptation: Adaptation, direction: Params) -> Params:
    """Multiply directions [K, ...] in the weights by I - alpha H, which is symmetric."""
    params, size, values, back, space, slopes = adaptation
    activation = policy.config.activation
    moved = mlp_derivatives.tangents(params, values, direction, activation)
    tangent = {OUTPUT: moved[-1].view_as(space.inputs[OUTPUT])} | _head(direction)
    bent = space.hessian_product(slopes, tangent)
    product = mlp_derivatives.backward_tangent(
        params, (values, back, moved), direction, bent[OUTPUT].flatten(1, 2), activation
    )
    return _minus(direction, product | _head(bent), size)


def _adapt(
    policy: MlpPolicy, adapted: Adapted, lesson: Lesson, config: InnerConfig, *, twice: bool
) -> tuple[Adapted, Adaptation]:
    """Take one policy-gradient step; with ``twice``, it can be differentiated."""
    params = {name: leaf for name, leaf in adapted.items() if name != NUM_ADAPTATIONS}
    activation, size = policy.config.activation, step_sizes(adapted, config)
    values, output = _forward(policy, params, lesson.obs)
    space = OutputSpace.at(policy, params, output)

    def loss(distribution: Distribution) -> Tensor:
        objective = OBJECTIVES[config.inner_objective]
        log_prob = distribution.log_prob(lesson.action)
        return -objective(log_prob, lesson.log_prob, lesson.advantage, lesson.mask).sum()

    slopes = space.gradient(loss, twice=twice)
    cotangent = slopes[OUTPUT].detach().flatten(1, 2)
    back = mlp_derivatives.backward(params, values, cotangent, activation, twice=twice)
    gradient = back.gradient | {name: leaf.detach() for name, leaf in _head(slopes).items()}
    moved = _minus(params, gradient, size) | {NUM_ADAPTATIONS: adapted[NUM_ADAPTATIONS] + 1}
    return moved, Adaptation(params, size, values, back, space, slopes)


def linearise(
    policy: MlpPolicy,
    params: Params,
    rounds: tuple[Sequence[Lesson], Lesson],
    weights: Tensor,
    config: InnerConfig,
) -> Linearisation:
    """Linearise what theta does to the distributions of a block of tasks after adaptation.

    Args:
        policy: whose weights are adapted.
        params: theta, for all tasks.
        rounds: one lesson for each adaptation, and that whose observations the result meets.
        weights: [K, E, T] of each sample of that last one in the mean KL.
        config: of the adaptation.
    """
    (lessons, last), activation = rounds, policy.config.activation
    adapted, chain = begin_stacked(params, len(last.obs)), []
    for lesson in lessons:
        adapted, step = _adapt(policy, adapted, lesson, config, twice=not config.first_order)
        chain.append(step)
    if config.first_order:
        chain = []  # I - alpha H counts as I
    values, output = _forward(policy, adapted, last.obs)
    space = OutputSpace.at(policy, adapted, output)
    fixed = detached(space.distribution)
    slopes = space.gradient(lambda new: weighted_sum(kl(fixed, new), weights), twice=True)

    def pull_output(cotangent: Params) -> Tensor:
        along = cotangent[OUTPUT].flatten(1, 2)
        back = mlp_derivatives.backward(adapted, values, along, activation)
        direction = back.gradient | _head(cotangent)
        for step in reversed(chain):
            direction = transport(policy, step, direction)
        return trees.flatten(trees.sum_over_tasks({name: direction[name] for name in params}))

    def fisher(v: Tensor) -> Tensor:
        direction = trees.stack(trees.unflatten(v, params), len(last.obs))
        for step in chain:
            direction = transport(policy, step, direction)
        moved = mlp_derivatives.tangents(adapted, values, direction, activation)[-1]
        tangent = {OUTPUT: moved.view_as(space.inputs[OUTPUT])} | _head(direction)
        return pull_output(space.hessian_product(slopes, tangent))

    return Linearisation(fixed, lambda cotangent: pull_output(space.pull(cotangent)), fisher)


def _forward(policy: MlpPolicy, params: Params, obs: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the values at obs [K, E, T, O], [K, E * T, ...], and the output [K, E, T, out]."""
    num_layers, activation = len(policy.layer_sizes) - 1, policy.config.activation
    passed = mlp_derivatives.forward(params, obs.flatten(1, 2), num_layers, activation)
    return passed.values, passed.output.view(*obs.shape[:3], -1)


def _minus(params: Params, step: Params, size: Tensor) -> Params:
    """Take steps of sizes [K] against ``step``, both with leaves [K, ...]."""
    return {
        name: torch.addcmul(leaf, size.view(-1, *[1] * (leaf.dim() - 1)), step[name], value=-1)
        for name, leaf in params.items()
    }


def _head(params: Params) -> Params:
    """Return the weights that act on the network's output."""
    return {name: leaf for name, leaf in params.items() if name != OUTPUT and not is_layer(name)}
