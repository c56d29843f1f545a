"""One constrained step of natural gradient (TRPO, Schulman et al. 2015, appendix C).

The letters: theta [P] are the weights before any adaptation, ``after`` maps them to the action
distributions *after* adaptation at all observations of the last round, and J is its Jacobian. At
the old weights the Hessian of the mean KL is J^T F J, with F the Fisher information of the
distributions, so a product with it needs one J v and one J^T u and no third derivative.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.checks import COUNT, FRACTION, NON_NEGATIVE, POSITIVE, check_fields
from metarl.distributions import Distribution
from metarl.returns import weighted_sum
from metarl.trees import dot
from metarl.types import Metrics


@dataclass(frozen=True, kw_only=True)
class TrustRegionConfig:
    """The constrained outer step."""

    max_kl: float = 0.01
    """Bound of the mean KL divergence between old and new adapted policies, in nats."""
    cg_iterations: int = 10
    """Iterations of conjugate gradient."""
    cg_damping: float = 1e-5
    """Multiple of the identity added to the Fisher matrix."""
    backtrack_ratio: float = 0.8
    """Factor by which the line search shortens a refused step."""
    max_backtracks: int = 15
    """Steps that the line search tries before it keeps the old weights."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            {
                "max_kl": POSITIVE,
                "cg_iterations": COUNT,
                "cg_damping": NON_NEGATIVE,
                "backtrack_ratio": FRACTION,
                "max_backtracks": COUNT,
            },
        )


class Solution(NamedTuple):
    """What conjugate gradient found."""

    x: Tensor
    """[P]."""
    curvature: Tensor
    """Scalar x^T A x."""


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, iterations: int, tolerance: float = 1e-10
) -> Solution:
    """Solve A x = b for a positive definite A given by its product with a vector [P].

    Stops early once the squared residual is below ``tolerance`` times the squared norm of b.
    """
    x, residual = torch.zeros_like(b), b.clone()
    direction, size = residual, dot(residual, residual)
    limit = tolerance * size
    for _ in range(iterations):
        if size <= limit:
            break
        image = product(direction)
        step = size / dot(direction, image)
        x, residual = x + step * direction, residual - step * image
        size, old_size = dot(residual, residual), size
        direction = residual + (size / old_size) * direction
    return Solution(x, dot(x, b - residual))


def fisher_product(
    theta: Tensor, distribution: Distribution, weights: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return v -> J^T F J v for a distribution that was computed from ``theta`` with its graph.

    J v is taken as the derivative of u -> J^T u, which is linear: both directions then reuse one
    retained graph, where forward-mode differentiation would run the adaptation again for every v.

    Args:
        theta: [P], requires grad.
        distribution: parameters [..., A] at all samples.
        weights: [...] of each sample in the mean; 0 for steps after an episode's end.
    """
    outputs = list(distribution)
    probes = [torch.zeros_like(leaf, requires_grad=True) for leaf in outputs]
    (pullback,) = torch.autograd.grad(outputs, theta, probes, create_graph=True)
    fixed = type(distribution)(*(leaf.detach() for leaf in outputs))

    def product(v: Tensor) -> Tensor:
        tangent = torch.autograd.grad(pullback, probes, v, retain_graph=True)
        image = fixed.fisher_product(type(fixed)(*tangent))  # type: ignore[arg-type]
        weighted = [leaf * weights[..., None] for leaf in image]
        return torch.autograd.grad(outputs, theta, weighted, retain_graph=True)[0]

    return product


def trust_region_step(
    theta: Tensor,
    after: Callable[[Tensor], Distribution],
    surrogate: Callable[[Distribution], Tensor],
    weights: Tensor,
    config: TrustRegionConfig,
) -> tuple[Tensor, Metrics]:
    """Raise the surrogate within a ball of mean KL around the old distributions.

    A step is accepted when the surrogate rises and the KL stays within its bound, both on the batch
    itself; a step to anything that is not finite fails both tests and is refused.

    Args:
        theta: [P].
        after: the adapted distributions as a function of theta.
        surrogate: scalar to be raised, a function of those distributions.
        weights: [...] of each sample in the mean KL; they sum to 1.
        config: sizes of the step.

    Returns:
        New weights [P], the old ones where no step was accepted, and what happened.
    """
    step, old, metrics = _natural_gradient(theta.detach(), after, surrogate, weights, config)
    for trial in range(config.max_backtracks):
        candidate = theta + config.backtrack_ratio**trial * step
        with torch.no_grad():
            new = after(candidate)
            gain = float(surrogate(new)) - metrics["train/surrogate"]
            kl = float(weighted_sum(old.kl(new), weights))  # type: ignore[arg-type]
        if 0.0 < gain < math.inf and kl <= config.max_kl:
            taken = {"train/approx_kl": kl, "train/surrogate_gain": gain, "train/accepted": 1.0}
            return candidate, metrics | taken | {"train/backtracks": trial}
    kept = {"train/approx_kl": 0.0, "train/surrogate_gain": 0.0, "train/accepted": 0.0}
    return theta, metrics | kept | {"train/backtracks": config.max_backtracks}


def _natural_gradient(
    theta: Tensor,
    after: Callable[[Tensor], Distribution],
    surrogate: Callable[[Distribution], Tensor],
    weights: Tensor,
    config: TrustRegionConfig,
) -> tuple[Tensor, Distribution, Metrics]:
    """Return the longest step within the quadratic model's trust region, and where it starts.

    The graph that holds every activation of the adaptation is given back with this frame: the line
    search needs none of them.
    """
    theta = theta.requires_grad_()
    distribution = after(theta)
    objective = surrogate(distribution)
    (gradient,) = torch.autograd.grad(objective, theta, retain_graph=True)
    fisher = fisher_product(theta, distribution, weights)
    solution = conjugate_gradient(
        lambda v: fisher(v) + config.cg_damping * v, gradient, config.cg_iterations
    )
    step = torch.sqrt(2.0 * config.max_kl / solution.curvature) * solution.x
    old = type(distribution)(*(leaf.detach() for leaf in distribution))
    return (
        step,
        old,
        {
            "train/surrogate": float(objective.detach()),
            "train/gradient_norm": float(gradient.norm()),
            "train/entropy": float(weighted_sum(old.entropy(), weights)),
        },
    )
