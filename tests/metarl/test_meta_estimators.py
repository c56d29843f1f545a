"""Meta-gradients of the two formulations, enumerated over every batch that could be drawn.

J(theta) is the return per step. An adaptation is theta' = theta + alpha g(theta; D), where g is the
same for every surrogate at the policy that drew D, and its derivative is not.
"""

import pytest
import torch
from torch import Tensor
from torch.func import grad, hessian, jacrev, vmap

from metarl.adaptation import Lesson
from metarl.objectives import InnerObjective, ratio, sampling_credit
from tests.metarl.enumerated import (
    ALPHA,
    HORIZON,
    MASK,
    THETA,
    TO_GO,
    VALUE,
    adapt,
    batches,
    chance,
    expected_return,
    lessons,
    log_probs,
)

ADVANTAGE = TO_GO - VALUE
steps_of = pytest.mark.parametrize("steps", [1, 2])
EYE = torch.eye(6, dtype=torch.float64)
returns = vmap(expected_return)


def norm(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x))


# --- Formulation II: adaptation by the expected gradient ---


def expected_lesson(old: Tensor) -> Lesson:
    """Make a task of all episodes whose mean is the expectation under ``old``."""
    weighted = ADVANTAGE * (16 * chance(old.detach()))[:, None]
    return lessons(torch.arange(16)[None], old.detach(), weighted)


def expected_meta_gradient(name: InnerObjective, steps: int) -> Tensor:
    """Differentiate J after adaptations to as many episodes as one likes, held fixed."""
    theta = THETA.clone().requires_grad_()
    adapted = theta
    for _ in range(steps):
        adapted = adapt(adapted, expected_lesson(adapted), name)[0]
    (gradient,) = torch.autograd.grad(expected_return(adapted), theta)
    return gradient


def exactly_adapted(theta: Tensor, steps: int) -> list[Tensor]:
    path = [theta]
    for _ in range(steps):
        path.append(path[-1] + ALPHA * grad(expected_return)(path[-1]))
    return path


def exact_second(steps: int) -> Tensor:
    gradient: Tensor = grad(lambda x: expected_return(exactly_adapted(x, steps)[-1]))(THETA)
    return gradient


@steps_of
def test_with_many_episodes_dice_has_the_meta_gradient(steps: int) -> None:
    found, expected = expected_meta_gradient("dice", steps), exact_second(steps)
    torch.testing.assert_close(found, expected)
    # The derivative of an adaptation matters here.
    first_order = grad(expected_return)(exactly_adapted(THETA, steps)[-1])
    assert norm(first_order - expected) > 0.1 * norm(expected)


def kept_hessian(name: str, at: Tensor) -> Tensor:
    """Return the Hessian without what a surrogate drops, from enumerated scores."""
    s, weighted = jacrev(log_probs)(at), chance(at)[:, None] * ADVANTAGE / HORIZON
    cross = torch.einsum("n,ni,nj->ij", weighted[:, 1], s[:, 0], s[:, 1])
    kept: Tensor = hessian(expected_return)(at) - cross - cross.T
    if name == "log_likelihood":
        kept = kept - torch.einsum("nt,nti,ntj->ij", weighted, s, s)
    return kept


@steps_of
@pytest.mark.parametrize("name", ["log_likelihood", "ratio"])
def test_others_have_the_meta_gradient_of_the_hessian_they_keep(
    name: InnerObjective, steps: int
) -> None:
    *starts, end = exactly_adapted(THETA, steps)
    expected = grad(expected_return)(end)
    for at in reversed(starts):
        expected = (EYE + ALPHA * kept_hessian(name, at)) @ expected
    found, exact = expected_meta_gradient(name, steps), exact_second(steps)
    torch.testing.assert_close(found, expected)
    assert norm(found - exact) > 0.2 * norm(exact)


def sampled_meta_gradient(name: InnerObjective, episodes: int) -> Tensor:
    """Expect the meta-gradient after one adaptation to E sampled episodes."""
    batch, theta = batches(episodes), THETA.clone().requires_grad_()
    adapted = adapt(theta, lessons(batch, THETA, ADVANTAGE), name)
    probability = chance(THETA)[batch].prod(-1)
    (gradient,) = torch.autograd.grad(probability @ returns(adapted), theta)
    return gradient


