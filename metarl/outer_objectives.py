"""What outer loops raise: functions of the distributions at one round, over all its tasks.

Each takes what was sampled there, a lesson [K, E, T, ...], mostly with the weights [K, E, T] of the
samples in means over tasks and steps, and returns a function of the distributions, for
``metarl.linearisation.Term``.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vmap

from metarl.adaptation import Lesson
from metarl.distributions import Distribution, kl
from metarl.objectives import clipped, log_ratio, sampling_credit
from metarl.returns import weighted_sum


def ratio_surrogate(lesson: Lesson, weights: Tensor) -> Callable[[Distribution], Tensor]:
    """Return the mean [] of pi(a|s) / pi_old(a|s) A (Schulman et al. 2015, equation 14).

    In the unit of the advantages. At pi = pi_old its gradient is the policy gradient; elsewhere it
    drops the ratios of the steps before each.
    """
    return lambda new: weighted_sum(_ratio(new, lesson) * lesson.advantage, weights)


def clipped_surrogate(
    lesson: Lesson, weights: Tensor, clip: float
) -> Callable[[Distribution], Tensor]:
    """Return the mean [] of min(r A, clip(r, 1 - clip, 1 + clip) A), r = pi(a|s) / pi_old(a|s).

    Schulman et al. 2017 (PPO), equation 7. Drops the gradient of samples whose ratio is beyond the
    range already (``metarl.objectives.clipped``).
    """

    def value(new: Distribution) -> Tensor:
        return weighted_sum(clipped(_ratio(new, lesson), lesson.advantage, clip), weights)

    return value


def log_likelihood_surrogate(lesson: Lesson, weights: Tensor) -> Callable[[Distribution], Tensor]:
    """Return the mean [] of log pi(a|s) A, nats times the unit of A: plain policy gradient.

    A policy gradient where the policy is the one that acted, and nowhere else.
    """
    return lambda new: weighted_sum(new.log_prob(lesson.action) * lesson.advantage, weights)


def kl_penalty(
    old: Distribution, weights: Tensor, coefficient: float
) -> Callable[[Distribution], Tensor]:
    """Return minus the coefficient times the mean [] of KL(old || new) in nats.

    ``old`` [K, E, T] is a constant; value and gradient are 0 where the new ones equal it.
    """
    return lambda new: -coefficient * weighted_sum(kl(old, new), weights)


def sampling_credits(lesson: Lesson, credit: Tensor) -> Callable[[Distribution], Tensor]:
    """Return the sum [] over tasks of ``metarl.objectives.sampling_credit``.

    The credit [K] of each task is in the unit that the sum shall have; no weights, since whole
    episodes count.
    """

    def value(new: Distribution) -> Tensor:
        log_prob = new.log_prob(lesson.action)
        of_task = vmap(sampling_credit)(log_prob, lesson.log_prob, lesson.mask, credit)
        return of_task.sum(dtype=torch.float64)

    return value


def _ratio(new: Distribution, lesson: Lesson) -> Tensor:
    return torch.exp(log_ratio(new.log_prob(lesson.action), lesson.log_prob, lesson.mask))
