"""Trials: all that a copy lives through in one meta-iteration, its rounds end to end."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.types import Trajectories


class Trials(NamedTuple):
    """N = K * E trials of up to L = (rounds * T) steps, which stand at the front without gaps."""

    obs: Tensor
    """[N, L, O], before each step."""
    action: Tensor
    """[N, L, A], or [N, L] int64 when discrete."""
    log_prob: Tensor
    """[N, L] nats, under the policy that acted."""
    reward: Tensor
    """[N, L]."""
    resumed: Tensor
    """[N, L] bool: an episode begins here that is not of the trial's first round."""
    mask: Tensor
    """[N, L] bool: there is such a step. True up to the trial's last step, then False."""


def join(rounds: Sequence[Trajectories]) -> Trials:
    """Lay the rounds of each copy end to end, without the steps that no episode reached."""
    resumed = [torch.zeros_like(batch.mask) for batch in rounds]
    for later in resumed[1:]:
        later[..., 0] = True
    mask = torch.cat([batch.mask for batch in rounds], 2).flatten(0, 1)
    # A stable sort keeps the order of the steps that remain.
    order = torch.argsort((~mask).to(torch.uint8), dim=1, stable=True)

    def laid(parts: Sequence[Tensor]) -> Tensor:
        whole = torch.cat(list(parts), 2).flatten(0, 1)
        return torch.take_along_dim(whole, order.view(*order.shape, *[1] * (whole.dim() - 2)), 1)

    return Trials(
        obs=laid([batch.obs[:, :, :-1] for batch in rounds]),
        action=laid([batch.action for batch in rounds]),
        log_prob=laid([batch.log_prob for batch in rounds]),
        reward=laid([batch.reward for batch in rounds]),
        resumed=laid(resumed),
        mask=torch.take_along_dim(mask, order, 1),
    )


def previous(x: Tensor) -> Tensor:
    """Shift x [N, L, ...] by one step: what stood at the step before, and 0 at the first."""
    return torch.cat((torch.zeros_like(x[:, :1]), x[:, :-1]), 1)
