"""iMAML (Rajeswaran, Finn, Kakade and Levine 2019, algorithms 1 and 2), for reinforcement learning.

The paper's letters:

* theta: the meta-parameters (``outer``); phi_i: the weights adapted to task T_i.
* D_i^tr, D_i^test: trajectories of task T_i under theta, and new ones under phi_i: ``rounds[0]``
  and the last round. hat-L_i and L_i: minus the surrogate of the return on the one and the other.
* lambda: weight of the squared distance from theta (``regularisation``); alpha: step size of the
  inner solver (``inner_lr``); eta: that of the outer loop (``outer_lr``).

Adaptation (equation 3), for each task from its own round:

    phi_i = argmin_phi hat-L_i(phi) + lambda / 2 |phi - theta|^2

approached by ``inner_steps`` gradient steps, all on the same trajectories. hat-L is MAML's inner
loss, -E[log pi_phi(a|s) A], taken as the loss of a set of data, as the paper takes any: weighted
maximum likelihood, not too far from theta. Its first step is a policy-gradient step.

Meta-gradient (equation 6, lemma 1), by conjugate gradient in all tasks at once (algorithm 2):

    d L_i / d theta = (I + 1/lambda Hess hat-L_i(phi_i))^-1 grad L_i(phi_i)

It needs no step of the solver to be remembered. Several rounds are solved each around the last
one's phi_i, with the product of their inverses (``metarl.implicit_gradient``). Outer loop
(algorithm 1, line 6), one step on the mean over the tasks:

* ``Imaml``: Adam or SGD along the meta-gradient, as in the paper.
* ``ImamlTrpo``: TRPO on the last round, as in MAML; the Jacobian of the adapted policies is the
  implicit one.

The paper has no experiments on reinforcement learning; docs/agents/imaml.md says what it leaves
open, and what was chosen. Losses, advantages and rounds are those of MAML (``agents/maml.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from metarl.adaptation import AdvantageConfig
from metarl.ascent import ascend
from metarl.gradient_agent import GradientAgent, TrustRegionAgent
from metarl.implicit_gradient import ProximalConfig, ProximalLoop
from metarl.linearisation import Term
from metarl.optimizers import MetaOptimizer, OuterOptimizerConfig, Theta
from metarl.outer_objectives import ratio_surrogate
from metarl.policies import PolicyConfig, build_policy
from metarl.processes import ALONE, Processes
from metarl.seeding import Streams
from metarl.trust_region import TrustRegionConfig
from metarl.types import EnvSpec, Metrics, Trajectories


@dataclass(frozen=True, kw_only=True)
class ImamlBaseConfig(ProximalConfig, AdvantageConfig):
    """What both forms of iMAML have."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)

    def __post_init__(self) -> None:
        ProximalConfig.__post_init__(self)
        AdvantageConfig.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class ImamlConfig(ImamlBaseConfig, OuterOptimizerConfig):
    """iMAML with a gradient step outside."""

    outer_lr: float = 1e-2
    """eta, or Adam's step size."""

    def __post_init__(self) -> None:
        ImamlBaseConfig.__post_init__(self)
        OuterOptimizerConfig.__post_init__(self)


class Imaml(GradientAgent):
    """Owns theta, and what its optimiser remembers."""

    outer: MetaOptimizer

    def __init__(
        self, spec: EnvSpec, config: ImamlConfig, streams: Streams, processes: Processes = ALONE
    ) -> None:
        policy = build_policy(spec, config.policy)
        outer = MetaOptimizer(policy.init(streams), config.outer_optimizer, config.outer_lr)
        super().__init__(ProximalLoop(policy, config), outer, config, processes)

    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        """Take one outer step on the last round, along the implicit gradient."""
        experience = self.experience(rounds)
        surrogate = ratio_surrogate(experience.last, experience.weights)
        terms = [Term(self.policies(experience), surrogate)]
        return ascend(self.outer, terms, 1, self.processes.total)


@dataclass(frozen=True, kw_only=True)
class ImamlTrpoConfig(ImamlBaseConfig):
    """iMAML with a TRPO outer step."""

    trust_region: TrustRegionConfig = field(default_factory=TrustRegionConfig)


class ImamlTrpo(TrustRegionAgent):
    """Owns theta, from which every task adapts and to which it stays close."""

    def __init__(
        self, spec: EnvSpec, config: ImamlTrpoConfig, streams: Streams, processes: Processes = ALONE
    ) -> None:
        policy = build_policy(spec, config.policy)
        outer = Theta(policy.init(streams))
        loop = ProximalLoop(policy, config)
        super().__init__(loop, outer, config, config.trust_region, processes)
