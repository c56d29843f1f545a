"""MAML with a trust-region outer step (Finn et al. 2017, algorithm 3).

The paper's letters:

* theta: the weights before adaptation (``params``); theta'_i: those adapted to task T_i.
* D_i: trajectories of task T_i under theta, K of them in the paper and E here, where K counts
  tasks; D'_i: new ones under theta'_i. D_i is one task's part of ``rounds[0]``, D'_i of the last.
* alpha: step size of the inner loop (``inner_lr``). beta, that of the outer loop, gives way to the
  trust region.

Inner loop (lines 6 and 7), for each task from its own round:

    theta'_i = theta - alpha grad_theta L_{T_i}(f_theta; D_i)

with L = -E[log pi_theta(a|s) A] or the ratio surrogate (``inner_objective``), repeated for any
number of rounds; alpha may be another after the first (``later_lr_scale``; the paper halves it at
test). Outer loop (line 10): instead of a gradient step on

    sum_i L_{T_i}(f_{theta'_i}; D'_i)

one step of TRPO on the ratio surrogate of the last round, differentiated through the adaptation,
with the mean KL between old and new *adapted* policies as its constraint.

Where the paper writes sums over time, means over a task's steps are taken, as its code does.
Advantages are returns minus a linear baseline fitted to each task's round, standardised per task;
what is left to earn at the time limit counts as 0, since the score ends there
(``metarl/baselines.py``). What the agent knows of a task is its weights and the number of its
adaptations, which tells when alpha changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from metarl import trees
from metarl.adaptation import (
    AdvantageConfig,
    InnerConfig,
    Rounds,
    begin_stacked,
    prepare,
    weights_of,
)
from metarl.distributions import Distribution
from metarl.meta_gradient import AfterAdaptation, adapt
from metarl.policies import MlpPolicy, PolicyConfig, StackedActor, build_policy
from metarl.processes import ALONE, Processes
from metarl.returns import weighted_sum
from metarl.seeding import Streams
from metarl.trust_region import TrustRegionConfig, trust_region_step
from metarl.types import Acted, Adapted, EnvSpec, Metrics, Params, Trajectories


@dataclass(frozen=True, kw_only=True)
class MamlTrpoConfig(InnerConfig, AdvantageConfig):
    """MAML with a TRPO outer step."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    trust_region: TrustRegionConfig = field(default_factory=TrustRegionConfig)

    def __post_init__(self) -> None:
        InnerConfig.__post_init__(self)
        AdvantageConfig.__post_init__(self)


class MamlTrpo:
    """Owns theta, the weights from which every task adapts."""

    def __init__(
        self, spec: EnvSpec, config: MamlTrpoConfig, streams: Streams, processes: Processes = ALONE
    ) -> None:
        self.config, self.processes = config, processes
        self.policy = build_policy(spec, config.policy)
        self._actor = StackedActor(self.policy)
        self.params = self.policy.init(streams)

    def begin(self, num_tasks: int, episodes: int) -> Adapted:
        """Return theta for each task: leaves [K, ...]."""
        return begin_stacked(self.params, num_tasks)

    def act(self, adapted: Adapted, obs: Tensor, noise: Tensor) -> Acted:
        """Act in each task with its own weights."""
        return self._actor.act(adapted, obs, noise)

    def acting_policy(self, adapted: Adapted) -> tuple[MlpPolicy, Params]:
        """Return the policy, and its weights in each task."""
        return self.policy, weights_of(adapted)

    def adapt(self, adapted: Adapted, batch: Trajectories) -> Adapted:
        """Take one inner step in each task."""
        return adapt(self.policy, adapted, prepare(batch, self.config), self.config)

    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        """Take one outer step on the last round, through the adaptation by the earlier ones."""
        *lessons, last = [prepare(batch, self.config) for batch in rounds]
        place = self.processes.place(len(last.mask))
        # The mean over the tasks of all processes of the mean over each task's steps.
        steps = last.mask.sum((1, 2), keepdim=True).clamp(min=1)
        weights = last.mask.to(last.log_prob) / (steps * place.num_tasks)
        policies = AfterAdaptation(
            self.policy,
            self.params,
            Rounds(lessons, last, weights),
            self.config,
            processes=self.processes,
        )

        def surrogate(distribution: Distribution) -> Tensor:
            log_ratio = distribution.log_prob(last.action) - last.log_prob
            ratio = torch.exp(torch.where(last.mask, log_ratio, 0.0))
            return weighted_sum(ratio * last.advantage, weights)

        theta = trees.flatten(self.params)
        theta, metrics = trust_region_step(
            theta,
            policies,
            surrogate,
            weights,
            self.config.trust_region,
            total=self.processes.total,
        )
        self.params = trees.unflatten(theta, self.params)
        return metrics

    def state_dict(self) -> dict[str, Tensor]:
        """Return theta: nothing else passes from one iteration to the next."""
        return {name: leaf.clone() for name, leaf in self.params.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over theta."""
        self.params = trees.take_over(self.params, state, "MamlTrpo")
