"""Inner learners: how the weights of K tasks move on one round, for agents that take no derivative.

For each task, from weights theta and on the inner loss L of a round, one step for each minibatch of
each epoch. With alpha the step size and g = grad L(theta), step t of the task, counted from 1, is

* SGD: theta <- theta - alpha g
* Adam (Kingma and Ba 2015, algorithm 1):

      m <- beta1 m + (1 - beta1) g
      v <- beta2 v + (1 - beta2) g^2
      theta <- theta - alpha (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)

m and v begin at 0 with the task, stay with it from round to round, and are part of what an agent
knows of it, as leaves [K, ...]; with beta1 = 0, m is g and is not kept. L is the negative of a
policy-gradient objective, for one step, or of PPO's clipped one, for several on the same round.

Nothing here is random. Minibatch m of M holds the episodes m, m + M, m + 2M, ... of each task:
episodes are independent as they come. Advantages stay standardised over the whole round.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from metarl import mlp_adaptation
from metarl.adaptation import (
    MEMORY,
    NUM_ADAPTATIONS,
    InnerConfig,
    InnerLoop,
    Lesson,
    spread,
    weights_of,
)
from metarl.checks import (
    COUNT,
    FRACTION,
    POSITIVE,
    Allowed,
    InputError,
    check_fields,
    unknown,
    without_effect,
)
from metarl.meta_gradient import DEFAULT_BLOCKS, Blocks, in_blocks
from metarl.objectives import OBJECTIVES, Objective, clipped, log_ratio
from metarl.optimizers import OPTIMIZERS, OptimizerName
from metarl.returns import masked_mean
from metarl.types import Adapted, Params

LearnerName: TypeAlias = Literal["policy_gradient", "ppo"]

_LEARNERS = ("policy_gradient", "ppo")
_FIRST, _SECOND = f"{MEMORY}first/", f"{MEMORY}second/"
_DECAY = Allowed(0.0, 1.0, "a number from 0, below 1", high_open=True)
_ONLY_WITH = (
    ("inner_optimizer", "adam", ("inner_beta1", "inner_beta2", "inner_epsilon")),
    ("inner_learner", "ppo", ("inner_epochs", "inner_minibatches", "inner_clip")),
    ("inner_learner", "policy_gradient", ("inner_objective",)),
)
"""Fields that have an effect with one choice of another field alone."""


@dataclass(frozen=True, kw_only=True)
class LearnerConfig(InnerConfig):
    """What learns a task, and by which steps."""

    inner_learner: LearnerName = "policy_gradient"
    """One policy-gradient step on each round, or several of PPO."""
    inner_optimizer: OptimizerName = "sgd"
    """What takes the steps. Adam's have about the size inner_lr in every weight, whatever the
    gradient's: it wants a smaller one."""
    inner_beta1: float = 0.0
    """Adam's decay of the mean of gradients; Reptile's paper has it at 0."""
    inner_beta2: float = 0.999
    """Adam's decay of the mean of squared gradients."""
    inner_epsilon: float = 1e-8
    """What Adam adds to their root."""
    inner_epochs: int = 1
    """PPO's passes over a round. The first step of the first is a policy-gradient step."""
    inner_minibatches: int = 1
    """Steps in one of PPO's passes, each on its share of the round's episodes."""
    inner_clip: float = 0.2
    """epsilon of PPO's clipped surrogate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = {"inner_beta1": _DECAY, "inner_beta2": _DECAY, "inner_epsilon": POSITIVE}
        allowed |= {"inner_epochs": COUNT, "inner_minibatches": COUNT, "inner_clip": FRACTION}
        choices = {"inner_learner": _LEARNERS, "inner_optimizer": OPTIMIZERS}
        faults = [
            f"{type(self).__name__}." + unknown(name, getattr(self, name), known)
            for name, known in choices.items()
            if getattr(self, name) not in known
        ]
        idle = [line for rule in _ONLY_WITH for line in without_effect(self, *rule)]
        check_fields(self, allowed, *faults, *idle)

    @property
    def steps_per_round(self) -> int:
        """How many steps one adaptation takes."""
        return self.inner_epochs * self.inner_minibatches

    @property
    def objective(self) -> Objective:
        """What the steps raise."""
        if self.inner_learner == "ppo":
            return clipped_mean(self.inner_clip)
        return OBJECTIVES[self.inner_objective]

    def fault_in_episodes(self, episodes: int) -> str | None:
        """Say that a round has fewer episodes than a pass has minibatches, where it does."""
        if episodes >= self.inner_minibatches:
            return None
        return (
            f"{type(self).__name__}.inner_minibatches={self.inner_minibatches} needs as many"
            f" episodes in a round, got {episodes}"
        )


def clipped_mean(clip: float) -> Objective:
    """Return the mean of ``objectives.clipped``, for several steps on the same experience.

    It takes what every objective takes, [E, T], to a scalar [] in the unit of the advantages.
    ``clip`` is epsilon, without a unit.
    """

    def objective(log_prob: Tensor, old: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
        ratio = torch.exp(log_ratio(log_prob, old, mask))
        return masked_mean(clipped(ratio, advantage, clip), mask)

    return objective


def begin_learning(
    loop: InnerLoop, config: LearnerConfig, adapted: Adapted, episodes: int
) -> Adapted:
    """Add to what is known of K new tasks, [K, ...], what the inner optimiser remembers of them.

    That is nothing for SGD; for Adam leaves [K, ...] of zeros, of the shapes of what moves.

    Raises:
        InputError: a round has fewer episodes than minibatches.
    """
    fault = config.fault_in_episodes(episodes)
    if fault:
        raise InputError([fault])
    if config.inner_optimizer == "sgd":
        return adapted
    moments = (_FIRST, _SECOND) if config.inner_beta1 else (_SECOND,)
    moving = loop.step_sizes(adapted)
    return adapted | {
        moment + name: torch.zeros_like(adapted[name]) for moment in moments for name in moving
    }


def learn(
    loop: InnerLoop,
    config: LearnerConfig,
    adapted: Adapted,
    lesson: Lesson,
    blocks: Blocks = DEFAULT_BLOCKS,
) -> Adapted:
    """Learn from one round of each of K tasks; record no graph.

    Args:
        loop: whose weights move, and how far.
        config: by which steps.
        adapted: what is known of the tasks, leaves [K, ...], from ``begin_learning`` on.
        lesson: what the round teaches, [K, E, T, ...].
        blocks: how the tasks are cut.

    Returns:
        What is known then, of the same names and shapes: weights that moved, what the inner
        optimiser remembers, and one more adaptation.
    """

    def work(mine: Adapted, part: Lesson) -> Adapted:
        with torch.no_grad():
            return _learn_block(loop, config, mine, part)

    return in_blocks(work, loop.policy, adapted, lesson, blocks)


def _learn_block(
    loop: InnerLoop, config: LearnerConfig, adapted: Adapted, lesson: Lesson
) -> Adapted:
    sizes, num_rounds = loop.step_sizes(adapted), adapted[NUM_ADAPTATIONS]
    minibatches = config.inner_minibatches
    for step in range(config.steps_per_round):
        part = lesson.of_episodes(slice(step % minibatches, None, minibatches))
        slope = mlp_adaptation.loss_gradient(
            loop.policy, weights_of(adapted), part, config.objective
        )
        gradient = {name: slope[name] for name in sizes}
        if config.inner_optimizer == "adam":
            number = num_rounds * config.steps_per_round + step + 1
            memory, gradient = _adam(config, adapted, gradient, number)
            adapted = adapted | memory
        moving = {name: adapted[name] for name in sizes}
        adapted = adapted | mlp_adaptation.descend(moving, gradient, sizes)
    return adapted | {NUM_ADAPTATIONS: num_rounds + 1}


def _adam(
    config: LearnerConfig, adapted: Adapted, gradient: Params, number: Tensor
) -> tuple[Adapted, Params]:
    """Return m and v after a task's step of that number [K], and what the step goes against."""
    beta1, beta2 = config.inner_beta1, config.inner_beta2
    # In float64: 1 - 0.999 has lost four digits in float32.
    unbiased1, unbiased2 = (1.0 - beta ** number.double() for beta in (beta1, beta2))
    memory: Adapted = {}
    direction: Params = {}
    for name, leaf in gradient.items():
        first, second = leaf, (1.0 - beta2) * leaf**2 + beta2 * adapted[_SECOND + name]
        if beta1:
            first = (1.0 - beta1) * leaf + beta1 * adapted[_FIRST + name]
            memory[_FIRST + name] = first
        memory[_SECOND + name] = second
        mean, square = first / spread(unbiased1, leaf), second / spread(unbiased2, leaf)
        direction[name] = (mean / (square.sqrt() + config.inner_epsilon)).to(leaf)
    return memory, direction
