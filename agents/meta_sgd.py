"""Meta-SGD (Li, Zhou, Chen and Li 2017, algorithm 2), with a trust-region outer step.

The paper's letters:

* theta: the weights before adaptation; theta'_i: those adapted to task T_i.
* alpha: a vector of step sizes, one for each weight, learned with theta; its entries may become
  negative, so that alpha o grad L is a direction of its own and not only the gradient's.
* o: the product entry by entry.

Inner loop (equation 1), for each task from its own round:

    theta'_i = theta - alpha o grad_theta L_{T_i}(theta)

with L as for MAML (``metarl.agents.maml``). Outer loop: (theta, alpha) moves so as to lower

    sum_i L_{T_i}(theta'_i)

on new trajectories, differentiated through the adaptation, where grad_alpha L_{T_i}(theta'_i) is
-grad_theta L_{T_i}(theta) o grad L_{T_i}(theta'_i), and nothing more: alpha needs no second
derivative. The paper learns with TRPO outside, as MAML does. Here theta and alpha are one vector
within one trust region: the KL between old and new adapted policies sees both, and so does the
Fisher matrix J^T F J, J being the Jacobian of the adapted policies by both.

Of what the agent knows, leaves ``step_size/<weight>`` are alpha. One round is one step, as in the
paper; in further rounds alpha is the same but for ``later_lr_scale``.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from metarl.adaptation import STEP_SIZE, InnerLoop
from metarl.agents.maml import MamlTrpoConfig
from metarl.checks import UNIT, check_fields, fault_in_choice
from metarl.gradient_agent import TrustRegionAgent
from metarl.optimizers import Theta
from metarl.policies import build_policy
from metarl.processes import ALONE, Processes
from metarl.protocols import Amounts
from metarl.seeding import Streams
from metarl.types import EnvSpec, Params

StepSizes: TypeAlias = Literal["per_weight", "per_layer"]
STEP_SIZES: tuple[StepSizes, ...] = ("per_weight", "per_layer")


@dataclass(frozen=True, kw_only=True)
class MetaSgdConfig(MamlTrpoConfig):
    """Meta-SGD with a TRPO outer step."""

    inner_lr: float = 0.1
    """What every entry of alpha starts from."""
    inner_lr_spread: float = 0.0
    """Entries of alpha start from U[1 - spread, 1 + spread] times inner_lr."""
    step_sizes: StepSizes = "per_weight"
    """Entries of alpha: one for each single weight, or one for each matrix, bias and log_std."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fault = fault_in_choice(self, "step_sizes", STEP_SIZES)
        check_fields(self, {"inner_lr_spread": UNIT}, fault)

    def fault_with(self, amounts: Amounts) -> str | None:
        """Say what is wrong with no adaptation at all; None where there is one."""
        if amounts.adaptations:
            return None
        return (
            "adaptations must be at least 1 with MetaSgdConfig, got 0: step sizes that nothing is"
            " adapted with have no gradient"
        )


class MetaSgd(TrustRegionAgent):
    """Owns theta and alpha."""

    def __init__(
        self, spec: EnvSpec, config: MetaSgdConfig, streams: Streams, processes: Processes = ALONE
    ) -> None:
        policy = build_policy(spec, config.policy)
        theta = policy.init(streams)
        outer = Theta(theta | initial_step_sizes(theta, config, streams))
        loop = InnerLoop(policy, config)
        super().__init__(loop, outer, config, config.trust_region, processes)


def initial_step_sizes(theta: Params, config: MetaSgdConfig, streams: Streams) -> Params:
    """Draw alpha: for each weight a leaf of its shape, or a single number []."""
    alpha: Params = {}
    for name, leaf in theta.items():
        shape = leaf.shape if config.step_sizes == "per_weight" else ()
        uniform = streams.uniform(STEP_SIZE + name, 1, shape)[0]
        factor = 1.0 + config.inner_lr_spread * (2.0 * uniform - 1.0)
        alpha[STEP_SIZE + name] = config.inner_lr * factor
    return alpha
