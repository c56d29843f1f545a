"""The inner loss as a function of the distributions of a block's actions, and its derivatives."""

from typing import NamedTuple

import torch
from torch import Tensor

from metarl.adaptation import Lesson
from metarl.distributions import Distribution, scaled
from metarl.objectives import Objective


class Inner(NamedTuple):
    """The inner loss of a block of tasks, as a function of the distributions of its actions.

    A separable J sums over steps what each contributes by its own log-probability, so that its
    second derivative is diagonal: with s the score of a step, gradient g s and Hessian-vector
    product g R{s} + h s (s . t).
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
        return scaled(self.distribution.score(self.action), self.first)

    def hessian_product(self, tangent: Distribution) -> Distribution:
        """Multiply a tangent of the distributions' parameters by the Hessian of the loss."""
        bent: Distribution = self.distribution.score_tangent(self.action, tangent)  # type: ignore[arg-type]
        if self.second is None:
            return scaled(bent, self.first)
        score = self.distribution.score(self.action)
        pairs = zip(score, tangent, strict=True)
        along = torch.stack([(a * b).sum(-1) for a, b in pairs]).sum(0) * self.second
        parts = zip(scaled(bent, self.first), scaled(score, along), strict=True)
        return type(score)(*(a + b for a, b in parts))


def inner_of(
    distribution: Distribution, lesson: Lesson, objective: Objective, *, twice: bool
) -> Inner:
    """Differentiate the loss by the log-probabilities of a block's actions.

    Without ``twice`` there is no second derivative.
    """
    with torch.enable_grad():
        log_prob = distribution.log_prob(lesson.action).requires_grad_()
        loss = -objective(log_prob, lesson.log_prob, lesson.advantage, lesson.mask).sum()
        (first,) = torch.autograd.grad(loss, log_prob, create_graph=twice)
        bends = first.requires_grad
        second = torch.autograd.grad(first.sum(), log_prob)[0] if bends else None
    return Inner(distribution, lesson.action, first.detach(), second)
