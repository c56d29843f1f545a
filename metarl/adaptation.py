"""The inner loop that gradient-based meta-learners share: a policy-gradient step for each task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad, vmap

from metarl import baselines, trees
from metarl.checks import NON_NEGATIVE, UNIT, Allowed, check_fields, fault_in_choice
from metarl.objectives import OBJECTIVES, InnerObjective, Objective
from metarl.policies import Policy
from metarl.returns import (
    generalised_advantages,
    masked_mean,
    standard_deviation,
    standardise,
)
from metarl.types import Adapted, Params, Trajectories

NUM_ADAPTATIONS = "num_adaptations"
"""Leaf [K] of what such an agent knows: how often it has adapted to each task."""
STEP_SIZE = "step_size/"
"""Before a weight's name: its own step sizes, of its shape or one for all of it."""
MEMORY = "memory/"
"""Before what an inner optimiser remembers of a task."""

_MISFIT = 1e-3
"""Share of the returns' size below which advantages count as the baseline's error. Measured: 0.0002
in mazes where nobody found the goal; where there is news 0.006 and more, the least of it in
navigation by a policy that is nearly deterministic. A constant that is added to all rewards counts
as size."""

# Below this the normal equations of constant observations are singular in float64.
_RIDGE = Allowed(1e-8, 1e8, "a number from 1e-8 to 1e8")


@dataclass(frozen=True, kw_only=True)
class AdvantageConfig:
    """How rewards become advantages, in the inner and in the outer loop."""

    discount: float = 0.99
    """gamma."""
    gae_lambda: float = 1.0
    """lambda of generalised advantage estimation."""
    baseline_ridge: float = 1e-5
    """Regularisation of the linear baseline, refitted for every task and round."""

    def __post_init__(self) -> None:
        check_fields(self, {"discount": UNIT, "gae_lambda": UNIT, "baseline_ridge": _RIDGE})


class Lesson(NamedTuple):
    """What an objective needs of a round; without K inside ``vmap``."""

    obs: Tensor
    """[K, E, T, O]."""
    action: Tensor
    """[K, E, T, A], or [K, E, T] int64 when discrete."""
    log_prob: Tensor
    """[K, E, T] nats, under the policy that acted."""
    advantage: Tensor
    """[K, E, T], standardised: within each task, unless the agent says otherwise."""
    mask: Tensor
    """[K, E, T] bool."""

    def take(self, rows: slice | Tensor) -> "Lesson":
        """Return that of some of the tasks."""
        return Lesson(*(field[rows] for field in self))

    def of_episodes(self, episodes: slice) -> "Lesson":
        """Return that of some of each task's episodes."""
        return Lesson(*(field[:, episodes] for field in self))

    def to_longest_episode(self) -> "Lesson":
        """Return it without the steps at the end that no episode has reached.

        Masked steps count for nothing, but work is done on them: episodes that fall leave most of
        a round to them. On a GPU, where to ask for the longest would be to wait for it, all stay.
        """
        if self.mask.device.type != "cpu":
            return self
        longest = max(1, int(self.mask.sum(-1).max()))
        return Lesson(*(field[:, :, :longest].contiguous() for field in self))


class Rounds(NamedTuple):
    """What K tasks adapt to, and what the adapted policies are judged on."""

    lessons: Sequence[Lesson]
    """One for each adaptation."""
    last: Lesson
    """Of the round after the last adaptation."""
    weights: Tensor
    """[K, E, T] of each sample of that round in means over tasks and steps; they sum to 1."""

    def take(self, rows: slice | Tensor) -> "Rounds":
        """Return those of some of the tasks, with the weights that these had."""
        lessons = [lesson.take(rows) for lesson in self.lessons]
        return Rounds(lessons, self.last.take(rows), self.weights[rows])


class Estimates(NamedTuple):
    """What is estimated of a round, in the reward's unit."""

    advantage: Tensor
    """[K, E, T]."""
    returns: Tensor
    """[K, E, T]: advantages plus the values that they were taken from."""


def estimate(batch: Trajectories, config: AdvantageConfig) -> Estimates:
    """Estimate advantages and returns, with a baseline fitted to this very round."""
    value = baselines.linear_values(batch, config.discount, config.baseline_ridge)
    advantage = generalised_advantages(
        batch.reward, value, batch.terminated, batch.mask, config.discount, config.gae_lambda
    )
    return Estimates(advantage, advantage + value[..., :-1])


def prepare(batch: Trajectories, config: AdvantageConfig) -> Lesson:
    """Return what a round teaches, its advantages standardised per task.

    Where a task paid the same in every episode, as a maze whose goal nobody found, there is nothing
    to learn: what is left then is the misfit of the baseline, and it stays small beside what other
    tasks have to tell.
    """
    estimates = estimate(batch, config)
    spread = spread_of(estimates, batch.mask)
    return lesson_of(batch, standardise(estimates.advantage, batch.mask, spread))


def spread_of(estimates: Estimates, mask: Tensor) -> Tensor:
    """Return what ``prepare`` divides each task's advantages by: [K], in the reward's unit."""
    advantage, returns = estimates
    size = masked_mean(returns**2, mask).sqrt()
    return torch.maximum(standard_deviation(advantage, mask) + 1e-8, _MISFIT * size)


def lesson_of(batch: Trajectories, advantage: Tensor) -> Lesson:
    """Return what a round teaches, given its advantages [K, E, T]."""
    return Lesson(
        obs=batch.obs[:, :, :-1],
        action=batch.action,
        log_prob=batch.log_prob,
        advantage=advantage,
        mask=batch.mask,
    )


