"""Proximal policy optimisation (Schulman et al. 2017) over whole trials of policies with memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor

from metarl import trees
from metarl.annealing import anneal
from metarl.checks import (
    COUNT,
    COUNT_OR_ZERO,
    FRACTION,
    NON_NEGATIVE,
    POSITIVE,
    UNIT,
    check_fields,
    fault_in_choice,
)
from metarl.distributions import Distribution
from metarl.objectives import clipped, log_ratio
from metarl.optimizers import MetaOptimizer
from metarl.processes import Processes
from metarl.returns import generalised_advantages
from metarl.seeding import Streams
from metarl.types import Metrics, Params

PpoOptimizerName: TypeAlias = Literal["adam", "muon"]


@dataclass(frozen=True, kw_only=True)
class PpoConfig:
    """PPO with minibatches of whole trials."""

    discount: float = 0.99
    """gamma, also from the end of an episode to the start of the next in its trial."""
    raise_discount: tuple[int, int] = (0, 0)
    """Meta-iterations between which the discount rises linearly from 0; before the first of them it
    is 0, from the second on ``discount``. With 0 0 it is that from the start."""
    gae_lambda: float = 0.95
    """lambda of generalised advantage estimation."""
    clip: float = 0.2
    """epsilon: beyond 1 +- epsilon a ratio of probabilities earns nothing more."""
    epochs: int = 10
    """Passes through the trials of one meta-iteration."""
    minibatches: int = 4
    """Steps of the optimiser in one pass."""
    optimizer: PpoOptimizerName = "adam"
    """What takes the steps: Adam, or Muon on matrices of weights and Adam on the rest."""
    learning_rate: float = 1e-3
    """Step size."""
    anneal_over: int = 0
    """Meta-iterations over which the step size goes linearly to 0, where learning ends; 0 leaves it
    as it is."""
    entropy_coefficient: float = 0.02
    """Weight of the policy's entropy, in nats, in the objective."""
    anneal_entropy_over: int = 0
    """Meta-iterations over which that weight goes linearly to 0; 0 leaves it as it is."""
    value_coefficient: float = 0.5
    """Weight of the value function's squared error, as a share of the variance of its targets."""
    max_gradient_norm: float = 0.5
    """Gradients that are longer are scaled down to this Euclidean norm."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            {
                "discount": UNIT,
                "gae_lambda": UNIT,
                "clip": FRACTION,
                "epochs": COUNT,
                "minibatches": COUNT,
                "learning_rate": POSITIVE,
                "anneal_over": COUNT_OR_ZERO,
                "entropy_coefficient": NON_NEGATIVE,
                "anneal_entropy_over": COUNT_OR_ZERO,
                "value_coefficient": NON_NEGATIVE,
                "max_gradient_norm": POSITIVE,
            },
            fault_in_choice(self, "optimizer", get_args(PpoOptimizerName)),
            None
            if 0 <= self.raise_discount[0] <= self.raise_discount[1]
            else f"{type(self).__name__}.raise_discount must be two meta-iterations, the later one"
            f" last, got {self.raise_discount}",
        )

    def discount_at(self, updates_done: int) -> float:
        """Return gamma in the next meta-iteration."""
        first, last = self.raise_discount
        if updates_done >= last:
            return self.discount
        return self.discount * max(updates_done - first, 0) / max(last - first, 1)

    def step_size(self, updates_done: int) -> float:
        """Return the step size in the next meta-iteration."""
        return anneal(self.learning_rate, 0.0, updates_done, self.anneal_over)

    def entropy_weight(self, updates_done: int) -> float:
        """Return the weight of the entropy in the next meta-iteration."""
        return anneal(self.entropy_coefficient, 0.0, updates_done, self.anneal_entropy_over)

    def fault_in_trials(self, trials: int) -> str | None:
        """Say that there are fewer trials than a pass has minibatches, where there are."""
        if trials >= self.minibatches:
            return None
        return (
            f"{type(self).__name__}.minibatches={self.minibatches} needs as many trials,"
            f" tasks_per_update times episodes, got {trials}"
        )


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


Judge: TypeAlias = Callable[[Params, Tensor], tuple[Distribution, Tensor]]
"""(weights, rows [M] of trials) to distributions and standardised values [M, L] along them."""

LEAST_SCALE = 0.25
"""The least number that targets of the value function are divided by, in the unit of the rewards.

