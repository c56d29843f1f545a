"""What each surrogate keeps of the expected return and its derivatives, by enumeration."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.func import grad, hessian, jacfwd, jacrev, vmap

from metarl.objectives import (
    OBJECTIVES,
    SEPARABLE,
    Objective,
    curvature_control_variate,
    dice,
    dice_of_rewards,
    gradient_control_variate,
)
from tests.metarl.enumerated import (
    HORIZON,
    MASK,
    REWARD,
    THETA,
    TO_GO,
    VALUE,
    chance,
    expected_return,
    log_probs,
)

ELSEWHERE = THETA + torch.tensor([0.2, -0.3, 0.1, 0.4, -0.2, 0.3], dtype=torch.float64)
OLD = chance(THETA)
ADVANTAGES = {"without a baseline": TO_GO, "with a baseline": TO_GO - VALUE}
advantages = pytest.mark.parametrize("signal", ADVANTAGES.values(), ids=ADVANTAGES.keys())
names = pytest.mark.parametrize("name", OBJECTIVES)


def each(objective: Objective, signal: Tensor, theta: Tensor) -> Tensor:
    """Return an objective of every single episode, [16]."""
    inputs = (log_probs(theta), log_probs(THETA), signal, MASK)
    values: Tensor = vmap(objective)(*(x[:, None] for x in inputs))
    return values


def expectation(objective: Objective, signal: Tensor, theta: Tensor) -> Tensor:
    """Expect an objective of one episode that the policy at THETA sampled."""
    return OLD @ each(objective, signal, theta)


def scores() -> tuple[Tensor, Tensor]:
    """Return gradients [16, 2, 6] and Hessians [16, 2, 6, 6] of the log-probabilities."""
    return jacrev(log_probs)(THETA), jacfwd(jacrev(log_probs))(THETA)


def terms(signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the expectations of the Hessian's terms (1), (2) and (3), each with their mean."""
    s, h = scores()
    weighted = OLD[:, None] * signal / HORIZON
    first = torch.einsum("nt,ntij->ij", weighted, h)
    second = torch.einsum("nt,nti,ntj->ij", weighted, s, s)
    cross = torch.einsum("n,ni,nj->ij", weighted[:, 1], s[:, 0], s[:, 1])
    return first, second, cross + cross.T


def test_the_enumeration_is_complete() -> None:
    for theta in (THETA, ELSEWHERE):
        assert float(chance(theta).sum()) == pytest.approx(1.0)
    assert len(OLD) == 16
    assert OLD.min() > 0.001


# --- Values ---


@advantages
def test_dice_is_the_gain_in_return_for_every_policy(signal: Tensor) -> None:
    gain = expected_return(ELSEWHERE) - expected_return(THETA)
    assert gain.abs() > 0.1
    torch.testing.assert_close(expectation(dice, signal, ELSEWHERE), gain)
    # Episode by episode it is 0 where the policy acted.
    assert each(dice, signal, THETA).abs().max() == 0.0


def test_dice_of_rewards_is_the_return_for_every_policy() -> None:
    for theta in (THETA, ELSEWHERE):
        value = expectation(dice_of_rewards, REWARD, theta)
        torch.testing.assert_close(value, expected_return(theta))


def test_ratio_is_the_mean_advantage_and_knows_no_other_states() -> None:
    signal = TO_GO - VALUE
    mean = (OLD @ signal).sum() / HORIZON
    torch.testing.assert_close(expectation(OBJECTIVES["ratio"], signal, THETA), mean)
    gain = expected_return(ELSEWHERE) - expected_return(THETA)
    rise = expectation(OBJECTIVES["ratio"], signal, ELSEWHERE) - mean
    # Its states come from the policy that acted: it misses the change in where episodes lead.
    rho = (log_probs(ELSEWHERE) - log_probs(THETA)).exp()
    by_hand = ((OLD[:, None] * (rho - 1.0) * signal).sum()) / HORIZON
    torch.testing.assert_close(rise, by_hand)
    assert (rise - gain).abs() > 0.01


