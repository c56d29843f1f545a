"""ANIL, "almost no inner loop" (Raghu, Raghu, Bengio and Vinyals 2020, section 4).

The paper's letters:

* theta = (theta_1, ..., theta_l): the weights of the l layers of the network before adaptation.
  theta_1 ... theta_{l-1} are the body, theta_l is the head.
* theta'_b: the weights adapted to task b. alpha: step size of the inner loop (``inner_lr``).

MAML (``metarl.agents.maml``), but its inner loop moves the head alone:

    theta'_b = (theta_1, ..., theta_{l-1}, theta_l - alpha grad_{theta_l} L_b(theta))

The outer loop is MAML's, and moves all layers: as in the paper's experiments on reinforcement
learning, one step of TRPO on the round after adaptation. Second derivatives are those by the head's
gradient, of which the mixed ones reach the body.

The std of a continuous policy is a weight beside the layers. It is no part of the body, which is
all that the paper takes out of the inner loop, so it adapts with the head (``adapt_std``).
"""

from dataclasses import dataclass

from metarl.adaptation import InnerLoop
from metarl.agents.maml import MamlTrpoConfig
from metarl.checks import check_fields
from metarl.gradient_agent import TrustRegionAgent
from metarl.networks import is_layer, layer_names
from metarl.optimizers import Theta
from metarl.policies import build_policy
from metarl.processes import ALONE, Processes
from metarl.seeding import Streams
from metarl.types import EnvSpec


@dataclass(frozen=True, kw_only=True)
class AnilConfig(MamlTrpoConfig):
    """ANIL with a TRPO outer step."""

    adapt_std: bool = True
    """Whether the std of a continuous policy adapts with the head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(
            self,
            {},
            None
            if self.policy.hidden_sizes
            else "AnilConfig.policy.hidden_sizes must not be empty: without a body ANIL is MAML",
        )


class Anil(TrustRegionAgent):
    """Owns theta, of which the head adapts."""

    def __init__(
        self, spec: EnvSpec, config: AnilConfig, streams: Streams, processes: Processes = ALONE
    ) -> None:
        policy = build_policy(spec, config.policy)
        theta = policy.init(streams)
        head = set(layer_names(len(config.policy.hidden_sizes)))
        beside = {name for name in theta if not is_layer(name)} if config.adapt_std else set()
        loop = InnerLoop(policy, config, frozen=frozenset(theta.keys() - head - beside))
        super().__init__(loop, Theta(theta), config, config.trust_region, processes)