Where no trial has found a reward, targets spread by 0.01 to 0.14 in the presets of RL^2 without
MuJoCo, all of it the value function's own noise. Divided by that, errors have gradients that fill
``max_gradient_norm`` for as long as no reward comes, which leaves the policy no step. Where there
are rewards, targets spread by 0.29 to 6.
"""

TERMS = ("surrogate", "value_error", "entropy", "approx_kl", "clip_fraction")


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


def terms(distribution: Distribution, value: Tensor, samples: Samples, clip: float) -> Tensor:
    """Add up over all steps what ``TERMS`` names, each [] and differentiable, as one tensor.

    ``approx_kl`` estimates KL(old || new) in nats; ``clip_fraction`` counts ratios beyond the clip.
    """
    exponent = log_ratio(distribution.log_prob(samples.action), samples.log_prob, samples.mask)
    ratio = exponent.exp()
    columns = (
        clipped(ratio, samples.advantage, clip),
        (value - samples.target) ** 2,
        distribution.entropy(),
        ratio - 1.0 - exponent,
        ((ratio - 1.0).abs() > clip).to(ratio),
    )
    return torch.stack([torch.where(samples.mask, column, 0.0).sum() for column in columns])


def improve(
    optimizer: MetaOptimizer,
    judge: Judge,
    samples: Samples,
    config: PpoConfig,
    streams: Streams,
    processes: Processes,
) -> Metrics:
    """Take ``epochs`` times ``minibatches`` steps on the clipped objective.

    Each pass shuffles the trials of all processes in the same way and cuts them into minibatches,
    of which every process works on what it holds; gradients are summed over processes and divided
    by the steps of the minibatch. So a minibatch means the same for any number of processes.

    Returns:
        Means over the steps of all passes.

    Raises:
        InputError: there are fewer trials than minibatches.
    """
    place, longest = processes.place(len(samples.mask)), config.max_gradient_norm
    check_fields(config, {}, config.fault_in_trials(place.num_tasks))
    sums, norms = [], []
    for epoch in range(config.epochs):
        uniform = streams.at(epoch).uniform("order", 1, (place.num_tasks,))[0]
        order = torch.argsort(uniform, stable=True)
        for chosen in torch.tensor_split(order, config.minibatches):
            rows = chosen - place.first
            if len(samples.mask) < place.num_tasks:
                rows = rows[(rows >= 0) & (rows < len(samples.mask))]
            gradient, summed = _gradient(optimizer.params, judge, rows, samples, config)
            total = processes.total(torch.cat((gradient, summed)))
            summed = total[len(gradient) :]
            gradient = total[: len(gradient)] / summed[-1].clamp(min=1)
            norm = gradient.norm()
            flat = (gradient * (longest / norm.clamp(min=longest))).to(samples.log_prob)
            optimizer.step(trees.unflatten(flat, optimizer.params))
            sums.append(summed)
            norms.append(norm)
    *means, count = torch.stack(sums).sum(0).tolist()
    named = {name: x / max(count, 1.0) for name, x in zip(TERMS, means, strict=True)}
    loss = config.value_coefficient * named["value_error"] - named["surrogate"]
    loss -= config.entropy_coefficient * named["entropy"]
    metrics = {f"train/{name}": x for name, x in named.items()} | {"train/loss": loss}
    return metrics | {"train/gradient_norm": float(torch.stack(norms).mean())}


def _gradient(
    params: Params, judge: Judge, rows: Tensor, samples: Samples, config: PpoConfig
) -> tuple[Tensor, Tensor]:
    """Return the gradient [P] of the loss summed over some trials, the terms, and their steps.

    The results are float64, in which processes add them up.
    """
    weights = {name: leaf.detach().requires_grad_() for name, leaf in params.items()}
    if len(rows) == 0:
        flat = trees.flatten(params).double()
        return torch.zeros_like(flat), flat.new_zeros(len(TERMS) + 1)
    chosen = samples.take(rows)
    with torch.enable_grad():
        summed = terms(*judge(weights, rows), chosen, config.clip)
        objective, value_error, entropy, *_ = summed
        loss = config.value_coefficient * value_error - objective
        loss = loss - config.entropy_coefficient * entropy
        leaves = torch.autograd.grad(loss, list(weights.values()))
    gradient = trees.flatten(dict(zip(weights, leaves, strict=True))).double()
    return gradient, torch.cat((summed.detach(), chosen.mask.sum()[None])).double()
