"""Policies as a differentiable function of theta, and what an outer step asks of them.

The letters: theta [P] are the weights before any adaptation, ``after`` maps them to the action
distributions *after* adaptation at all observations of one round, and J is its Jacobian.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metarl.distributions import Distribution, detached, scaled


class Linearisation(NamedTuple):
    """The adapted policies at theta, and the products with their Jacobian."""

    distribution: Distribution
    """[K, E, T, ...], without a graph."""
    pull: Callable[[Distribution], Tensor]
    """u -> J^T u: a cotangent of the distribution's parameters to a vector [P]."""
    fisher: Callable[[Tensor], Tensor]
    """v -> J^T F J v, both [P], with the samples weighted as the constraint weights them.

    Sums over tasks may come in float64, in which they do not show how the tasks were split.
    """


class AdaptedPolicies(Protocol):
    """The policies after adaptation, as a function of theta [P]."""

    @property
    def weights(self) -> Tensor:
        """[K, E, T] of each sample in means over tasks and steps."""
        ...

    def on_fraction(self, fraction: float) -> "AdaptedPolicies":
        """Return the same of a share of the tasks, weighted so that it stands for all."""
        ...

    def distribution(self, theta: Tensor) -> Distribution:
        """Return the action distributions [K, E, T, ...], without a graph."""
        ...

    def linearise(self, theta: Tensor) -> Linearisation:
        """Return them with the products that a step from theta needs."""
        ...


class Term(NamedTuple):
    """One part of an outer objective, which is a sum of such: it sees the policies at one round."""

    policies: AdaptedPolicies
    value: Callable[[Distribution], Tensor]
    """Scalar to be raised, a function of their distributions."""


class Rise(NamedTuple):
    """What one process's share of the tasks says of a term at theta."""

    value: Tensor
    """Scalar."""
    gradient: Tensor
    """[P]; sums over tasks may come in float64."""
    linearisation: Linearisation


def linearise(
    after: Callable[[Tensor], Distribution], theta: Tensor, weights: Tensor
) -> Linearisation:
    """Linearise any differentiable function of theta, by automatic differentiation.

    J v is taken as the derivative of u -> J^T u, which is linear: both directions then reuse one
    retained graph, where forward-mode differentiation would run the adaptation again for every v.
    Where a parameter of the distributions does not depend on theta, its part of J is 0.

    Args:
        after: theta [P] to distributions with parameters [..., A] at all samples.
        theta: [P].
        weights: [...] of each sample in the mean; 0 for steps after an episode's end.
    """
    with torch.enable_grad():
        theta = theta.detach().requires_grad_()
        distribution = after(theta)
        # A parameter that is constant has no graph to pull through: theta gives it one of slope 0.
        outputs = [
            leaf if leaf.requires_grad else leaf + 0.0 * theta.sum() for leaf in distribution
        ]
        probes = [torch.zeros_like(leaf, requires_grad=True) for leaf in outputs]
        (pullback,) = torch.autograd.grad(outputs, theta, probes, create_graph=True)
    fixed = detached(distribution)

    def pull(cotangent: Distribution) -> Tensor:
        return torch.autograd.grad(outputs, theta, list(cotangent), retain_graph=True)[0]

    def fisher(v: Tensor) -> Tensor:
        tangent = torch.autograd.grad(pullback, probes, v, retain_graph=True)
        image = fixed.fisher_product(type(fixed)(*tangent))  # type: ignore[arg-type]
        return pull(scaled(image, weights))

    return Linearisation(fixed, pull, fisher)


def rise(term: Term, theta: Tensor) -> Rise:
    """Differentiate a term at theta [P]: J^T times its slope in the distributions' parameters."""
    linearisation = term.policies.linearise(theta)
    old = linearisation.distribution
    leaves = [leaf.clone().requires_grad_() for leaf in old]
    with torch.enable_grad():
        value = term.value(type(old)(*leaves))
        slopes = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return Rise(value.detach(), linearisation.pull(type(old)(*slopes)), linearisation)


def sum_of_rises(
    terms: Sequence[Term], theta: Tensor, total: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Differentiate a sum of terms over the tasks of all processes.

    Returns:
        Its value, and its gradient [P].
    """
    parts = [rise(term, theta)[:2] for term in terms]
    value, gradient = (torch.stack(column).sum(0) for column in zip(*parts, strict=True))
    return total(value), total(gradient).to(theta)
