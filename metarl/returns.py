"""Returns and advantages on tensors [..., T], under masks that hold to an episode's last step."""

from collections.abc import Callable

import torch
from torch import Tensor


def discounted_sums(x: Tensor, discount: float) -> Tensor:
    """Return y_t = sum_{s >= t} discount^(s-t) x_s for x [..., T]."""
    # Backwards in time rather than by one matrix product, whose last bits would depend on how many
    # episodes share it.
    steps = x.unbind(-1)
    sums = [steps[-1]]
    for step in reversed(steps[:-1]):
        sums.append(torch.add(step, sums[-1], alpha=discount))
    return torch.stack(sums[::-1], -1)


def generalised_advantages(
    reward: Tensor,
    value: Tensor,
    terminated: Tensor,
    mask: Tensor,
    discount: float,
    gae_lambda: float,
) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, equations 11 and 16).

    Where the MDP ended the value of what follows is 0; where only the time was up it is
    bootstrapped from ``value``. Steps after the end take no part and come out as 0.

    Args:
        reward: [..., T].
        value: [..., T+1], also of the observation after the last step.
        terminated: [..., T] bool.
        mask: [..., T] bool.
        discount: gamma.
        gae_lambda: lambda.

    Returns:
        Advantages [..., T].
    """
    next_value = torch.where(terminated, 0.0, value[..., 1:])
    error = torch.where(mask, reward + discount * next_value - value[..., :-1], 0.0)
    return discounted_sums(error, discount * gae_lambda) * mask


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Average x [..., E, T] over the steps of one task where the mask is on; 0 where none is."""
    total = torch.where(mask, x, 0.0).sum((-2, -1))
    return total / mask.sum((-2, -1)).clamp(min=1)


def weighted_sum(x: Tensor, weights: Tensor) -> Tensor:
    """Sum x [K, ...] under weights [K, ...], task by task and then over tasks.

    A sum of all at once would be split over torch's threads and depend on their number; one over
    tasks in less than float64 would depend on how they are split over processes.
    """
    return (x * weights).flatten(1).sum(1).sum(dtype=torch.float64)


def standardise_jointly(
    x: Tensor, mask: Tensor, total: Callable[[Tensor], Tensor] = lambda share: share
) -> Tensor:
    """Shift and scale x [K, E, T] to mean 0 and standard deviation 1 over the steps of all tasks.

    Unlike ``standardise`` it leaves to each task its share of what there is to gain.

    Args:
        x: of this process's tasks.
        mask: [K, E, T]: the steps that count; only they come out different from 0.
        total: adds up what each of several processes computed on its share of the tasks.
    """
    wide = torch.where(mask, x, 0.0).double()
    columns = (wide, wide.square(), mask.double())
    first, second, count = total(
        torch.stack([column.flatten(1).sum(1).sum() for column in columns])
    )
    mean = first / count.clamp(min=1)
    variance = (second / count.clamp(min=1) - mean**2).clamp(min=0)
    return torch.where(mask, (wide - mean) / (variance.sqrt() + 1e-8), 0.0).to(x)


def standardise(x: Tensor, mask: Tensor, spread: Tensor | None = None) -> Tensor:
    """Shift and scale x [..., E, T] to mean 0 and standard deviation 1 within each task.

    Only steps under the mask count, and only they come out different from 0. A ``spread`` [...] is
    divided by instead of each task's standard deviation.
    """
    mean = masked_mean(x, mask)
    spread = standard_deviation(x, mask) + 1e-8 if spread is None else spread
    return torch.where(mask, (x - mean[..., None, None]) / spread[..., None, None], 0.0)


def standard_deviation(x: Tensor, mask: Tensor) -> Tensor:
    """Return that of x [..., E, T] within each task, over the steps under the mask."""
    mean = masked_mean(x, mask)[..., None, None]
    return masked_mean((x - mean) ** 2, mask).sqrt()


def mean_of_others(
    x: Tensor, num_tasks: int, total: Callable[[Tensor], Tensor] = lambda share: share
) -> Tensor:
    """Average a number of each task, x [K], over all tasks but that one.

    What is subtracted from a task's return, or divides it, then knows nothing of the task's own
    sampling: as a control variate it leaves no bias.

    Args:
        x: [K], of this process's tasks.
        num_tasks: of all processes, at least 2.
        total: adds up what each of several processes holds.

    Returns:
        [K] in float64.
    """
    exact = x.double()
    return (total(exact.sum()) - exact) / (num_tasks - 1)
