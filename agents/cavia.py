"""CAVIA, fast context adaptation (Zintgraf, Shiarlis, Kurin, Hofmann and Whiteson 2019).

The paper's letters (sections 3.1 and 3.2):

* theta: the weights of the network, shared by all tasks and never adapted.
* phi: the context parameters, a vector that the network reads beside the observation, and that
  alone adapts. phi_0 = 0: every task begins there. phi_i: those adapted to task T_i.
* alpha: step size of the inner loop (``inner_lr``). beta: that of the outer loop, which gives way
  to the trust region.

Inner loop, for each task from its own round:

    phi_i = phi_0 - alpha grad_phi L_{T_i}(phi_0, theta)

repeated for any number of rounds. Outer loop: theta moves so as to lower

    sum_i L_{T_i}(phi_i, theta)

on new trajectories, differentiated through phi_i, which depends on theta; as in the paper's
experiments, one step of TRPO as MAML takes it (``metarl.agents.maml``).

phi is concatenated to the observation in front of the first layer (section 3.3), which is drawn as
one matrix for both. Since phi_0 is 0 and no part of theta, the first layer's rows for phi are what
makes phi matter: a larger alpha and smaller rows come to the same, so the outer loop scales the
inner step by itself, and alpha matters little (the paper's figure 2).
"""

from dataclasses import dataclass

import torch

from metarl.adaptation import InnerLoop
from metarl.agents.maml import MamlTrpoConfig
from metarl.checks import COUNT, POSITIVE, check_fields
from metarl.context import CONTEXT
from metarl.gradient_agent import TrustRegionAgent
from metarl.optimizers import Theta
from metarl.policies import build_policy
from metarl.processes import ALONE, Processes
from metarl.protocols import Amounts
from metarl.seeding import Streams
from metarl.types import EnvSpec


@dataclass(frozen=True, kw_only=True)
class CaviaConfig(MamlTrpoConfig):
    """CAVIA with a TRPO outer step."""

    inner_lr: float = 1.0
    """alpha, step size of the first adaptation."""
    num_context: int = 5
    """Length of phi."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, {"num_context": COUNT, "inner_lr": POSITIVE})

    def fault_with(self, amounts: Amounts) -> str | None:
        """Say what is wrong with no adaptation at all; None where there is one."""
        if amounts.adaptations:
            return None
        return (
            "adaptations must be at least 1 with CaviaConfig, got 0: phi is 0 until it adapts, and"
            " the weights that read it have no gradient there"
        )


class Cavia(TrustRegionAgent):
    """Owns theta, none of which adapts."""

    def __init__(
        self, spec: EnvSpec, config: CaviaConfig, streams: Streams, processes: Processes = ALONE
    ) -> None:
        policy = build_policy(spec, config.policy, config.num_context)
        theta = policy.init(streams)
        phi = torch.zeros(config.num_context, device=streams.device)
        loop = InnerLoop(policy, config, frozen=frozenset(theta), fresh={CONTEXT: phi})
        super().__init__(loop, Theta(theta), config, config.trust_region, processes)
