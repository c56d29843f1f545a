"""Proximal policy optimisation (Schulman et al. 2017) over whole trials of policies with memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from metarl import trees
from metarl.annealing import anneal, fault_in_rise, rise
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
from metarl.seeding import Streams
from metarl.trial_targets import Samples
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
            fault_in_rise(self, "raise_discount", of="discount"),
        )

    def discount_at(self, updates_done: int) -> float:
        """Return gamma in the next meta-iteration."""
        return rise(self.discount, updates_done, self.raise_discount)

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


Judge: TypeAlias = Callable[[Params, Tensor], tuple[Distribution, Tensor]]
"""(weights, rows [M] of trials) to distributions and standardised values [M, L] along them."""

TERMS = ("surrogate", "value_error", "entropy", "approx_kl", "clip_fraction")


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
