"""Reptile with policy-gradient inner steps (Nichol, Achiam and Schulman 2018, algorithm 1).

The paper's letters:

* phi: the initial weights of every task.
* U_tau^k(phi): phi after k steps of the inner optimiser on task tau, each on fresh samples; here a
  policy-gradient step for each round, so N adaptations in training give k = N + 1: the round that
  scores the N-th adaptation is also the data of the last inner step.
* epsilon: step size of the outer loop (``outer_lr``).

The update, in the paper's batched version over n tasks:

    phi <- phi + epsilon * mean_i (U_{tau_i}^k(phi) - phi)

No derivative of the adaptation is taken. As the paper suggests, phi - U(phi) may be handed to Adam
as if it were a gradient (``outer_optimizer``). With k = 1 and SGD the update is joint training on
all tasks; k >= 2 brings in the inner product between gradients on different samples of the *same*
task (the paper's AvgGradInner), and raising it is what makes adaptation fast.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from metarl import trees
from metarl.adaptation import AdvantageConfig, InnerConfig, begin_stacked, prepare, weights_of
from metarl.checks import POSITIVE, check_fields, fault_in_choice
from metarl.meta_gradient import adapt
from metarl.optimizers import OPTIMIZERS, MetaOptimizer, OptimizerName
from metarl.policies import MlpPolicy, PolicyConfig, StackedActor, build_policy
from metarl.processes import ALONE, Processes
from metarl.seeding import Streams
from metarl.types import Acted, Adapted, EnvSpec, Metrics, Params, Trajectories


@dataclass(frozen=True, kw_only=True)
class ReptileConfig(InnerConfig, AdvantageConfig):
    """Reptile over policy-gradient steps."""

    outer_optimizer: OptimizerName = "sgd"
    """What takes the step towards the adapted weights."""
    outer_lr: float = 0.1
    """epsilon, or Adam's step size."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)

    def __post_init__(self) -> None:
        InnerConfig.__post_init__(self)
        AdvantageConfig.__post_init__(self)
        check_fields(
            self,
            {"outer_lr": POSITIVE},
            fault_in_choice(self, "outer_optimizer", OPTIMIZERS),
            "ReptileConfig.first_order must stay off: Reptile differentiates no adaptation"
            if self.first_order
            else None,
        )


class Reptile:
    """Owns phi, the weights from which every task adapts, and the outer optimiser."""

    def __init__(
        self, spec: EnvSpec, config: ReptileConfig, streams: Streams, processes: Processes = ALONE
    ) -> None:
        self.config, self.processes = config, processes
        self.policy = build_policy(spec, config.policy)
        self._actor = StackedActor(self.policy)
        self._outer = MetaOptimizer(
            self.policy.init(streams), config.outer_optimizer, config.outer_lr
        )

    def begin(self, num_tasks: int, episodes: int) -> Adapted:
        """Return phi for each task: leaves [K, ...]."""
        return begin_stacked(self._outer.weights(), num_tasks)

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
        """Step from phi towards the mean of the weights that the rounds lead to."""
        phi = self._outer.weights()
        with torch.no_grad():
            adapted = self.begin(len(rounds[0].obs), rounds[0].obs.shape[1])
            for batch in rounds:
                adapted = self.adapt(adapted, batch)
            offsets = trees.sum_over_tasks({name: phi[name] - adapted[name] for name in phi})
            total = self.processes.total(trees.flatten(offsets))
            mean = total / self.processes.place(len(rounds[0].obs)).num_tasks
            gradient = mean.to(next(iter(phi.values())))
            self._outer.step(trees.unflatten(gradient, phi))
        return {"train/gradient_norm": float(gradient.norm())}

    def state_dict(self) -> dict[str, Tensor]:
        """Return phi and the outer optimiser's memory."""
        return self._outer.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over phi and the outer optimiser's memory."""
        self._outer.load_state_dict(state, "Reptile")