def test_with_few_episodes_dice_has_an_error_that_falls_with_their_number() -> None:
    exact = exact_second(1)
    errors = [norm(sampled_meta_gradient("dice", e) - exact) / norm(exact) for e in (1, 2, 3)]
    assert errors[1] < 0.65 * errors[0]
    assert 0.05 < errors[2] < 0.75 * errors[1]


# --- Formulation I: adaptation is random, and theta chose its distribution ---


def after_every_draw(
    theta: Tensor, episodes: int, steps: int, name: InnerObjective
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Adapt to every sequence of batches, each of E episodes.

    Returns the results [B, 6], the batches [B, steps, E], and the policies [B, 6] that drew them.
    """
    choice, num = batches(episodes), 16**episodes
    drawn = torch.cartesian_prod(*[torch.arange(num)] * steps).view(-1, steps)
    policies = [theta.expand(len(drawn), 6)]
    for step in range(steps):
        lesson = lessons(choice[drawn[:, step]], policies[-1], ADVANTAGE)
        policies.append(adapt(policies[-1], lesson, name))
    return policies[-1], choice[drawn], policies[:-1]


def probability(drawn: Tensor, policies: list[Tensor]) -> Tensor:
    """Return how likely each sequence of batches is, differentiable in the policies."""
    parts = [vmap(chance)(p).gather(1, drawn[:, i]).prod(-1) for i, p in enumerate(policies)]
    return torch.stack(parts).prod(0)


def exact_first(episodes: int, steps: int) -> Tensor:
    """Differentiate the enumerated expectation itself: d/dtheta E[J(theta')]."""
    theta = THETA.clone().requires_grad_()
    adapted, drawn, policies = after_every_draw(theta, episodes, steps, "log_likelihood")
    expectation = probability(drawn, policies) @ returns(adapted)
    (gradient,) = torch.autograd.grad(expectation, theta)
    return gradient


def credit_of(drawn: Tensor, policies: list[Tensor], credit: Tensor) -> Tensor:
    """Return ``sampling_credit`` of every sequence of batches, summed over rounds."""

    def one(policy: Tensor, rows: Tensor, credit: Tensor) -> Tensor:
        log_prob = log_probs(policy)[rows]
        return sampling_credit(log_prob, log_prob.detach(), MASK[rows], credit)

    rounds = [vmap(one)(policy, drawn[:, i], credit) for i, policy in enumerate(policies)]
    return torch.stack(rounds).sum(0)


def estimated(name: InnerObjective, episodes: int, steps: int, credited: bool) -> Tensor:
    """Expect the gradient of the adapted return, with or without the sampling credit."""
    theta = THETA.clone().requires_grad_()
    adapted, drawn, policies = after_every_draw(theta, episodes, steps, name)
    outer = returns(adapted)
    if credited:
        outer = outer + credit_of(drawn, policies, outer.detach())
    weights = probability(drawn, policies).detach()
    (gradient,) = torch.autograd.grad(weights @ outer, theta)
    return gradient


cases = pytest.mark.parametrize(("episodes", "steps"), [(1, 1), (2, 1), (1, 2)])


@cases
def test_log_likelihood_with_the_sampling_credit_is_exact(episodes: int, steps: int) -> None:
    exact = exact_first(episodes, steps)
    torch.testing.assert_close(estimated("log_likelihood", episodes, steps, True), exact)
    without = estimated("log_likelihood", episodes, steps, False)
    assert norm(without - exact) > 0.1 * norm(exact)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", ["ratio", "dice"])
def test_others_with_the_sampling_credit_count_twice(name: InnerObjective, steps: int) -> None:
    exact = exact_first(1, steps)
    found = estimated(name, 1, steps, True)
    assert norm(found - exact) > 0.03 * norm(exact)


def test_what_dice_counts_twice() -> None:
    """With the credit, its terms (2) and (3) come on top: alpha E[H' grad J(theta')]."""
    adapted = after_every_draw(THETA, 1, 1, "dice")[0]
    s = jacrev(log_probs)(THETA)
    whole = s.cumsum(1)
    before = whole - s
    outer = torch.einsum("nti,ntj->ntij", whole, whole)
    outer = outer - torch.einsum("nti,ntj->ntij", before, before)
    extra = torch.einsum("nt,ntij->nij", ADVANTAGE / HORIZON, outer)
    slopes = vmap(grad(expected_return))(adapted)
    twice = torch.einsum("n,nij,nj->i", chance(THETA), ALPHA * extra, slopes)
    found = estimated("dice", 1, 1, True)
    torch.testing.assert_close(found - exact_first(1, 1), twice)


def test_a_sampled_return_is_credit_enough() -> None:
    """One episode after the adaptation serves both terms, by the ratio and as credit."""
    theta = THETA.clone().requires_grad_()
    adapted, drawn, policies = after_every_draw(theta, 1, 1, "log_likelihood")
    after = vmap(log_probs)(adapted)
    earned = TO_GO[:, 0] / HORIZON

    def outer(log_prob: Tensor) -> Tensor:
        rows = (log_prob, log_prob.detach(), TO_GO, MASK)
        return vmap(ratio)(*(x[:, None] for x in rows))

    judged = vmap(outer)(after)  # [batch, last episode]
    pairs = probability(drawn, policies).detach()[:, None] * vmap(chance)(adapted).detach()
    total = (pairs * judged).sum()
    for last in range(16):
        credit = earned[last].expand(16)
        total = total + pairs[:, last] @ credit_of(drawn, policies, credit)
    (gradient,) = torch.autograd.grad(total, theta)
    torch.testing.assert_close(gradient, exact_first(1, 1))


# --- Control variates of the credit ---


def pre_adaptation_term(episodes: int, variate: Tensor | None = None) -> Tensor:
    """Expect the gradient of the credit alone, less a variate [B] or [B, E] from the credit."""
    theta = THETA.clone().requires_grad_()
    adapted, drawn, _ = after_every_draw(THETA, episodes, 1, "log_likelihood")
    credit = returns(adapted)[:, None].expand(-1, episodes)
    credit = credit if variate is None else credit - variate
    term = credit_of(drawn, [theta.expand(len(drawn), 6)], credit)
    (gradient,) = torch.autograd.grad(chance(THETA)[drawn[:, 0]].prod(-1) @ term, theta)
    return gradient


PLAIN = pre_adaptation_term(2)
EARNED = TO_GO[batches(2), 0] / HORIZON
"""[256 batches, 2 episodes]: return per step before adaptation."""


def test_a_constant_and_what_the_other_episode_earned_leave_no_bias() -> None:
    assert norm(PLAIN) > 0.1
    allowed = (torch.full((256, 2), 3.0, dtype=torch.float64), EARNED.flip(-1))
    for variate in allowed:
        torch.testing.assert_close(pre_adaptation_term(2, variate), PLAIN)


def test_what_the_episode_itself_earned_takes_the_gradient_before_adaptation_away() -> None:
    before = grad(expected_return)(THETA)
    torch.testing.assert_close(pre_adaptation_term(2, EARNED), PLAIN - 2 * before)
    # The round's mean holds half of it.
    mean = EARNED.mean(-1, keepdim=True).expand(-1, 2)
    torch.testing.assert_close(pre_adaptation_term(2, mean), PLAIN - before)


def test_the_mean_of_other_tasks_is_free_and_the_mean_of_all_shrinks_the_term() -> None:
    theta = THETA.clone().requires_grad_()
    adapted, drawn, _ = after_every_draw(THETA, 1, 1, "log_likelihood")
    credit = returns(adapted)
    both = torch.cartesian_prod(torch.arange(16), torch.arange(16))  # draws of two tasks
    weights = chance(THETA)[both].prod(-1)

    def term(variate: Tensor) -> Tensor:
        rows = drawn[both[:, 0]]
        value = credit_of(rows, [theta.expand(256, 6)], credit[both[:, 0]] - variate)
        (gradient,) = torch.autograd.grad(weights @ value, theta)
        return gradient

    plain = pre_adaptation_term(1)
    torch.testing.assert_close(term(credit[both[:, 1]]), plain)
    torch.testing.assert_close(term(credit[both].mean(-1)), plain / 2)


# --- The term as a function ---


def test_sampling_credit_by_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    log_prob, old = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    credit, length = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64), [4, 2, 3]
    mask = torch.arange(4) < torch.tensor(length)[:, None]
    expected = sum(
        float(credit[e] * (log_prob[e, t] - old[e, t])) for e in range(3) for t in range(length[e])
    )
    dirty = torch.where(mask, log_prob, torch.inf)
    assert float(sampling_credit(dirty, old, mask, credit)) == pytest.approx(expected)
    slope = grad(sampling_credit)(dirty, old, mask, credit)
    torch.testing.assert_close(slope, credit[:, None] * mask)
    one = sampling_credit(log_prob, old, mask, torch.tensor(2.0).double())
    assert float(one) == pytest.approx(2 * float((log_prob - old)[mask].sum()))
