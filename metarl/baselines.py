"""A baseline refitted to every round of every task: ridge regression on observations and time."""

import torch
from torch import Tensor

from metarl.returns import discounted_sums
from metarl.types import Trajectories


def time_features(obs: Tensor) -> Tensor:
    """Features of obs [..., T, O]: obs, its square, powers 1 to 3 of time and a constant.

    Time is counted in hundreds of steps (Duan et al. 2016, "Benchmarking deep reinforcement
    learning", supplementary section 2) and observations are clipped to +-10, as in its code;
    returns [..., T, 2 O + 4] float64.
    """
    clipped = obs.double().clamp(-10.0, 10.0)
    time = torch.arange(obs.shape[-2], device=obs.device, dtype=torch.float64) / 100.0
    powers = torch.stack((time, time**2, time**3, torch.ones_like(time)), dim=-1)
    return torch.cat((clipped, clipped**2, powers.expand(*obs.shape[:-1], 4)), dim=-1)


def linear_values(batch: Trajectories, discount: float, ridge: float) -> Tensor:
    """Fit each task's discounted returns by ridge regression and evaluate the fit everywhere.

    The target is what was collected until the time limit T, and the features hold the time: the
    fit is the value of a *finite* horizon, which at T is 0 and is set so (the fit extrapolated by
    one step would add noise as large as the returns). An episode that was cut before T is
    bootstrapped from the fit. All K normal equations are solved in one call, in float64: squared
    observations make them ill-conditioned.

    Returns:
        Values [K, E, T+1] float32.
    """
    features = time_features(batch.obs)
    size = features.shape[-1]
    target = discounted_sums(batch.reward.double() * batch.mask, discount)[..., None]
    # Two columns with the target, here and below: on some processors the last bits of a product
    # depend on the number of tasks unless its rows are a whole number of 16 bytes.
    inputs = features[:, :, :-1] * batch.mask[..., None]
    columns = torch.cat((inputs, target, torch.zeros_like(target)), -1).flatten(1, 2)
    moments = columns.mT @ columns
    gram, moment = moments[:, :size, :size], moments[:, :size, size:]
    gram.diagonal(dim1=-2, dim2=-1).add_(ridge)
    weights: Tensor = torch.linalg.solve(gram, moment)
    values = (features.flatten(1, 2) @ weights)[..., 0].reshape(batch.obs.shape[:-1])
    values[..., -1] = 0.0
    return values.to(batch.reward.dtype)
