"""The inner loop that gradient-based meta-learners share: a policy-gradient step for each task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from torch.func import grad, vmap

from metarl import baselines, trees
from metarl.checks import NON_NEGATIVE, UNIT, Allowed, check_fields, fault_in_choice
from metarl.objectives import OBJECTIVES, InnerObjective
from metarl.policies import Policy
from metarl.returns import generalised_advantages, standardise
from metarl.types import Adapted, Params, Trajectories

NUM_ADAPTATIONS = "num_adaptations"
"""Leaf [K] of what such an agent knows: how often it has adapted to each task."""

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
    """[K, E, T], standardised within each task."""
    mask: Tensor
    """[K, E, T] bool."""

    def take(self, rows: slice | Tensor) -> "Lesson":
        """Return that of some of the tasks."""
        return Lesson(*(field[rows] for field in self))


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


def prepare(batch: Trajectories, config: AdvantageConfig) -> Lesson:
    """Estimate advantages with a baseline fitted to this very round, standardised per task."""
    value = baselines.linear_values(batch, config.discount, config.baseline_ridge)
    advantage = generalised_advantages(
        batch.reward, value, batch.terminated, batch.mask, config.discount, config.gae_lambda
    )
    return Lesson(
        obs=batch.obs[:, :, :-1],
        action=batch.action,
        log_prob=batch.log_prob,
        advantage=standardise(advantage, batch.mask),
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
    """What an adaptation raises: as published for MAML, or the low-variance curvature ratio."""
    first_order: bool = False
    """Treat the gradient of an adaptation as a constant in the meta-gradient."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            {"inner_lr": NON_NEGATIVE, "later_lr_scale": NON_NEGATIVE},
            fault_in_choice(self, "inner_objective", OBJECTIVES),
        )


def begin_stacked(params: Params, num_tasks: int) -> Adapted:
    """Give each of K tasks the same weights, and a count of adaptations that stands at 0."""
    some_leaf = next(iter(params.values()))
    return trees.stack(params, num_tasks) | {NUM_ADAPTATIONS: some_leaf.new_zeros(num_tasks)}


def weights_of(adapted: Adapted) -> Params:
    """Return the weights [K, ...] among what such an agent knows."""
    return {name: leaf for name, leaf in adapted.items() if name != NUM_ADAPTATIONS}


def adapt_stacked(policy: Policy, adapted: Adapted, lesson: Lesson, config: InnerConfig) -> Adapted:
    """Take one policy-gradient step in each of K tasks, with weights [K, ...] of their own."""

    def step(params: Params, one: Lesson, size: Tensor) -> Params:
        return gradient_step(policy, params, one, config, size)

    moved: Params = vmap(step)(weights_of(adapted), lesson, step_sizes(adapted, config))
    return moved | {NUM_ADAPTATIONS: adapted[NUM_ADAPTATIONS] + 1}


def step_sizes(adapted: Adapted, config: InnerConfig) -> Tensor:
    """Return the step size [K] of each task's next adaptation."""
    later = (adapted[NUM_ADAPTATIONS] > 0).to(adapted[NUM_ADAPTATIONS])
    return config.inner_lr * (1.0 + (config.later_lr_scale - 1.0) * later)


def gradient_step(
    policy: Policy, params: Params, lesson: Lesson, config: InnerConfig, step_size: Tensor
) -> Params:
    """Take one policy-gradient step in one task: theta' = theta + alpha grad J(theta)."""

    def loss(weights: Params) -> Tensor:
        log_prob = policy.distribution(weights, lesson.obs).log_prob(lesson.action)
        objective = OBJECTIVES[config.inner_objective]
        return -objective(log_prob, lesson.log_prob, lesson.advantage, lesson.mask)

    start = trees.detach(params) if config.first_order else params
    return trees.sgd_step(params, grad(loss)(start), step_size)
