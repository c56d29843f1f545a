"""Reptile (Nichol, Achiam and Schulman 2018, algorithms 1 and 2) with learners of policies inside.

The paper's letters:

* phi: the initial weights of every task.
* U_tau^k(phi): phi after k steps of the inner optimiser on task tau. Here the inner learner
  (``metarl/inner_learners.py``: SGD or Adam, on a policy-gradient objective or PPO's) learns from
  one round after the other, each of fresh samples. N adaptations in training give k = N + 1 rounds,
  since the round that scores the N-th adaptation is data as well, or k = N without it
  (``learn_from_last_round``).
* n: tasks of an outer step (``tasks_per_update``); 1 makes the batched version the serial one.
* epsilon: step size of the outer loop (``outer_lr``), which may go linearly to 0 (``anneal_over``).

The update, over n tasks:

    phi <- phi + epsilon * mean_i (U_{tau_i}^k(phi) - phi)

No derivative of the adaptation is taken. As the paper suggests, phi - U(phi) may be handed to Adam
as if it were a gradient (``outer_optimizer``). With k = 1 and SGD the update is joint training on
all tasks; k >= 2 brings in the inner product between gradients on different samples of the *same*
task (the paper's AvgGradInner), and raising it is what makes adaptation fast. The paper's FOMAML is
MAML with ``first_order`` (``agents/maml.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from metarl import trees
from metarl.adaptation import AdvantageConfig, InnerLoop
from metarl.annealing import AnnealedOptimizer, OuterStepConfig
from metarl.checks import check_fields
from metarl.gradient_agent import GradientAgent
from metarl.inner_learners import LearnerConfig, begin_learning, learn
from metarl.policies import PolicyConfig, build_policy
from metarl.processes import ALONE, Processes
from metarl.protocols import Amounts
from metarl.seeding import Streams
from metarl.types import Adapted, EnvSpec, Metrics, Trajectories


@dataclass(frozen=True, kw_only=True)
class ReptileConfig(LearnerConfig, AdvantageConfig, OuterStepConfig):
    """Reptile over learners of policies."""

    learn_from_last_round: bool = True
    """Whether the round that scores the last adaptation is data of the inner learner too."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)

    def __post_init__(self) -> None:
        LearnerConfig.__post_init__(self)
        AdvantageConfig.__post_init__(self)
        OuterStepConfig.__post_init__(self)
        check_fields(
            self,
            {},
            "ReptileConfig.first_order must stay off: Reptile differentiates no adaptation"
            if self.first_order
            else None,
        )

    def fault_with(self, amounts: Amounts) -> str | None:
        """Say what is wrong with as many rounds, or as many episodes in them; None if nothing."""
        if amounts.adaptations == 0 and not self.learn_from_last_round:
            return (
                "ReptileConfig.learn_from_last_round must be True with adaptations=0: the last"
                " round is the only one, and without it there is nothing to learn from"
            )
        return self.fault_in_episodes(amounts.episodes)


class Reptile(GradientAgent):
    """Owns phi, the weights from which every task adapts, and the outer optimiser."""

    loop: InnerLoop
    outer: AnnealedOptimizer

    def __init__(
        self, spec: EnvSpec, config: ReptileConfig, streams: Streams, processes: Processes = ALONE
    ) -> None:
        policy = build_policy(spec, config.policy)
        outer = AnnealedOptimizer(policy.init(streams), config)
        super().__init__(InnerLoop(policy, config), outer, config, processes)
        self.config = config

    def begin(self, num_tasks: int, episodes: int) -> Adapted:
        """Return phi for each task, and an inner optimiser that remembers nothing."""
        fresh = super().begin(num_tasks, episodes)
        return begin_learning(self.loop, self.config, fresh, episodes)

    def adapt(self, adapted: Adapted, batch: Trajectories) -> Adapted:
        """Let the inner learner of each task learn from its round."""
        return learn(self.loop, self.config, adapted, self.lesson(batch))

    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        """Step from phi towards the mean of the weights that the rounds lead to."""
        phi = self.outer.weights()
        lessons = rounds if self.config.learn_from_last_round else rounds[:-1]
        with torch.no_grad():
            adapted = self.begin(len(rounds[0].obs), rounds[0].obs.shape[1])
            for batch in lessons:
                adapted = self.adapt(adapted, batch)
            offsets = trees.sum_over_tasks({name: phi[name] - adapted[name] for name in phi})
            total = self.processes.total(trees.flatten(offsets))
            mean = total / self.processes.place(len(rounds[0].obs)).num_tasks
            gradient = mean.to(next(iter(phi.values())))
            return self.outer.step_if_finite(trees.unflatten(gradient, phi))
