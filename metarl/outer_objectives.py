"""What outer loops raise: functions of the distributions at one round, over all its tasks.

Each takes a lesson and the weights [K, E, T] of its samples in means over tasks and steps, and
returns a function of the distributions there, for ``metarl.linearisation.Term``.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from metarl.adaptation import Lesson
from metarl.distributions import Distribution
from metarl.returns import weighted_sum


def ratio_surrogate(lesson: Lesson, weights: Tensor) -> Callable[[Distribution], Tensor]:
    """Mean of pi(a|s) / pi_old(a|s) A (Schulman et al. 2015, equation 14)."""
    return lambda new: weighted_sum(_ratio(new, lesson) * lesson.advantage, weights)


def clipped_surrogate(
    lesson: Lesson, weights: Tensor, clip: float
) -> Callable[[Distribution], Tensor]:
    """Mean of min(r A, clip(r, 1 - clip, 1 + clip) A) with r the ratio.

    Schulman et al. 2017 (PPO), equation 7.
    """

    def value(new: Distribution) -> Tensor:
        ratio, advantage = _ratio(new, lesson), lesson.advantage
        bounded = ratio.clamp(1.0 - clip, 1.0 + clip) * advantage
        return weighted_sum(torch.minimum(ratio * advantage, bounded), weights)

    return value


def log_likelihood_surrogate(lesson: Lesson, weights: Tensor) -> Callable[[Distribution], Tensor]:
    """Mean of log pi(a|s) A: plain policy gradient."""
    return lambda new: weighted_sum(new.log_prob(lesson.action) * lesson.advantage, weights)


def _ratio(new: Distribution, lesson: Lesson) -> Tensor:
    # Steps after the end hold no action that the policy chose: their exponent may overflow.
    exponent = new.log_prob(lesson.action) - lesson.log_prob
    return torch.exp(torch.where(lesson.mask, exponent, 0.0))
