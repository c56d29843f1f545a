"""Outer steps by an optimiser such as Adam, along the gradient of a sum of terms."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metarl import trees
from metarl.distributions import Distribution, kl
from metarl.linearisation import Term, sum_of_rises
from metarl.optimizers import MetaOptimizer
from metarl.returns import weighted_sum
from metarl.types import Metrics


def ascend(
    optimizer: MetaOptimizer,
    terms: Sequence[Term],
    steps: int,
    total: Callable[[Tensor], Tensor] = lambda share: share,
) -> Metrics:
    """Take gradient steps up a sum of terms, all on the same experience.

    A step along a gradient that is not finite is left out and counted.

    Args:
        optimizer: owns theta.
        terms: what is to be raised; the reported divergence is that of the first one's policies.
        steps: at least 1.
        total: adds up what each of several processes computed on its share of the tasks.

    Returns:
        What happened: the surrogate before the first step, what the steps gained, the mean KL from
        the old adapted policies to the new ones, the norm of the first gradient.
    """
    old = terms[0].policies.distribution(trees.flatten(optimizer.params))
    values, norms, skipped = [], [], 0
    for _ in range(steps):
        value, gradient = sum_of_rises(terms, trees.flatten(optimizer.params), total)
        values.append(float(value))
        norms.append(float(gradient.norm()))
        if torch.isfinite(gradient).all():
            optimizer.step(trees.unflatten(-gradient, optimizer.params))
        else:
            skipped += 1
    metrics = {"train/gradient_norm": norms[0], "train/skipped_steps": float(skipped)}
    return metrics | _outcome(optimizer, terms, old, values[0], total)


def _outcome(
    optimizer: MetaOptimizer,
    terms: Sequence[Term],
    old: Distribution,
    before: float,
    total: Callable[[Tensor], Tensor],
) -> Metrics:
    """Say where the steps led."""
    theta, weights = trees.flatten(optimizer.params), terms[0].policies.weights
    seen = [term.policies.distribution(theta) for term in terms]
    reached = torch.stack([term.value(new) for term, new in zip(terms, seen, strict=True)]).sum()
    means = [weighted_sum(x, weights) for x in (kl(old, seen[0]), old.entropy())]
    after, mean_kl, entropy = total(torch.stack((reached, *means))).tolist()
    return {
        "train/surrogate": before,
        "train/surrogate_gain": after - before,
        "train/approx_kl": mean_kl,
        "train/entropy": entropy,
    }
