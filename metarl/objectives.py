"""Policy-gradient objectives: one task in, scalar out; batched over tasks from outside.

With pi the policy that is differentiated and pi_old the one that acted, every surrogate here has
the gradient of the expected return at pi = pi_old. They differ in what a second derivative sees.
For an episode, with s_t the gradient and H_t the Hessian of log pi(a_t|s_t) and A_t the advantage,
the Hessian of the expected return is the expectation of the sum over t of

    (1) A_t H_t    (2) A_t s_t s_t^T    (3) A_t sum over j < t of (s_j s_t^T + s_t s_j^T)

* ``log_likelihood`` keeps (1): MAML as published (Finn et al. 2017). What it keeps depends on the
  baseline in A.
* ``ratio`` keeps (1) and (2): the low-variance curvature estimator (Rothfuss et al. 2019, section
  5). Its expectation does not depend on the baseline.
* ``dice`` keeps all of them, and all terms of every higher derivative (Foerster et al. 2018).

That is for advantages of undiscounted returns, less a baseline that knows the time and the state
and was not fitted to the same episodes. With a discount, the derivative of the usual policy
gradient has gamma^(t-j) s_j s_t^T in (3), and ``dice`` has it without the power of gamma. A
baseline or a scale fitted to the E episodes adds errors of order 1/E to all three.

**Which meta-gradient.** theta' = theta + alpha g(theta; D) depends on theta also because theta drew
the data D. Two ways to count that (Rothfuss et al. 2019, section 4), never both together:

* II: theta' follows the expected gradient, whose Jacobian is the Hessian above. ``dice`` estimates
  that Hessian without bias; the adapted return is no linear function of g, so that the
  meta-gradient keeps an error of order 1/E.
* I, E-MAML (Stadie et al. 2018): theta' is judged as the random thing it is. Then D is held fixed
  in the derivative of theta', which is ``log_likelihood``, and ``sampling_credit`` is added to the
  outer objective. That is exact for any number of episodes.

**Control variates.** ``dice`` of advantages is DiCE of rewards with a baseline in every order
(``dice_of_rewards`` + ``gradient_control_variate`` + ``curvature_control_variate``, up to a
constant). The last of these is that of Mao et al. 2019, and the idea of TMAML (Liu et al. 2019). So
``dice`` is how to choose that control variate: there is no switch of its own.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from metarl.returns import masked_mean

InnerObjective: TypeAlias = Literal["log_likelihood", "ratio", "dice"]

Objective: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(log_prob, old_log_prob, advantage, mask), each [E, T], to a scalar [] that is to be raised.

Log-probabilities are in nats; the scalar has the unit of the advantages."""


def log_ratio(log_prob: Tensor, old_log_prob: Tensor, mask: Tensor) -> Tensor:
    """Return log pi(a|s) / pi_old(a|s) in nats, and 0 off the mask; all of one shape, any."""
    # Steps after the end hold no action that the policy chose: their exponent may overflow.
    return torch.where(mask, log_prob - old_log_prob, 0.0)


