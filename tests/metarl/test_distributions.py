"""Distributions against torch.distributions, their Fisher information against a Hessian."""

import math

import pytest
import torch
from torch import Tensor
from torch.func import grad, hessian, jvp, vmap

from metarl.distributions import Categorical, DiagGaussian

LARGEST_NOISE = 1.0 - 2.0**-24


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(seed: int) -> DiagGaussian:
    return DiagGaussian(randn(4, 5, 3, seed=seed), 0.5 * randn(4, 5, 3, seed=seed + 100))


def as_torch(ours: DiagGaussian) -> torch.distributions.Distribution:
    normal = torch.distributions.Normal(ours.mean, ours.log_std.exp())
    return torch.distributions.Independent(normal, 1)


def test_gaussian_against_torch() -> None:
    p, q, action = gaussian(1), gaussian(2), randn(4, 5, 3, seed=3)
    torch.testing.assert_close(p.log_prob(action), as_torch(p).log_prob(action))
    torch.testing.assert_close(p.entropy(), as_torch(p).entropy())
    divergence = torch.distributions.kl_divergence(as_torch(p), as_torch(q))
    torch.testing.assert_close(p.kl(q), divergence)


def test_gaussian_sample_shifts_and_scales_the_noise() -> None:
    p, noise = gaussian(1), randn(4, 5, 3, seed=3)
    torch.testing.assert_close(p.sample(noise), p.mean + p.log_std.exp() * noise)


def test_categorical_against_torch() -> None:
    p, q = Categorical(2 * randn(4, 5, 3, seed=1)), Categorical(2 * randn(4, 5, 3, seed=2))
    action = torch.randint(3, (4, 5), generator=torch.Generator().manual_seed(0))
    theirs, others = (torch.distributions.Categorical(logits=d.logits) for d in (p, q))
    torch.testing.assert_close(p.log_prob(action), theirs.log_prob(action))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(p.entropy(), theirs.entropy())  # type: ignore[no-untyped-call]
    torch.testing.assert_close(p.kl(q), torch.distributions.kl_divergence(theirs, others))


@pytest.mark.parametrize("size", [1, 2, 6])
def test_everything_is_summed_over_the_entries_of_an_action(size: int) -> None:
    zero = torch.zeros(size, dtype=torch.float64)
    p, q = DiagGaussian(zero, zero), DiagGaussian(zero + 1, zero)
    half_log = 0.5 * math.log(2 * math.pi)
    assert float(p.log_prob(zero)) == pytest.approx(-size * half_log, rel=1e-14)
    assert float(p.log_prob(zero + 2)) == pytest.approx(-size * (half_log + 2), rel=1e-14)
    assert float(p.entropy()) == pytest.approx(size * (half_log + 0.5), rel=1e-14)
    assert float(p.kl(q)) == pytest.approx(size * 0.5, rel=1e-14)


def test_kl_is_taken_from_self_to_other() -> None:
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    narrow, wide = DiagGaussian(zero, zero), DiagGaussian(zero, one)
    expected = 1.0 + 0.5 * math.exp(-2.0) - 0.5
    assert float(narrow.kl(wide)) == pytest.approx(expected, rel=1e-14)
    even = Categorical(torch.zeros(2, dtype=torch.float64))
    skewed = Categorical(torch.tensor([0.0, math.log(3.0)], dtype=torch.float64))
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert float(even.kl(skewed)) == pytest.approx(expected, rel=1e-14)


def test_gaussian_fisher_product_is_the_hessian_of_kl() -> None:
    at = DiagGaussian(randn(3, seed=1), randn(3, seed=2))

    def divergence(flat: Tensor) -> Tensor:
        return at.kl(DiagGaussian(flat[:3], flat[3:]))

    matrix = hessian(divergence)(torch.cat(at))
    products = [at.fisher_product(DiagGaussian(e[:3], e[3:])) for e in torch.eye(6).double()]
    torch.testing.assert_close(torch.stack([torch.cat(row) for row in products]), matrix)


def test_categorical_fisher_product_is_the_hessian_of_kl() -> None:
    at = Categorical(randn(4, seed=1))
    matrix = hessian(lambda logits: at.kl(Categorical(logits)))(at.logits)
    products = [at.fisher_product(Categorical(e)).logits for e in torch.eye(4).double()]
    torch.testing.assert_close(torch.stack(products), matrix)