def test_log_likelihood_has_no_value_of_interest() -> None:
    signal = TO_GO - VALUE
    by_hand = (OLD[:, None] * log_probs(ELSEWHERE) * signal).sum() / HORIZON
    value = expectation(OBJECTIVES["log_likelihood"], signal, ELSEWHERE)
    torch.testing.assert_close(value, by_hand)


# --- Derivatives ---


@names
@advantages
def test_all_have_the_gradient_of_the_return(name: str, signal: Tensor) -> None:
    expected = grad(expected_return)(THETA)
    assert expected.norm() > 0.1
    found = grad(lambda x: expectation(OBJECTIVES[name], signal, x))(THETA)
    torch.testing.assert_close(found, expected)


@advantages
def test_which_terms_each_hessian_keeps(signal: Tensor) -> None:
    exact = hessian(expected_return)(THETA)
    first, second, third = terms(signal)
    torch.testing.assert_close(first + second + third, exact)
    kept = {"log_likelihood": first, "ratio": first + second, "dice": exact}
    for name, expected in kept.items():
        found = hessian(lambda x, f=OBJECTIVES[name]: expectation(f, signal, x))(THETA)
        torch.testing.assert_close(found, expected)
    for term in (first, second, third):
        assert term.norm() > 0.05


def test_with_a_discount_dice_lacks_a_power_of_it_in_one_half_of_the_third_term() -> None:
    gamma = 0.5
    signal = torch.stack((REWARD[:, 0] + gamma * REWARD[:, 1], REWARD[:, 1]), -1)

    def policy_gradient(theta: Tensor) -> Tensor:
        weighted = chance(theta)[:, None] * signal / HORIZON
        return torch.einsum("nt,nti->i", weighted, jacrev(log_probs)(theta))

    first, second, third = terms(signal)
    s, weighted = scores()[0], OLD * signal[:, 1] / HORIZON
    half = torch.einsum("n,ni,nj->ij", weighted, s[:, 0], s[:, 1])
    exact = jacfwd(policy_gradient)(THETA)
    torch.testing.assert_close(first + second + third + (gamma - 1.0) * half, exact)
    found = hessian(lambda x: expectation(dice, signal, x))(THETA)
    torch.testing.assert_close(found, first + second + third)


def test_only_the_log_likelihoods_hessian_depends_on_the_baseline() -> None:
    differs = {}
    for name, objective in OBJECTIVES.items():
        both = [
            hessian(lambda x, f=objective, a=a: expectation(f, a, x))(THETA)
            for a in ADVANTAGES.values()
        ]
        differs[name] = not torch.allclose(*both)
    assert differs == {"log_likelihood": True, "ratio": False, "dice": False}


def test_dice_has_every_derivative_wherever_it_is_taken() -> None:
    for theta in (THETA, ELSEWHERE):
        for order in (grad, hessian, lambda f: jacfwd(hessian(f))):
            found = order(lambda x: expectation(dice, TO_GO - VALUE, x))(theta)
            torch.testing.assert_close(found, order(expected_return)(theta))


# --- Control variates ---


def total(log_prob: Tensor, old: Tensor, step: Tensor, mask: Tensor) -> Tensor:
    """DiCE of rewards with both control variates; ``step`` [E, T, 2] is (reward, value)."""
    reward, value = step.unbind(-1)
    parts = dice_of_rewards(log_prob, old, reward, mask)
    parts = parts + gradient_control_variate(log_prob, old, value, mask)
    return parts + curvature_control_variate(log_prob, old, value, mask)


def test_dice_of_advantages_is_dice_of_rewards_with_both_control_variates() -> None:
    """Episode by episode and for every policy, up to the return, which is a constant."""
    both = torch.stack((REWARD, VALUE), -1)

    left = each(total, both, ELSEWHERE)
    right = each(dice, TO_GO - VALUE, ELSEWHERE) + TO_GO[:, 0] / HORIZON
    torch.testing.assert_close(left, right)


variates = pytest.mark.parametrize("variate", [gradient_control_variate, curvature_control_variate])


@variates
def test_control_variates_have_expectation_zero_in_every_derivative(variate: Objective) -> None:
    for theta in (THETA, ELSEWHERE):
        for order in (grad, hessian, lambda f: jacfwd(hessian(f))):
            found = order(lambda x: expectation(variate, VALUE, x))(theta)
            torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)