@dataclass(frozen=True, kw_only=True)
class InnerConfig:
    """One step of adaptation."""

    inner_lr: float = 0.1
    """alpha, step size of the first adaptation."""
    later_lr_scale: float = 1.0
    """Factor on that step size for every adaptation after the first."""
    inner_objective: InnerObjective = "log_likelihood"
    """What an adaptation raises: as published for MAML, low-variance curvature ratio, or DiCE."""
    first_order: bool = False
    """Treat the gradient of an adaptation as a constant in the meta-gradient."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            {"inner_lr": NON_NEGATIVE, "later_lr_scale": NON_NEGATIVE},
            fault_in_choice(self, "inner_objective", OBJECTIVES),
        )


def fault_in_reuse(config: InnerConfig, outer_steps: int) -> str | None:
    """Say what is wrong with several outer steps on the same rounds.

    From the second step on it was collected by older weights. The ratio objective weighs that in;
    the gradient of the log-likelihood is then that of no return.
    """
    if outer_steps == 1 or config.inner_objective != "log_likelihood":
        return None
    return (
        f"{type(config).__name__}.inner_objective must not be 'log_likelihood' with"
        f" outer_steps={outer_steps}: it holds for the policy that acted alone; use 'ratio'"
    )


class InnerLoop(NamedTuple):
    """What adapts to a task, and how: functions of the weights that they are given.

    Of theta, leaves named ``STEP_SIZE + name`` are step sizes of the weight ``name``, learned with
    it; all others are weights of the policy.
    """

    policy: Policy
    config: InnerConfig
    frozen: frozenset[str] = frozenset()
    """Names of weights that adaptation leaves alone."""
    fresh: Mapping[str, Tensor] = MappingProxyType({})
    """Weights that every task begins with, and that are no part of theta; theta decides where
    they live, and their dtype."""

    def begin(self, theta: Params, num_tasks: int) -> Adapted:
        """Return what is known of K tasks that were never met."""
        like = next(iter(theta.values()))
        fresh = {name: leaf.to(like) for name, leaf in self.fresh.items()}
        return begin_stacked(theta | fresh, num_tasks)

    def step_sizes(self, adapted: Adapted) -> Params:
        """Return, for each weight that moves, the sizes of each task's next step.

        Leaves are [K], or [K, ...] of the weight's shape.
        """
        factor = step_factors(adapted, self.config)
        sizes: Params = {}
        for name in weights_of(adapted):
            if name in self.frozen:
                continue
            own = adapted.get(STEP_SIZE + name)
            sizes[name] = (
                self.config.inner_lr * factor if own is None else spread(factor, own) * own
            )
        return sizes


def begin_stacked(params: Params, num_tasks: int) -> Adapted:
    """Give each of K tasks the same weights, and a count of adaptations that stands at 0."""
    some_leaf = next(iter(params.values()))
    return trees.stack(params, num_tasks) | {NUM_ADAPTATIONS: some_leaf.new_zeros(num_tasks)}


def weights_of(adapted: Adapted) -> Params:
    """Return the policies' weights [K, ...] of what is known of K tasks."""
    return {
        name: leaf
        for name, leaf in adapted.items()
        if name != NUM_ADAPTATIONS and not name.startswith((STEP_SIZE, MEMORY))
    }


def step_factors(adapted: Adapted, config: InnerConfig) -> Tensor:
    """Return the factor [K] on the step sizes of each task's next adaptation."""
    later = (adapted[NUM_ADAPTATIONS] > 0).to(adapted[NUM_ADAPTATIONS])
    return 1.0 + (config.later_lr_scale - 1.0) * later


def spread(size: Tensor, leaf: Tensor) -> Tensor:
    """Give numbers of K tasks, [K] or [K, ...], the axes of a leaf [K, ...] after their own."""
    return size.view(*size.shape, *[1] * (leaf.dim() - size.dim()))


def adapt_stacked(loop: InnerLoop, adapted: Adapted, lesson: Lesson) -> Adapted:
    """Take one policy-gradient step in each of K tasks, with weights [K, ...] of their own."""

    def step(params: Params, one: Lesson, sizes: Params) -> Params:
        return gradient_step(loop, params, one, sizes)

    moved: Params = vmap(step)(weights_of(adapted), lesson, loop.step_sizes(adapted))
    return adapted | moved | {NUM_ADAPTATIONS: adapted[NUM_ADAPTATIONS] + 1}


def inner_loss(policy: Policy, params: Params, lesson: Lesson, objective: Objective) -> Tensor:
    """Return what adaptation to one task lowers: the negative of its objective, [].

    Args:
        policy: of whatever kind.
        params: one task's weights, without K.
        lesson: one task's, of leaves [E, T, ...].
        objective: one of ``metarl.objectives``; its unit is the result's.
    """
    log_prob = policy.distribution(params, lesson.obs).log_prob(lesson.action)
    return -objective(log_prob, lesson.log_prob, lesson.advantage, lesson.mask)


def gradient_step(loop: InnerLoop, params: Params, lesson: Lesson, sizes: Params) -> Params:
    """Take one policy-gradient step in one task: theta' = theta + alpha grad J(theta).

    With ``first_order``, grad J is a constant, and the derivative of theta' by theta the identity.

    Args:
        loop: the adaptation.
        params: one task's weights, without K.
        lesson: one task's, of leaves [E, T, ...].
        sizes: alpha by the names of the weights that move: [], or of the weight's shape.

    Returns:
        The weights that moved: those that ``sizes`` has step sizes for.
    """
    config = loop.config
    start = trees.detach(params) if config.first_order else params

    def loss(moving: Params) -> Tensor:
        return inner_loss(loop.policy, start | moving, lesson, OBJECTIVES[config.inner_objective])

    gradient = grad(loss)({name: start[name] for name in sizes})
    return {name: params[name] - size * gradient[name] for name, size in sizes.items()}
