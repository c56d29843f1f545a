"""What is learned from whole trials: advantages, targets of values, and their spread."""

from typing import NamedTuple

import torch
from torch import Tensor

from metarl.processes import Processes
from metarl.returns import generalised_advantages

LEAST_SCALE = 0.25
"""The least number that targets of the value function are divided by, in the unit of the rewards.

Where no trial has found a reward, targets spread by 0.01 to 0.14 in the presets of RL^2 without
MuJoCo, all of it the value function's own noise. Divided by that, errors have gradients that fill
``max_gradient_norm`` for as long as no reward comes, which leaves the policy no step. Where there
are rewards, targets spread by 0.29 to 6.
"""


class Samples(NamedTuple):
    """What PPO needs of N trials of up to L steps."""

    action: Tensor
    """[N, L, A], or [N, L] int64 when discrete."""
    log_prob: Tensor
    """[N, L] nats, under the policy that acted."""
    advantage: Tensor
    """[N, L], of mean 0 and standard deviation 1 over the steps of all processes."""
    target: Tensor
    """[N, L] for the value function, standardised over the same steps."""
    mask: Tensor
    """[N, L] bool."""

    def take(self, rows: Tensor) -> "Samples":
        """Return those of some of the trials."""
        return Samples(*(field[rows] for field in self))


class Spread(NamedTuple):
    """How targets of the value function are spread, in the unit of the rewards.

    A network whose values are standardised learns at the same pace whatever that unit is.
    """

    mean: Tensor
    """[] float64."""
    deviation: Tensor
    """[] float64: the standard deviation, but not below ``LEAST_SCALE``."""

    def restore(self, value: Tensor) -> Tensor:
        """Return standardised values in the unit of the rewards."""
        return value * self.deviation.to(value) + self.mean.to(value)

    def change_to(self, new: "Spread") -> tuple[Tensor, Tensor]:
        """Return what values standardised by this one are to be multiplied with, and then added.

        They are then standardised by the new one, and say the same: van Hasselt et al. 2016
        (PopArt), proposition 1.
        """
        return self.deviation / new.deviation, (self.mean - new.mean) / new.deviation


def trial_advantages(
    reward: Tensor, value: Tensor, mask: Tensor, discount: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Estimate advantages and value targets over trials [N, L] whose steps have no gaps.

    The sums run on from an episode into the next, and end with the trial: no reward follows it, so
    the value there is 0, whether the last episode terminated or ran out of time.

    Returns:
        Advantages and targets for the value function, both [N, L] and 0 where the mask is off.
    """
    value = torch.where(mask, value, 0.0)
    following = torch.cat((value, torch.zeros_like(value[:, :1])), 1)
    never = torch.zeros_like(mask)
    advantage = generalised_advantages(reward, following, never, mask, discount, gae_lambda)
    return advantage, advantage + value


def gather(
    action: Tensor,
    log_prob: Tensor,
    estimates: tuple[Tensor, Tensor],
    mask: Tensor,
    processes: Processes,
) -> tuple[Samples, Spread]:
    """Standardise advantages and targets over the steps of all processes.

    Args:
        action: [N, L, A], or [N, L] int64 when discrete.
        log_prob: [N, L] nats, under the policy that acted.
        estimates: advantages and targets of ``trial_advantages``, [N, L], in the reward's unit.
        mask: [N, L] bool.
        processes: those that hold the other trials.

    Returns:
        The samples, standardised, and how the targets were spread, in the reward's unit.
    """
    both = torch.where(mask, torch.stack(estimates).double(), 0.0)
    steps = mask.sum().double().expand(2)
    sums = processes.total(torch.stack((both.sum((1, 2)), steps)))
    count = sums[1].clamp(min=1)
    mean = sums[0] / count
    centred = torch.where(mask, both - mean[:, None, None], 0.0)
    deviation = (processes.total((centred**2).sum((1, 2))) / count).sqrt()
    scale = torch.stack((deviation[0] + 1e-8, deviation[1].clamp(min=LEAST_SCALE)))
    advantage, target = (centred / scale[:, None, None]).to(log_prob)
    return Samples(action, log_prob, advantage, target, mask), Spread(mean[1], scale[1])
