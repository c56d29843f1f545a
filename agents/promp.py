"""ProMP, proximal meta-policy search (Rothfuss et al. 2019, algorithm 1).

The paper's letters:

* theta_o: the weights that collected the rounds; theta: those that move away from it during one
  meta-update (``outer``). theta'_o and theta' are theta_o and theta adapted to a task T.
* D: trajectories of T under pi_theta_o; D': under pi_theta'_o. D is one task's part of
  ``rounds[0]``, D' of the last.
* alpha: step size of the adaptation (``inner_lr``). beta: that of the outer loop (``outer_lr``).
* epsilon: clipping range (``clip``). eta: coefficient of the KL divergence (``kl_coefficient``).
* N: outer steps on the same rounds (``outer_steps``).

The adaptation raises the ratio to the policy that acted, whose second derivative is the
low-variance curvature estimate (section 5):

    theta' = theta + alpha grad_theta J^LR(theta),  J^LR = E_D[pi_theta / pi_theta_o A]

and the outer loop takes N steps of Adam that raise the mean over tasks of (section 6)

    J^ProMP(theta) = J^CLIP(theta') - eta KL(pi_theta_o || pi_theta)
    J^CLIP(theta') = E_D'[min(r A, clip(r, 1 - epsilon, 1 + epsilon) A)]

with r = pi_theta' / pi_theta'_o. Clipping keeps the adapted policy near the one that collected D';
the divergence, at the observations of D, keeps the policy before adaptation near the one that
collected D. Every step adapts anew from the current theta, with the same D weighed by
pi_theta / pi_theta_o.

With several adaptations, every policy but the last has its divergence, at the observations that
it met, and eta multiplies their mean, as in the released code. Its adaptive eta (``adaptive_kl``)
is halved after a meta-update that ended with that divergence below two thirds of a target, and
doubled after one that ended above three halves of it; here one eta serves all adaptations.

Where the paper sums over time, means over a task's steps are taken, as its code does. All
else is MAML's: ``maml-ppo`` is ProMP with eta = 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl import trees
from metarl.agents.maml import MamlPpo, MamlPpoConfig
from metarl.ascent import ascend
from metarl.checks import NON_NEGATIVE, POSITIVE, check_fields, without_effect
from metarl.distributions import Distribution, kl
from metarl.linearisation import Term
from metarl.meta_gradient import AfterAdaptation
from metarl.outer_objectives import clipped_surrogate, kl_penalty
from metarl.processes import ALONE, Processes
from metarl.protocols import Amounts
from metarl.returns import weighted_sum
from metarl.seeding import Streams
from metarl.types import EnvSpec, Metrics, Trajectories


@dataclass(frozen=True, kw_only=True)
class PrompConfig(MamlPpoConfig):
    """PPO's outer steps, and a bound on how far the policies before adaptation go."""

    kl_coefficient: float = 5e-4
    """eta; where it adapts, its start."""
    adaptive_kl: bool = False
    """Whether eta is halved and doubled so that the divergence stays near its target."""
    target_kl: float = 0.01
    """Target of an adaptive eta: mean divergence of the policies before adaptation, in nats."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(
            self,
            {"kl_coefficient": NON_NEGATIVE, "target_kl": POSITIVE},
            "PrompConfig.kl_coefficient must be > 0 with adaptive_kl: 0 stays 0 when doubled"
            if self.adaptive_kl and self.kl_coefficient == 0
            else None,
            *without_effect(self, "adaptive_kl", True, ("target_kl",)),
        )

    def fault_with(self, amounts: Amounts) -> str | None:
        """Say what is wrong with an adaptive eta and no policy before adaptation."""
        if amounts.adaptations or not self.adaptive_kl:
            return None
        return (
            "PrompConfig.adaptive_kl must be False with adaptations=0: there is no policy before"
            " adaptation whose divergence eta could follow"
        )


class Promp(MamlPpo):
    """Owns theta, what Adam remembers of it, and an adaptive eta."""

    def __init__(
        self, spec: EnvSpec, config: PrompConfig, streams: Streams, processes: Processes = ALONE
    ) -> None:
        super().__init__(spec, config, streams, processes)
        self._adaptive, self._target = config.adaptive_kl, config.target_kl
        self._eta = torch.tensor(config.kl_coefficient, dtype=torch.float64)

    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        """Take outer steps on the last round, near the policies that collected the others."""
        experience, eta = self.experience(rounds), float(self._eta)
        num_adaptations = len(experience.lessons)
        explorers = [
            self.policies(self.earlier(experience, round_index))
            for round_index in range(num_adaptations)
        ]
        theta_o = trees.flatten(self.outer.params)
        acted = [policies.distribution(theta_o) for policies in explorers]
        surrogate = clipped_surrogate(experience.last, experience.weights, self.config.clip)
        terms = [Term(self.policies(experience), surrogate)]
        for policies, old in zip(explorers, acted, strict=True):
            share = eta / num_adaptations
            terms.append(Term(policies, kl_penalty(old, policies.weights, share)))
        metrics = ascend(self.outer, terms, self.config.outer_steps, self.processes.total)
        divergence = self._divergence(explorers, acted)
        if self._adaptive:
            self._eta.fill_(next_coefficient(eta, divergence, self._target))
        return metrics | {"train/inner_kl": divergence, "train/kl_coefficient": eta}

    def state_dict(self) -> dict[str, Tensor]:
        """Return theta, what Adam remembers of it, and eta where it adapts."""
        return super().state_dict() | self._own_state()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over a state; raise InputError as ``Theta`` does."""
        own = self._own_state()
        taken = trees.take_over(own, {n: leaf for n, leaf in state.items() if n in own}, "Promp")
        super().load_state_dict({n: leaf for n, leaf in state.items() if n not in own})
        self._eta = taken.get("kl_coefficient", self._eta)

    def _own_state(self) -> dict[str, Tensor]:
        return {"kl_coefficient": self._eta.clone()} if self._adaptive else {}

    def _divergence(
        self, explorers: Sequence[AfterAdaptation], acted: Sequence[Distribution]
    ) -> float:
        """Return the mean KL of the policies before adaptation, from those that acted."""
        if not explorers:
            return 0.0
        theta = trees.flatten(self.outer.params)
        parts = [
            weighted_sum(kl(old, policies.distribution(theta)), policies.weights)
            for policies, old in zip(explorers, acted, strict=True)
        ]
        return float(self.processes.total(torch.stack(parts).mean()))


_LEAST = 1e-12
"""Of an adaptive eta: 0 would stay 0 for ever."""


def next_coefficient(coefficient: float, divergence: float, target: float) -> float:
    """Halve or double eta where the divergence missed its target by more than a factor of 1.5.

    The released code of Rothfuss et al. 2019, after Schulman et al. 2017 (PPO), section 4.
    """
    if divergence < target / 1.5:
        return max(coefficient / 2.0, _LEAST)
    return coefficient * 2.0 if divergence > target * 1.5 else coefficient
