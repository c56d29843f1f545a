"""Policy-gradient objectives: one task in, scalar out; batched over tasks from outside.

Both surrogates have the gradient of the expected return at the policy that acted. They differ in
what a second derivative sees (Rothfuss et al. 2019, section 4): with pi the policy that is
differentiated and pi_old the policy that acted,

* ``log_likelihood``: E[log pi(a|s) A], as published for MAML (Finn et al. 2017). Its Hessian keeps
  E[A grad^2 log pi] and drops E[A grad log pi grad log pi^T].
* ``ratio``: E[pi(a|s) / pi_old(a|s) A], the low-variance curvature estimator. Its Hessian at
  pi = pi_old keeps both of those terms and drops the products of log-probability gradients of
  *different* time steps.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from metarl.returns import masked_mean

InnerObjective: TypeAlias = Literal["log_likelihood", "ratio"]

Objective: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(log_prob, old_log_prob, advantage, mask), each [E, T], to a scalar that is to be raised.

A sum over steps, each of which depends on its own log-probability: ``metarl.mlp_adaptation`` builds
on that.
"""


def log_likelihood(log_prob: Tensor, _old: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """Mean of log pi(a|s) A over the steps under the mask."""
    return masked_mean(log_prob * advantage, mask)


def ratio(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """Mean of pi(a|s) / pi_old(a|s) A over the steps under the mask."""
    # Steps after the end hold no action that the policy chose: their exponent may overflow.
    exponent = torch.where(mask, log_prob - old_log_prob, 0.0)
    return masked_mean(torch.exp(exponent) * advantage, mask)


OBJECTIVES: dict[str, Objective] = {"log_likelihood": log_likelihood, "ratio": ratio}
