"""MAML (Finn et al. 2017, algorithm 3), with three kinds of outer step.

The paper's letters:

* theta: the weights before adaptation (``outer``); theta'_i: those adapted to task T_i.
* D_i: trajectories of task T_i under theta, K of them in the paper and E here, where K counts
  tasks; D'_i: new ones under theta'_i. D_i is one task's part of ``rounds[0]``, D'_i of the last.
* alpha: step size of the inner loop (``inner_lr``). beta: that of the outer loop (``outer_lr``),
  which gives way to the trust region in TRPO.

Inner loop (lines 6 and 7), for each task from its own round:

    theta'_i = theta - alpha grad_theta L_{T_i}(f_theta; D_i)

with L = -E[log pi_theta(a|s) A] or the ratio surrogate (``inner_objective``), repeated for any
number of rounds; alpha may be another after the first (``later_lr_scale``; the paper halves it at
test). Outer loop (line 10): theta moves so as to lower

    sum_i L_{T_i}(f_{theta'_i}; D'_i)

differentiated through the adaptation, or past it (``first_order``, the paper's FOMAML):

* ``MamlTrpo``, as in the paper's experiments: one step of TRPO on the ratio surrogate of the last
  round, with the mean KL between old and new *adapted* policies as its constraint.
* ``MamlPpo``: some steps of Adam on PPO's clipped surrogate of the last round, for which theta'_i
  is computed anew from D_i at every step.
* ``MamlVpg``: one step of Adam or SGD on L itself, the algorithm as it stands.

Where the paper writes sums over time, means over a task's steps are taken, as its code does.
Advantages are returns minus a linear baseline fitted to each task's round, standardised per task;
what is left to earn at the time limit counts as 0, since the score ends there
(``metarl/baselines.py``). What the agent knows of a task is its weights and the number of its
adaptations, which tells when alpha changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from metarl.adaptation import AdvantageConfig, InnerConfig, InnerLoop, fault_in_reuse
from metarl.ascent import ascend
from metarl.checks import COUNT, FRACTION, POSITIVE, check_fields
from metarl.gradient_agent import GradientAgent, TrustRegionAgent
from metarl.linearisation import Term
from metarl.objectives import InnerObjective
from metarl.optimizers import MetaOptimizer, OuterOptimizerConfig, Theta
from metarl.outer_objectives import clipped_surrogate, log_likelihood_surrogate
from metarl.policies import PolicyConfig, build_policy
from metarl.processes import ALONE, Processes
from metarl.seeding import Streams
from metarl.trust_region import TrustRegionConfig
from metarl.types import EnvSpec, Metrics, Trajectories


@dataclass(frozen=True, kw_only=True)
class MamlConfig(InnerConfig, AdvantageConfig):
    """What all forms of MAML have."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)

    def __post_init__(self) -> None:
        InnerConfig.__post_init__(self)
        AdvantageConfig.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class MamlTrpoConfig(MamlConfig):
    """MAML with a TRPO outer step."""

    trust_region: TrustRegionConfig = field(default_factory=TrustRegionConfig)


class MamlTrpo(TrustRegionAgent):
    """Owns theta, the weights from which every task adapts."""

    def __init__(
        self, spec: EnvSpec, config: MamlTrpoConfig, streams: Streams, processes: Processes = ALONE
    ) -> None:
        policy = build_policy(spec, config.policy)
        loop, outer = InnerLoop(policy, config), Theta(policy.init(streams))
        super().__init__(loop, outer, config, config.trust_region, processes)
        self.config = config


@dataclass(frozen=True, kw_only=True)
class MamlPpoConfig(MamlConfig):
    """MAML with PPO's outer steps."""

    inner_objective: InnerObjective = "ratio"
    """What an adaptation raises. After the first outer step theta no longer is what collected D_i:
    the log-likelihood, which takes it to be, is refused with more than one."""
    outer_lr: float = 1e-3
    """beta, Adam's step size."""
    outer_steps: int = 5
    """Steps on the same rounds."""
    clip: float = 0.3
    """epsilon of the clipped surrogate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks = {"outer_lr": POSITIVE, "outer_steps": COUNT, "clip": FRACTION}
        check_fields(self, checks, fault_in_reuse(self, self.outer_steps))


class MamlPpo(GradientAgent):
    """Owns theta, and what Adam remembers of it."""

    outer: MetaOptimizer

    def __init__(
        self, spec: EnvSpec, config: MamlPpoConfig, streams: Streams, processes: Processes = ALONE
    ) -> None:
        policy = build_policy(spec, config.policy)
        outer = MetaOptimizer(policy.init(streams), "adam", config.outer_lr)
        super().__init__(InnerLoop(policy, config), outer, config, processes)
        self.config = config

    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        """Take outer steps on the last round, through the adaptation by the earlier ones."""
        experience = self.experience(rounds)
        surrogate = clipped_surrogate(experience.last, experience.weights, self.config.clip)
        terms = [Term(self.policies(experience), surrogate)]
        return ascend(self.outer, terms, self.config.outer_steps, self.processes.total)


@dataclass(frozen=True, kw_only=True)
class MamlVpgConfig(MamlConfig, OuterOptimizerConfig):
    """MAML with one plain policy-gradient step outside."""

    def __post_init__(self) -> None:
        MamlConfig.__post_init__(self)
        OuterOptimizerConfig.__post_init__(self)


class MamlVpg(GradientAgent):
    """Owns theta, and what its optimiser remembers."""

    outer: MetaOptimizer

    def __init__(
        self, spec: EnvSpec, config: MamlVpgConfig, streams: Streams, processes: Processes = ALONE
    ) -> None:
        policy = build_policy(spec, config.policy)
        outer = MetaOptimizer(policy.init(streams), config.outer_optimizer, config.outer_lr)
        super().__init__(InnerLoop(policy, config), outer, config, processes)

    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        """Take one outer step on the last round, through the adaptation by the earlier ones."""
        experience = self.experience(rounds)
        surrogate = log_likelihood_surrogate(experience.last, experience.weights)
        return ascend(
            self.outer, [Term(self.policies(experience), surrogate)], 1, self.processes.total
        )