def clipped(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Return min(r A, clip(r, 1 - clip, 1 + clip) A), entry by entry; shapes as they broadcast.

    Schulman et al. 2017 (PPO), equation 7. Keeps the gradient of r A, and drops it whole where r
    is beyond the range on the side that A asks for: above where A > 0, below where A < 0.
    """
    return torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)


def log_likelihood(log_prob: Tensor, _old: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """Mean [] of log pi(a|s) A over the steps under the mask; all [E, T].

    Its Hessian keeps (1), and drops (2) and (3). Its gradient is the policy gradient at pi = pi_old
    alone, and that of no return elsewhere.
    """
    return masked_mean(log_prob * advantage, mask)


def ratio(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """Mean [] of pi(a|s) / pi_old(a|s) A over the steps under the mask; all [E, T].

    Its Hessian keeps (1) and (2), and drops (3), which joins different steps. Away from pi_old its
    gradient weighs each step by its own ratio, and drops those of the steps before it.
    """
    return masked_mean(torch.exp(log_ratio(log_prob, old_log_prob, mask)) * advantage, mask)


def dice(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """Mean [] over the steps under the mask of A_t (box_t - box_{t-1}); all [E, T].

    Its Hessian keeps (1), (2) and (3), and all terms of every higher derivative: it drops nothing.

    box_t is the product of pi / pi_old over the steps 0 to t of the same episode (Farquhar et al.
    2019, "Loaded DiCE", with lambda = 1). Over episodes of equal length its expectation
    under pi_old is the gain in undiscounted return, J(pi) - J(pi_old), per step: for every pi, and
    so in all derivatives. DiCE as published divides by a copy of pi that is not differentiated,
    which is the same at pi = pi_old. Away from there, where a line search looks, its derivatives
    would describe no function of the weights; the ratio to pi_old is one, at the price of a
    variance that grows with the length of an episode.
    """
    before, own = _weights(log_prob, old_log_prob, mask)
    return masked_mean(before * own * advantage, mask)


OBJECTIVES: dict[str, Objective] = {
    "log_likelihood": log_likelihood,
    "ratio": ratio,
    "dice": dice,
}

SEPARABLE = frozenset({"log_likelihood", "ratio"})
"""Sums over steps of functions of that step's log-probability alone.

Their Hessian in the log-probabilities is diagonal, as ``metarl.mlp_adaptation`` needs it.
"""


def dice_of_rewards(log_prob: Tensor, old_log_prob: Tensor, reward: Tensor, mask: Tensor) -> Tensor:
    """Mean [] over the steps under the mask of r_t box_t, without a baseline; all [E, T].

    As Foerster et al. 2018 publish it. Its derivatives keep every term, as those of ``dice`` do,
    with the sum of later rewards in the place of A_t: the right expectation, a large variance.
    """
    before, own = _weights(log_prob, old_log_prob, mask)
    return masked_mean((before + before * own) * reward, mask)


def gradient_control_variate(
    log_prob: Tensor, old_log_prob: Tensor, value: Tensor, mask: Tensor
) -> Tensor:
    """Mean [] over steps of (1 - pi / pi_old) b: the baseline of the first derivative.

    To be added to ``dice_of_rewards`` (Foerster et al. 2018), whose gradient and terms (1) and (2)
    then have the sum of later rewards less b. Drops none of them in expectation, and takes no
    variance from (3). Without bias for a value b [E, T] that does not know a_t.
    """
    _, own = _weights(log_prob, old_log_prob, mask)
    return masked_mean(-own * value, mask)


def curvature_control_variate(
    log_prob: Tensor, old_log_prob: Tensor, value: Tensor, mask: Tensor
) -> Tensor:
    """Mean [] over steps of -(1 - box_{t-1}) (1 - pi / pi_old) b: the baseline of term (3).

    To be added to the other two (Mao et al. 2019; the idea of TMAML, Liu et al. 2019). Drops
    nothing in expectation, and leaves (1) and (2) alone; b is [E, T]. Value and
    gradient are 0 at pi = pi_old, whatever b. The product box_{t-1} stops before the step: with
    step t in it, a bias of 2 b s_t s_t^T would remain.
    """
    before, own = _weights(log_prob, old_log_prob, mask)
    return masked_mean((1.0 - before) * own * value, mask)


def sampling_credit(log_prob: Tensor, old_log_prob: Tensor, mask: Tensor, credit: Tensor) -> Tensor:
    """Credit the adapted return to the sampling of the episodes that were adapted to (E-MAML).

    Of the meta-gradient it is the term that holding D fixed drops, and no other: R times
    grad_theta log pi_theta(D). The term through theta' is the outer objective's.

    The sum over episodes of credit times log pi(episode) / pi_old(episode). To be added to one
    task's outer objective for every round before the last, each with log-probabilities under the
    policy that acted in it as a function of theta: those of a second round are differentiated
    through the first adaptation. It is 0 in value and right in its first derivative, at
    pi = pi_old. Every episode, with all of its steps, moved theta', so that the logarithms are
    summed, over time and over episodes: a mean would give each step or episode its share only
    (Stadie et al. 2018; Rothfuss et al. 2019, section 4).

    The credit is the task's return after the last adaptation, in the unit of the outer objective (a
    mean over steps of standardised advantages asks for the return per step over the same standard
    deviation). A control variate may be subtracted from the credit of an episode if it does not
    depend on that episode:

    * a constant, or the mean of *other* tasks' returns: no bias. The mean over all K tasks,
      the own included, makes the term smaller by the factor (K - 1) / K.
    * of the same task, what was earned before adaptation by the *other* episodes of that round,
      or after an adaptation without this episode: no bias.
    * the return of the very episode before adaptation, or the mean of the round with this episode
      in it: biased. The first takes away the gradient of the return before adaptation.

    Args:
        log_prob: [E, T] nats, differentiable.
        old_log_prob: [E, T] nats, under the policy that acted.
        mask: [E, T] bool.
        credit: [] for all episodes or [E]; a constant, without a graph.
    """
    return (credit * log_ratio(log_prob, old_log_prob, mask).sum(-1)).sum(-1)


def _weights(log_prob: Tensor, old_log_prob: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return box_{t-1} and pi / pi_old - 1, whose product is box_t - box_{t-1}."""
    own = log_ratio(log_prob, old_log_prob, mask)
    return torch.exp(own.cumsum(-1) - own), torch.expm1(own)