def spread(objectives: Sequence[tuple[Objective, Tensor]], order: int) -> float:
    """Return the variance of the gradient (1) or Hessian (2) of one episode's sum of objectives."""

    def sums(theta: Tensor) -> Tensor:
        return torch.stack([each(f, x, theta) for f, x in objectives]).sum(0)

    derivative = jacrev(sums) if order == 1 else jacfwd(jacrev(sums))
    found = derivative(THETA).flatten(1)
    return float(OLD @ ((found - OLD @ found) ** 2).sum(1))


def test_control_variates_take_variance_each_from_its_own_order() -> None:
    plain = [(dice_of_rewards, REWARD)]
    first = [*plain, (gradient_control_variate, VALUE)]
    second = [*first, (curvature_control_variate, VALUE)]
    gradient = [spread(parts, 1) for parts in (plain, first, second)]
    curvature = [spread(parts, 2) for parts in (plain, first, second)]
    assert gradient[1] < 0.9 * gradient[0]
    assert gradient[2] == pytest.approx(gradient[1])
    # The first alone may even add variance to a Hessian, as here.
    assert curvature[2] < 0.7 * min(curvature[:2]), curvature


# --- Batches ---


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loop(name: str, log_prob: Tensor, old: Tensor, signal: Tensor, length: list[int]) -> Tensor:
    terms = []
    for episode, steps in enumerate(length):
        box = torch.ones((), dtype=torch.float64)
        for t in range(steps):
            rho = torch.exp(log_prob[episode, t] - old[episode, t])
            gain = {
                "log_likelihood": log_prob[episode, t],
                "ratio": rho,
                "dice": box * rho - box,
                "rewards": box * rho,
                "gradient": 1.0 - rho,
                "curvature": -(1.0 - box) * (1.0 - rho),
            }[name]
            box = box * rho
            terms.append(gain * signal[episode, t])
    return torch.stack(terms).mean()


FUNCTIONS = OBJECTIVES | {
    "rewards": dice_of_rewards,
    "gradient": gradient_control_variate,
    "curvature": curvature_control_variate,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_episodes_do_not_mix_and_what_is_masked_does_not_matter(name: str) -> None:
    length = [4, 2, 3]
    mask = torch.arange(4) < torch.tensor(length)[:, None]
    log_prob, old, signal = (random(3, 4, seed=seed) for seed in (1, 2, 3))
    dirty = [torch.where(mask, x, y) for x, y in ((log_prob, 400.0), (old, -400.0), (signal, 9.0))]

    def masked(x: Tensor) -> Tensor:
        return FUNCTIONS[name](x, dirty[1], dirty[2], mask)

    def looped(x: Tensor) -> Tensor:
        return by_loop(name, x, old, signal, length)

    torch.testing.assert_close(masked(dirty[0]), looped(log_prob))
    for order in (grad, hessian):
        found, expected = order(masked)(dirty[0]), order(looped)(log_prob)
        torch.testing.assert_close(found, expected)


@names
def test_separable_objectives_are_those_with_a_diagonal_hessian(name: str) -> None:
    log_prob, old, signal = (random(2, 3, seed=seed) for seed in (1, 2, 3))
    mask = torch.ones(2, 3, dtype=torch.bool)
    matrix = hessian(lambda x: OBJECTIVES[name](x, old, signal, mask))(log_prob).view(6, 6)
    off_diagonal = [float(matrix[i, j]) for i, j in itertools.permutations(range(6), 2)]
    assert (name in SEPARABLE) == (max(map(abs, off_diagonal)) == 0.0)


def test_batches_of_tasks_give_what_each_task_gives() -> None:
    log_prob, old, signal = (random(5, 2, 3, seed=seed) for seed in (1, 2, 3))
    mask = random(5, 2, 1, seed=4) < torch.tensor([9.0, 0.5, 0.0])
    for objective in FUNCTIONS.values():
        expected = torch.stack(
            [objective(*(x[k] for x in (log_prob, old, signal, mask))) for k in range(5)]
        )
        torch.testing.assert_close(objective(log_prob, old, signal, mask), expected)