def test_fisher_products_of_a_batch_are_those_of_its_members() -> None:
    p, tangent = gaussian(1), gaussian(2)
    c, step = Categorical(randn(4, 3, seed=1)), Categorical(randn(4, 3, seed=2))
    together, apart = p.fisher_product(tangent), vmap(vmap(DiagGaussian.fisher_product))(p, tangent)
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(c.fisher_product(step), vmap(Categorical.fisher_product)(c, step))


def test_even_noise_chooses_by_probability() -> None:
    probs, size = torch.tensor([0.1, 0.25, 0.05, 0.6]), 100_000
    noise = (torch.arange(size) + 0.5) / size
    action = Categorical(probs.log().expand(size, 4)).sample(noise)
    assert action.dtype == torch.int64
    frequency = torch.bincount(action, minlength=4) / size
    torch.testing.assert_close(frequency, probs, rtol=0, atol=3e-5)
    assert (action.diff() >= 0).all()  # the inverse distribution function rises


def test_noise_at_the_edges_gives_a_choice_that_exists() -> None:
    generator = torch.Generator().manual_seed(0)
    for size in (1, 2, 3, 17, 1000):
        p = Categorical(torch.randn(500, size, generator=generator))
        assert (p.sample(torch.zeros(500)) == 0).all()
        last = p.sample(torch.full((500,), LARGEST_NOISE))
        assert ((last >= 0) & (last < size)).all()
    even = Categorical(torch.zeros(1, 3))
    assert even.sample(torch.tensor([LARGEST_NOISE])).tolist() == [2]
    assert Categorical(torch.zeros(2)).sample(torch.tensor(0.5)) == 1


def test_an_impossible_first_choice_is_never_made() -> None:
    p = Categorical(torch.tensor([[-1e4, 0.0, 0.0]]))
    assert p.sample(torch.zeros(1)).tolist() == [1]


def test_both_pass_through_vmap() -> None:
    logits, noise = randn(4, 5, 3, seed=1), torch.rand(4, 5, dtype=torch.float64)

    def choose(row: Tensor, u: Tensor) -> tuple[Categorical, Tensor, Tensor]:
        p = Categorical(row)
        return p, p.sample(u), p.log_prob(p.sample(u))

    p, action, log_prob = vmap(choose)(logits, noise)
    assert isinstance(p, Categorical)
    assert torch.equal(action, Categorical(logits).sample(noise))
    torch.testing.assert_close(log_prob, Categorical(logits).log_prob(action))
    for task in range(4):
        assert torch.equal(action[task], Categorical(logits[task]).sample(noise[task]))

    q, x = gaussian(1), randn(4, 5, 3, seed=3)
    moved, density = vmap(lambda d, z: (d, d.log_prob(d.sample(z))))(q, x)
    assert isinstance(moved, DiagGaussian)
    torch.testing.assert_close(density, q.log_prob(q.sample(x)))


def test_gaussian_score_and_its_tangent_are_the_derivatives_of_log_prob() -> None:
    p, tangent, action = gaussian(5), gaussian(6), randn(4, 5, 3, seed=7)
    score, moved = p.score(action), p.score_tangent(action, tangent)

    def derivative(*leaves: Tensor) -> tuple[Tensor, ...]:
        slopes: tuple[Tensor, ...] = grad(
            lambda *x: DiagGaussian(*x).log_prob(action).sum(), (0, 1)
        )(*leaves)
        return slopes

    expected, bent = jvp(derivative, tuple(p), tuple(tangent))[:2]
    for left, right in zip((*score, *moved), (*expected, *bent), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_categorical_score_and_its_tangent_are_the_derivatives_of_log_prob() -> None:
    logits, tangent = randn(2, 6, 4, seed=8)
    action = torch.arange(6) % 4
    p = Categorical(logits)

    def derivative(x: Tensor) -> Tensor:
        slope: Tensor = grad(lambda leaf: Categorical(leaf).log_prob(action).sum())(x)
        return slope

    expected, bent = jvp(derivative, (logits,), (tangent,))[:2]
    torch.testing.assert_close(p.score(action).logits, expected, rtol=1e-12, atol=1e-12)
    result = p.score_tangent(action, Categorical(tangent)).logits
    torch.testing.assert_close(result, bent, rtol=1e-12, atol=1e-12)
