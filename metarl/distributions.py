"""Action distributions as NamedTuples, which pass through ``vmap`` as objects cannot.

Both have the same methods, so that objectives and the trust region need not know which one they
hold. ``fisher_product`` multiplies a tangent of the parameters by the Fisher information at the
parameters: the Hessian of KL(p || q) with respect to q's parameters at q = p.
"""

import math
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


class DiagGaussian(NamedTuple):
    """A Gaussian with independent entries; action [..., A]."""

    mean: Tensor
    """[..., A]."""
    log_std: Tensor
    """[..., A], natural logarithm of the standard deviation."""

    def sample(self, noise: Tensor) -> Tensor:
        """Turn standard normal noise [..., A] into an action [..., A]."""
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        """Return the likeliest action [..., A]."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log density [...] in nats, summed over the entries of the action."""
        scaled = (action - self.mean) * torch.exp(-self.log_std)
        # Sums first: what follows is then done once for each action, not for each of its entries.
        squares, log_stds = (scaled * scaled).sum(-1), self.log_std.sum(-1)
        return -0.5 * squares - (log_stds + self.mean.shape[-1] * _LOG_SQRT_2PI)

    def score(self, action: Tensor) -> "DiagGaussian":
        """Return the gradient of ``log_prob`` by the parameters: (z / std, z^2 - 1)."""
        inverse = torch.exp(-self.log_std)
        scaled = (action - self.mean) * inverse
        return DiagGaussian(scaled * inverse, scaled * scaled - 1.0)

    def score_tangent(self, action: Tensor, tangent: "DiagGaussian") -> "DiagGaussian":
        """Multiply a tangent by the Hessian of ``log_prob``.

        With z = (action - mean) / std that is -(1 / std^2, 2 z / std; 2 z / std, 2 z^2).
        """
        inverse = torch.exp(-self.log_std)
        scaled = (action - self.mean) * inverse
        # R{z} for R{mean} and R{log_std}.
        moved = torch.addcmul(tangent.mean * inverse, scaled, tangent.log_std).neg_()
        by_mean = torch.addcmul(moved, scaled, tangent.log_std, value=-1.0) * inverse
        return DiagGaussian(by_mean, scaled.mul_(2.0).mul_(moved))

    def entropy(self) -> Tensor:
        """Return the differential entropy [...] in nats."""
        return (self.log_std + 0.5 + _LOG_SQRT_2PI).sum(-1)

    def kl(self, other: "DiagGaussian") -> Tensor:
        """Return KL(self || other) [...] in nats, summed over the entries of the action."""
        ratio = torch.exp(2.0 * (self.log_std - other.log_std))
        shift = (self.mean - other.mean) * torch.exp(-other.log_std)
        twice = 2.0 * (other.log_std - self.log_std).sum(-1) + (ratio - 1.0).sum(-1)
        return 0.5 * (twice + (shift * shift).sum(-1))

    def fisher_product(self, tangent: "DiagGaussian") -> "DiagGaussian":
        """Multiply a tangent by the Fisher information diag(1 / std^2, 2)."""
        return DiagGaussian(tangent.mean * torch.exp(-2.0 * self.log_std), 2.0 * tangent.log_std)


class Categorical(NamedTuple):
    """One of A choices; action [...] int64."""

    logits: Tensor
    """[..., A], log probabilities up to a constant."""

    def sample(self, noise: Tensor) -> Tensor:
        """Turn uniform noise [...] into a choice [...] by the inverse distribution function."""
        cumulative = torch.softmax(self.logits, -1).cumsum(-1)
        # Rounding may leave the last entry below 1, which must not fall to the last choice.
        cumulative = cumulative / cumulative[..., -1:]
        return (noise[..., None] >= cumulative[..., :-1]).sum(-1)

    def mode(self) -> Tensor:
        """Return the likeliest choice [...], the first of several."""
        return self.logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log probability [...] in nats."""
        log_probs = torch.log_softmax(self.logits, -1)
        return log_probs.gather(-1, action[..., None]).squeeze(-1)

    def score(self, action: Tensor) -> "Categorical":
        """Return the gradient of ``log_prob`` by the logits: onehot(action) - p."""
        score = torch.softmax(self.logits, -1).neg_()
        chosen = action[..., None]
        return Categorical(score.scatter_add(-1, chosen, torch.ones_like(score[..., :1])))

    def score_tangent(self, _action: Tensor, tangent: "Categorical") -> "Categorical":
        """Multiply a tangent by the Hessian of ``log_prob``, the same for all actions."""
        return Categorical(self.fisher_product(tangent).logits.neg_())

    def entropy(self) -> Tensor:
        """Return the entropy [...] in nats."""
        log_probs = torch.log_softmax(self.logits, -1)
        return -(log_probs.exp() * log_probs).sum(-1)

    def kl(self, other: "Categorical") -> Tensor:
        """Return KL(self || other) [...] in nats."""
        own, others = torch.log_softmax(self.logits, -1), torch.log_softmax(other.logits, -1)
        return (own.exp() * (own - others)).sum(-1)

    def fisher_product(self, tangent: "Categorical") -> "Categorical":
        """Multiply a tangent by the Fisher information diag(p) - p p^T."""
        probs = torch.softmax(self.logits, -1)
        mean = (probs * tangent.logits).sum(-1, keepdim=True)
        return Categorical(probs * (tangent.logits - mean))


Distribution: TypeAlias = DiagGaussian | Categorical


def kl(p: Distribution, q: Distribution) -> Tensor:
    """Return KL(p || q) [...] in nats of two distributions of one kind."""
    return p.kl(q)  # type: ignore[arg-type]


def detached(distribution: Distribution) -> Distribution:
    """Cut a distribution from the graph that made it."""
    return type(distribution)(*(leaf.detach() for leaf in distribution))


def scaled(distribution: Distribution, factor: Tensor) -> Distribution:
    """Multiply the parameters [..., A] of each distribution by a factor [...]."""
    return type(distribution)(*(leaf * factor[..., None] for leaf in distribution))
