"""Outer steps by Adam against torch's Adam on the plain path, and their clipped surrogate."""

import math

import pytest
import torch
from torch import Tensor

from metarl.adaptation import Lesson
from metarl.ascent import ascend
from metarl.distributions import DiagGaussian, Distribution
from metarl.linearisation import Term, rise
from metarl.optimizers import MetaOptimizer
from metarl.outer_objectives import (
    clipped_surrogate,
    kl_penalty,
    log_likelihood_surrogate,
    ratio_surrogate,
    sampling_credits,
)
from metarl.types import EnvSpec
from tests.conftest import ByAutograd, mean_weights, random_lesson

SPEC = EnvSpec("test", 2, 2, False, 4, False)
LESSON = random_lesson((3, 2, 4), SPEC, 0)
WEIGHTS = mean_weights(LESSON.mask)
CLIP = 0.2


def gaussians(theta: Tensor) -> DiagGaussian:
    """Means that depend on theta [4] and the observation; log_std is theta's first entry."""
    mean = torch.sin(LESSON.obs @ theta.view(2, 2))
    return DiagGaussian(mean, theta[0].expand_as(mean))


OLD = gaussians(torch.tensor([0.1, 0.6, -0.3, 0.2], dtype=torch.float64))
CREDIT = torch.tensor([0.5, -2.0, 1.25], dtype=torch.float64)


def divergence(theta: Tensor) -> Tensor:
    """KL from OLD, [K, E, T], written out."""
    new, std = gaussians(theta), OLD.log_std.exp()
    squares = (std**2 + (OLD.mean - new.mean) ** 2) / (2 * torch.exp(2 * new.log_std))
    return (new.log_std - OLD.log_std + squares - 0.5).sum(-1)


def by_hand(theta: Tensor, form: str) -> Tensor:
    """The objectives, one sample after the other."""
    new, parts = gaussians(theta).log_prob(LESSON.action), []
    far = divergence(theta)
    for k, e, t in LESSON.mask.nonzero().tolist():
        ratio = torch.exp(new[k, e, t] - LESSON.log_prob[k, e, t])
        advantage = LESSON.advantage[k, e, t]
        value = {
            "ratio": ratio * advantage,
            "clipped": min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage),
            "log_likelihood": new[k, e, t] * advantage,
            "kl": -0.7 * far[k, e, t],
            "credit": CREDIT[k] * (new[k, e, t] - LESSON.log_prob[k, e, t]),
        }[form]
        # A mean over tasks of means over steps; the credit is a sum.
        parts.append(value / (1 if form == "credit" else 3 * LESSON.mask[k].sum()))
    return torch.stack(parts).sum()


def term(form: str) -> Term:
    value = {
        "ratio": ratio_surrogate(LESSON, WEIGHTS),
        "clipped": clipped_surrogate(LESSON, WEIGHTS, CLIP),
        "log_likelihood": log_likelihood_surrogate(LESSON, WEIGHTS),
        "kl": kl_penalty(OLD, WEIGHTS, 0.7),
        "credit": sampling_credits(LESSON, CREDIT),
    }[form]
    return Term(ByAutograd(gaussians, WEIGHTS), value)


START = torch.tensor([0.3, -0.4, 0.2, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("form", ["ratio", "clipped", "log_likelihood", "kl", "credit"])
def test_an_objective_and_its_gradient_are_those_by_hand(form: str) -> None:
    theta = START.clone().requires_grad_()
    expected = by_hand(theta, form)
    (slope,) = torch.autograd.grad(expected, theta)
    value, gradient, _ = rise(term(form), START)
    assert float(value) == pytest.approx(float(expected.detach()), rel=1e-12)
    assert slope.norm() > 1e-2
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-12)


def test_clipping_takes_the_gradient_of_samples_that_have_gone_too_far() -> None:
    clipped, ratio = (rise(term(form), START).gradient for form in ("clipped", "ratio"))
    assert (clipped - ratio).norm() > 1e-2


@pytest.mark.parametrize("form", ["clipped", "log_likelihood"])
def test_steps_are_those_of_adam_on_the_sum_of_terms(form: str) -> None:
    optimizer = MetaOptimizer({"theta": START}, "adam", 0.05)
    metrics = ascend(optimizer, [term(form), term("ratio")], 3)
    theirs = START.clone().requires_grad_()
    adam, values = torch.optim.Adam([theirs], lr=0.05), []
    for _ in range(3):
        adam.zero_grad()
        value = by_hand(theirs, form) + by_hand(theirs, "ratio")
        (-value).backward()  # type: ignore[no-untyped-call]
        values.append(float(value.detach()))
        adam.step()
    torch.testing.assert_close(optimizer.params["theta"], theirs.detach(), rtol=1e-9, atol=1e-11)
    last = float((by_hand(theirs, form) + by_hand(theirs, "ratio")).detach())
    assert metrics["train/surrogate"] == pytest.approx(values[0], rel=1e-10)
    assert metrics["train/surrogate_gain"] == pytest.approx(last - values[0], rel=1e-8)
    old, new = gaussians(START), gaussians(theirs.detach())
    assert metrics["train/approx_kl"] == pytest.approx(float((old.kl(new) * WEIGHTS).sum()))
    assert metrics["train/skipped_steps"] == 0.0


def test_a_gradient_that_is_not_finite_moves_nothing_and_is_counted() -> None:
    optimizer = MetaOptimizer({"theta": START}, "adam", 0.05)
    before = optimizer.state_dict()

    def broken(new: Distribution) -> Tensor:
        return ratio_surrogate(LESSON, WEIGHTS)(new) * math.inf

    metrics = ascend(optimizer, [Term(ByAutograd(gaussians, WEIGHTS), broken)], 2)
    assert metrics["train/skipped_steps"] == 2.0
    for name, leaf in optimizer.state_dict().items():
        assert torch.equal(leaf, before[name]), name


def test_steps_after_an_episodes_end_count_for_nothing() -> None:
    spoilt = LESSON._replace(log_prob=torch.where(LESSON.mask, LESSON.log_prob, -1e6))
    assert isinstance(spoilt, Lesson)

    def values(lesson: Lesson) -> list[Tensor]:
        surrogates = (
            ratio_surrogate(lesson, WEIGHTS),
            clipped_surrogate(lesson, WEIGHTS, CLIP),
            sampling_credits(lesson, CREDIT),
        )
        return [surrogate(gaussians(START)) for surrogate in surrogates]

    for value, other in zip(values(LESSON), values(spoilt), strict=True):
        assert torch.equal(value, other)
