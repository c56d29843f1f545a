"""E-MAML (Stadie et al. 2018): MAML that also learns which episodes to adapt to.

The paper's letters:

* theta: the weights before adaptation (``outer``); U(theta, tau): those adapted to episodes tau.
* tau ~ pi_theta: one task's part of a round before the last. tau' ~ pi_U(theta): of the last.
* R(tau'): return of an episode after adaptation.

The objective is the return after adaptation to episodes that theta itself draws:

    J(theta) = E_{tau ~ pi_theta} E_{tau' ~ pi_U(theta, tau)} [R(tau')]

Its gradient has two terms (equations 5 to 7): MAML's, for tau held fixed, and the one that MAML
drops,

    E[R(tau') grad_theta log pi_theta(tau)],

where log pi_theta(tau) is the sum over all steps of all episodes that were adapted to. The outer
step is that of ``maml-trpo``, for the sum of both terms. Each of several adaptations adds a term of
its own, in which the policy that drew its episodes depends on theta through the earlier ones.

What the paper leaves open:

* The unit of R. MAML's term is a mean over steps of advantages that are standardised per task: a
  return divided by mean length and by what the advantages are divided by. R is divided by the mean
  of that product over all tasks of the last round. A task's own share in it leaves a bias of order
  1/K in the size of its credit; without it, one task that alone found a reward would be credited
  without bound.
* The control variate. From a task's mean R that of the other tasks is subtracted. It knows nothing
  of the task's own episodes, and leaves no bias.
* The weight of the term (``credit_weight``). At 1 it is the gradient above. It is as noisy as a sum
  over all steps of a round is, where MAML's term is a mean over them, and so asks for many tasks or
  for a smaller weight. The released codes of the paper and of Rothfuss et al. 2019 take the mean of
  log pi_theta over steps instead of the sum: a weight of one over the steps of a round.

Log-likelihood is the inner objective: the ratio and DiCE keep in the derivative of U some of what
the credit stands for, which would be counted twice (``metarl.objectives``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from metarl.adaptation import estimate, spread_of
from metarl.agents.maml import MamlTrpo, MamlTrpoConfig
from metarl.checks import NON_NEGATIVE, InputError, check_fields
from metarl.linearisation import Term
from metarl.outer_objectives import ratio_surrogate, sampling_credits
from metarl.protocols import Amounts
from metarl.returns import mean_of_others
from metarl.trust_region import trust_region_update
from metarl.types import Metrics, Trajectories

_ALONE = (
    "tasks_per_update must be at least 2 with EmamlConfig, got 1: the return of a task is credited"
    " by how it compares with that of the others; credit_weight=0 is MAML"
)


@dataclass(frozen=True, kw_only=True)
class EmamlConfig(MamlTrpoConfig):
    """MAML with a TRPO outer step, and credit for the sampling before adaptation."""

    credit_weight: float = 1.0
    """Factor on that credit: 1 for the gradient of the adapted return, 0 for MAML. Long rounds need
    far less than 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        twice = self.credit_weight != 0 and self.inner_objective in ("ratio", "dice")
        check_fields(
            self,
            {"credit_weight": NON_NEGATIVE},
            f"EmamlConfig.inner_objective must be 'log_likelihood', got {self.inner_objective!r}:"
            " its second derivative counts some of the sampling credit a second time"
            if twice
            else None,
        )

    def fault_with(self, amounts: Amounts) -> str | None:
        """Say what is wrong with one task alone, whose return no other one's stands against."""
        if amounts.tasks_per_update > 1 or self.credit_weight == 0:
            return None
        return _ALONE


class Emaml(MamlTrpo):
    """Owns theta, the weights from which every task adapts."""

    config: EmamlConfig

    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        """Take one outer step on the last round, with credit to the sampling of the earlier ones.

        Raises:
            ValueError: there is one task alone, whose return no other one's stands against.
        """
        experience = self.experience(rounds)
        surrogate = ratio_surrogate(experience.last, experience.weights)
        terms = [Term(self.policies(experience), surrogate)]
        if self.config.credit_weight > 0:
            credit = self.config.credit_weight * self.credit(rounds[-1])
            for round_index, lesson in enumerate(experience.lessons):
                policies = self.policies(self.earlier(experience, round_index))
                terms.append(Term(policies, sampling_credits(lesson, credit)))
        config = self.config.trust_region
        return trust_region_update(self.outer, terms, config, self.processes.total)

    def credit(self, last: Trajectories) -> Tensor:
        """Return what each task's episodes before adaptation are credited with, [K].

        The return after adaptation less that of the other tasks, in the unit of the surrogate's
        mean over tasks.
        """
        num_tasks = self.processes.place(len(last.reward)).num_tasks
        if num_tasks == 1:
            raise InputError([_ALONE])
        episodes = last.reward.shape[1]
        earned = last.reward.sum((1, 2)) / episodes
        length = last.mask.sum((1, 2)) / episodes
        spread = spread_of(estimate(last, self.config), last.mask)
        total = self.processes.total
        gain = earned - mean_of_others(earned, num_tasks, total)
        unit = total((length * spread).double().sum())
        return (gain / unit).to(last.reward)
