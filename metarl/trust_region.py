"""One constrained step of natural gradient (TRPO, Schulman et al. 2015, appendix C).

The letters are those of ``metarl.linearisation``, at the last round. At the old weights the Hessian
of the mean KL is J^T F J, with F the Fisher information of the distributions, so a product with it
needs one J v and one J^T u and no third derivative.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metarl import trees
from metarl.checks import COUNT, FRACTION, NON_NEGATIVE, POSITIVE, SHARE, check_fields
from metarl.distributions import Distribution, kl
from metarl.linearisation import Term, rise
from metarl.optimizers import Theta
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
    """[..., P]."""
    curvature: Tensor
    """x^T A x, [...]."""


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, iterations: int, tolerance: float = 1e-10
) -> Solution:
    """Solve A x = b for a symmetric A given by its product with vectors [..., P].

    Each vector has a matrix of its own, and its solution does not depend on the others. It is done
    once its squared residual is below ``tolerance`` times the squared norm of b, or before a
    direction along which A does not curve upwards: x is then what was found before, 0 where it was
    the first.
    """
    x, residual = torch.zeros_like(b), b.clone()
    direction, size = residual, dot(residual, residual)
    limit, open_ = tolerance * size, torch.ones_like(size, dtype=torch.bool)
    for _ in range(iterations):
        open_ = open_ & ~(size <= limit)
        if not open_.any():
            break
        image = product(direction)
        bend = dot(direction, image)
        # What is not finite goes on to the solution, where the caller sees it.
        open_ = open_ & ~(bend <= 0.0)
        going, step = open_[..., None], (size / bend)[..., None]
        x = torch.where(going, x + step * direction, x)
        residual = torch.where(going, residual - step * image, residual)
        size, old_size = dot(residual, residual), size
        turned = residual + (size / old_size)[..., None] * direction
        direction = torch.where(going, turned, direction)
    return Solution(x, dot(x, b - residual))


def trust_region_step(
    theta: Tensor,
    terms: Sequence[Term],
    config: TrustRegionConfig,
    total: Callable[[Tensor], Tensor] = lambda share: share,
) -> tuple[Tensor, Metrics]:
    """Raise a sum of terms within a ball of mean KL around the old distributions.

    The ball is one of the first term's policies. A step is accepted when the sum rises and the KL
    stays within its bound, both on the batch itself; a step to anything that is not finite fails
    both tests and is refused.

    Args:
        theta: [P].
        terms: what is to be raised.
        config: sizes of the step.
        total: adds up what each of several processes computed on its share of the tasks; the terms
            are those of this process, and all take the same step.

    Returns:
        New weights [P], the old ones where no step was accepted, and what happened.
    """
    theta, policies = theta.detach(), terms[0].policies
    step, old, metrics = _natural_gradient(theta, terms, config, total)
    metrics["train/entropy"] = float(total(weighted_sum(old.entropy(), policies.weights)))
    # Of a step that is not finite, as where there is no gradient, nothing need be tried.
    trials = config.max_backtracks if torch.isfinite(step).all() else 0
    for trial in range(trials):
        candidate = theta + config.backtrack_ratio**trial * step
        seen = [term.policies.distribution(candidate) for term in terms]
        values = [term.value(new) for term, new in zip(terms, seen, strict=True)]
        distance = weighted_sum(kl(old, seen[0]), policies.weights)
        value, mean_kl = total(torch.stack((torch.stack(values).sum(), distance))).tolist()
        gain = value - metrics["train/surrogate"]
        if 0.0 < gain < math.inf and mean_kl <= config.max_kl:
            taken = {"train/approx_kl": mean_kl, "train/surrogate_gain": gain}
            taken["train/accepted"] = 1.0
            return candidate, metrics | taken | {"train/backtracks": trial}
    kept = {"train/approx_kl": 0.0, "train/surrogate_gain": 0.0, "train/accepted": 0.0}
    return theta, metrics | kept | {"train/backtracks": trials}


def trust_region_update(
    outer: Theta,
    terms: Sequence[Term],
    config: TrustRegionConfig,
    total: Callable[[Tensor], Tensor] = lambda share: share,
) -> Metrics:
    """Take ``trust_region_step`` with the weights that ``outer`` owns, and say what happened."""
    theta, metrics = trust_region_step(trees.flatten(outer.params), terms, config, total)
    outer.params = trees.unflatten(theta, outer.params)
    return metrics


def _natural_gradient(
    theta: Tensor,
    terms: Sequence[Term],
    config: TrustRegionConfig,
    total: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Distribution, Metrics]:
    """Return the longest step within the quadratic model's trust region, and where it starts.

    What the linearisation remembers of the adaptation is given back with this frame: the line
    search needs none of it.
    """
    first, *others = terms
    value, share, (old, pull, fisher) = rise(first, theta)
    for term in others:
        more, slope = rise(term, theta)[:2]
        value, share = value + more, share + slope
    gradient = total(share).to(theta)
    if config.curvature_fraction < 1.0:
        del pull, fisher  # what it remembers makes room for that of the share
        fisher = first.policies.on_fraction(config.curvature_fraction).linearise(theta).fisher
    solution = conjugate_gradient(
        lambda v: total(fisher(v)).to(v) + config.cg_damping * v, gradient, config.cg_iterations
    )
    step = torch.sqrt(2.0 * config.max_kl / solution.curvature) * solution.x
    metrics = {
        "train/surrogate": float(total(value)),
        "train/gradient_norm": float(gradient.norm()),
    }
    return step, old, metrics
