"""Joint training on all tasks: what a meta-learner must do better than.

* ``Average``: one policy for all tasks, which never adapts. Trained to its end it is the best that
  can be had without finding out which task it is in; on an environment that tells the task
  (``metarl/envs/told.py``) it is what could be had by one who knew.
* ``Pretrained``: the same training, and at test the inner loop of MAML: what fine-tuning is worth
  where nothing prepared the weights for it (the baseline "pretrained" of Finn et al. 2017, section
  5.3, whose "oracle" is the policy that is told the task).

The letters: theta are the weights; J_i(theta) is the expected return in task i. Both raise

    mean_i J_i(theta)

by one step of TRPO for each round (Schulman et al. 2015): the surrogate is the mean over all steps
of all tasks of pi_theta(a|s) / pi_old(a|s) A, the constraint the mean KL divergence over the same
steps. Two things are other than in MAML's outer step, since here tasks compete for one policy.
Advantages, with a linear baseline for each task, are standardised over all tasks together, and
every step weighs the same: a task where much is at stake, or one with longer episodes, pulls as
hard as it should. Standardised within each task, all would pull alike, which is another objective.

Only rounds that theta itself collected teach anything. Of ``Average`` these are all; of
``Pretrained`` it is the first, so that training with ``adaptations`` other than 0 spends steps of
the environment in vain.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from metarl.adaptation import (
    AdvantageConfig,
    InnerConfig,
    InnerLoop,
    Lesson,
    Rounds,
    estimate,
    lesson_of,
)
from metarl.checks import InputError
from metarl.gradient_agent import GradientAgent
from metarl.linearisation import Term
from metarl.optimizers import Theta
from metarl.outer_objectives import ratio_surrogate
from metarl.policies import PolicyConfig, build_policy
from metarl.processes import ALONE, Processes
from metarl.returns import standardise_jointly
from metarl.seeding import Streams
from metarl.trust_region import TrustRegionConfig, trust_region_update
from metarl.types import Adapted, EnvSpec, Metrics, Trajectories


@dataclass(frozen=True, kw_only=True)
class JointConfig(AdvantageConfig):
    """What training on all tasks together needs."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    trust_region: TrustRegionConfig = field(default_factory=TrustRegionConfig)


@dataclass(frozen=True, kw_only=True)
class AverageConfig(JointConfig):
    """One policy for all tasks."""


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig(InnerConfig, JointConfig):
    """One policy for all tasks, which each task fine-tunes at test."""

    def __post_init__(self) -> None:
        InnerConfig.__post_init__(self)
        JointConfig.__post_init__(self)
        if self.first_order:
            said = "must stay off: joint training differentiates no adaptation"
            raise InputError([f"PretrainedConfig.first_order {said}"])


class JointLearner(GradientAgent):
    """Owns theta, which learns from all tasks together."""

    def __init__(
        self,
        inner: InnerConfig,
        spec: EnvSpec,
        config: JointConfig,
        streams: Streams,
        processes: Processes,
    ) -> None:
        policy = build_policy(spec, config.policy)
        super().__init__(InnerLoop(policy, inner), Theta(policy.init(streams)), config, processes)
        self._config = config

    def learn(self, batch: Trajectories) -> Metrics:
        """Take one step on a round that theta collected."""
        lesson = self.joint_lesson(batch).to_longest_episode()
        steps = self.processes.total(lesson.mask.sum().double()).clamp(min=1)
        weights = (lesson.mask / steps).to(lesson.log_prob)
        return trust_region_update(
            self.outer,
            [Term(self.policies(Rounds([], lesson, weights)), ratio_surrogate(lesson, weights))],
            self._config.trust_region,
            self.processes.total,
        )

    def joint_lesson(self, batch: Trajectories) -> Lesson:
        """Return what a round teaches, with advantages that are standardised over all tasks."""
        advantage = estimate(batch, self._config).advantage
        scaled = standardise_jointly(advantage, batch.mask, self.processes.total)
        return lesson_of(batch, scaled)


class Average(JointLearner):
    """Acts alike in every task, whatever it has seen of it."""

    def __init__(
        self, spec: EnvSpec, config: AverageConfig, streams: Streams, processes: Processes = ALONE
    ) -> None:
        super().__init__(InnerConfig(inner_lr=0.0), spec, config, streams, processes)

    def adapt(self, adapted: Adapted, batch: Trajectories) -> Adapted:
        """Learn nothing of a task."""
        return adapted

    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        """Take one step on the episodes of all rounds."""
        task_id, *_ = rounds[0]
        fields = zip(*(batch[1:] for batch in rounds), strict=True)
        return self.learn(Trajectories(task_id, *(torch.cat(leaves, 1) for leaves in fields)))


class Pretrained(JointLearner):
    """Is fine-tuned in each task by the steps of MAML's inner loop."""

    def __init__(
        self,
        spec: EnvSpec,
        config: PretrainedConfig,
        streams: Streams,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(config, spec, config, streams, processes)

    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        """Take one step on the first round; adapted policies collected the others."""
        return self.learn(rounds[0])
