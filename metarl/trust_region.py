"""One constrained step of natural gradient (TRPO, Schulman et al. 2015, appendix C).

The letters: theta [P] are the weights before any adaptation, ``after`` maps them to the action
distributions *after* adaptation at all observations of the last round, and J is its Jacobian. At
the old weights the Hessian of the mean KL is J^T F J, with F the Fisher information of the
distributions, so a product with it needs one J v and one J^T u and no third derivative.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metarl.checks import COUNT, FRACTION, NON_NEGATIVE, POSITIVE, SHARE, check_fields
from metarl.distributions import Distribution, detached, kl
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
    curvature_fraction: float = 1.0
    """Share of the tasks, evenly spread, on which the Fisher matrix is estimated."""
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
                "curvature_fraction": SHARE,
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

    def on_fraction(self, fraction: float) -> "AdaptedPolicies":
        """Return the same of a share of the tasks, weighted so that it stands for all."""
        ...

    def distribution(self, theta: Tensor) -> Distribution:
        """Return the action distributions [K, E, T, ...], without a graph."""
        ...

    def linearise(self, theta: Tensor) -> Linearisation:
        """Return them with the products that a step from theta needs."""
        ...


def linearise(
    after: Callable[[Tensor], Distribution], theta: Tensor, weights: Tensor
) -> Linearisation:
    """Linearise any differentiable function of theta, by automatic differentiation.

    J v is taken as the derivative of u -> J^T u, which is linear: both directions then reuse one
    retained graph, where forward-mode differentiation would run the adaptation again for every v.

    Args:
        after: theta [P] to distributions with parameters [..., A] at all samples.
        theta: [P].
        weights: [...] of each sample in the mean; 0 for steps after an episode's end.
    """
    with torch.enable_grad():
        theta = theta.detach().requires_grad_()
        distribution = after(theta)
        outputs = list(distribution)
        probes = [torch.zeros_like(leaf, requires_grad=True) for leaf in outputs]
        (pullback,) = torch.autograd.grad(outputs, theta, probes, create_graph=True)
    fixed = detached(distribution)

    def pull(cotangent: Distribution) -> Tensor:
        return torch.autograd.grad(outputs, theta, list(cotangent), retain_graph=True)[0]

    def fisher(v: Tensor) -> Tensor:
        tangent = torch.autograd.grad(pullback, probes, v, retain_graph=True)
        image = fixed.fisher_product(type(fixed)(*tangent))  # type: ignore[arg-type]
        return pull(type(fixed)(*(leaf * weights[..., None] for leaf in image)))

    return Linearisation(fixed, pull, fisher)


def trust_region_step(
    theta: Tensor,
    policies: AdaptedPolicies,
    surrogate: Callable[[Distribution], Tensor],
    weights: Tensor,
    config: TrustRegionConfig,
    total: Callable[[Tensor], Tensor] = lambda share: share,
) -> tuple[Tensor, Metrics]:
    """Raise the surrogate within a ball of mean KL around the old distributions.

    A step is accepted when the surrogate rises and the KL stays within its bound, both on the batch
    itself; a step to anything that is not finite fails both tests and is refused.

    Args:
        theta: [P].
        policies: the adapted distributions as a function of theta.
        surrogate: scalar to be raised, a function of those distributions.
        weights: [...] of each sample in the mean KL; they sum to 1.
        config: sizes of the step.
        total: adds up what each of several processes computed on its share of the tasks; policies,
            surrogate and weights are those of this process, and all take the same step.

    Returns:
        New weights [P], the old ones where no step was accepted, and what happened.
    """
    theta = theta.detach()
    step, old, metrics = _natural_gradient(theta, policies, surrogate, config, total)
    metrics["train/entropy"] = float(total(weighted_sum(old.entropy(), weights)))
    for trial in range(config.max_backtracks):
        candidate = theta + config.backtrack_ratio**trial * step
        new = policies.distribution(candidate)
        shares = torch.stack((surrogate(new), weighted_sum(kl(old, new), weights)))
        value, mean_kl = total(shares).tolist()
        gain = value - metrics["train/surrogate"]
        if 0.0 < gain < math.inf and mean_kl <= config.max_kl:
            taken = {"train/approx_kl": mean_kl, "train/surrogate_gain": gain}
            taken["train/accepted"] = 1.0
            return candidate, metrics | taken | {"train/backtracks": trial}
    kept = {"train/approx_kl": 0.0, "train/surrogate_gain": 0.0, "train/accepted": 0.0}
    return theta, metrics | kept | {"train/backtracks": config.max_backtracks}


def _natural_gradient(
    theta: Tensor,
    policies: AdaptedPolicies,
    surrogate: Callable[[Distribution], Tensor],
    config: TrustRegionConfig,
    total: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Distribution, Metrics]:
    """Return the longest step within the quadratic model's trust region, and where it starts.

    What the linearisation remembers of the adaptation is given back with this frame: the line
    search needs none of it.
    """
    old, pull, fisher = policies.linearise(theta)
    leaves = [leaf.clone().requires_grad_() for leaf in old]
    with torch.enable_grad():
        value = surrogate(type(old)(*leaves))
        slopes = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    gradient = total(pull(type(old)(*slopes))).to(theta)
    if config.curvature_fraction < 1.0:
        del pull, fisher  # what they remember makes room for that of the share
        fisher = policies.on_fraction(config.curvature_fraction).linearise(theta).fisher
    solution = conjugate_gradient(
        lambda v: total(fisher(v)).to(v) + config.cg_damping * v, gradient, config.cg_iterations
    )
    step = torch.sqrt(2.0 * config.max_kl / solution.curvature) * solution.x
    metrics = {
        "train/surrogate": float(total(value.detach())),
        "train/gradient_norm": float(gradient.norm()),
    }
    return step, old, metrics
