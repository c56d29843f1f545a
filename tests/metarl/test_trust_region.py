"""The trust region against full matrices: conjugate gradient, Fisher products, accepted steps."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.func import hessian

from metarl import trees
from metarl.adaptation import InnerConfig, Lesson, adapt_stacked, begin_stacked
from metarl.distributions import Categorical, DiagGaussian, Distribution
from metarl.objectives import InnerObjective
from metarl.policies import (
    CategoricalPolicy,
    GaussianPolicy,
    Policy,
    PolicyConfig,
    stacked_distribution,
)
from metarl.seeding import Streams
from metarl.trust_region import (
    TrustRegionConfig,
    conjugate_gradient,
    fisher_product,
    trust_region_step,
)

TASKS, EPISODES, HORIZON = 3, 2, 4
LENGTHS = torch.tensor([[4, 2], [3, 3], [1, 4]])


class Setting:
    """A tiny policy, random lessons with masks, and the map from theta to adapted policies."""

    def __init__(self, discrete: bool, objective: InnerObjective, steps: int) -> None:
        generator = torch.Generator().manual_seed(7)

        def randn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        kind = CategoricalPolicy if discrete else GaussianPolicy
        self.policy: Policy = kind((2, 3, 3 if discrete else 2), PolicyConfig(init_std=0.7))
        self.like = {name: leaf.double() for name, leaf in self.policy.init(Streams(0)).items()}
        self.theta = trees.flatten(self.like) + 0.1 * randn(trees.flatten(self.like).numel())
        self.config = InnerConfig(inner_lr=0.25, inner_objective=objective)
        shape = (TASKS, EPISODES, HORIZON)
        choices = torch.randint(3, shape, generator=generator)
        self.lessons = [
            Lesson(
                obs=randn(*shape, 2),
                action=choices.roll(i, -1) if discrete else randn(*shape, 2),
                log_prob=-1.5 + 0.3 * randn(*shape),
                advantage=randn(*shape),
                mask=torch.arange(HORIZON) < LENGTHS.roll(i, 0)[..., None],
            )
            for i in range(steps + 1)
        ]
        mask = self.lessons[-1].mask
        self.weights = mask.double() / mask.sum((1, 2), keepdim=True).double() / TASKS

    def after(self, theta: Tensor) -> Distribution:
        adapted = begin_stacked(trees.unflatten(theta, self.like), TASKS)
        for lesson in self.lessons[:-1]:
            adapted = adapt_stacked(self.policy, adapted, lesson, self.config)
        return stacked_distribution(self.policy, adapted, self.lessons[-1].obs)

    def surrogate(self, distribution: Distribution) -> Tensor:
        last = self.lessons[-1]
        ratio = torch.exp(distribution.log_prob(last.action) - last.log_prob)
        return (ratio * last.advantage * self.weights).sum()


def divergence(old: Distribution, new: Distribution) -> Tensor:
    """KL(old || new) at every sample, written out once more."""
    if isinstance(old, DiagGaussian) and isinstance(new, DiagGaussian):
        std, other = old.log_std.exp(), new.log_std.exp()
        squares = (std**2 + (old.mean - new.mean) ** 2) / (2 * other**2)
        return (torch.log(other / std) + squares - 0.5).sum(-1)
    assert isinstance(old, Categorical)
    assert isinstance(new, Categorical)
    probs, others = old.logits.softmax(-1), new.logits.softmax(-1)
    return (probs * torch.log(probs / others)).sum(-1)


def mean_divergence(old: Distribution, new: Distribution, mask: Tensor) -> Tensor:
    """Mean over tasks of the mean over a task's steps under the mask."""
    every = divergence(old, new)
    return torch.stack([every[k][mask[k]].mean() for k in range(len(mask))]).mean()


def detached(distribution: Distribution) -> Distribution:
    return type(distribution)(*(leaf.detach() for leaf in distribution))


settings = pytest.mark.parametrize(
    ("discrete", "objective", "steps"),
    list(itertools.product([False, True], ["log_likelihood", "ratio"], [0, 1, 2])),
)


def positive_definite(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return root @ root.T + torch.eye(size), torch.randn(size, generator=generator).double()


def test_conjugate_gradient_solves() -> None:
    matrix, b = positive_definite(8)
    solution = conjugate_gradient(lambda v: matrix @ v, b, 30, tolerance=1e-24)
    expected = torch.linalg.solve(matrix, b)
    torch.testing.assert_close(solution.x, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(solution.curvature, expected @ matrix @ expected)


@pytest.mark.parametrize("iterations", [1, 2, 4])
def test_conjugate_gradient_cut_short_is_best_in_its_krylov_space(iterations: int) -> None:
    matrix, b = positive_definite(8)
    solution = conjugate_gradient(lambda v: matrix @ v, b, iterations)
    basis = torch.stack([torch.linalg.matrix_power(matrix, i) @ b for i in range(iterations)], 1)
    basis = torch.linalg.qr(basis).Q
    expected = basis @ torch.linalg.solve(basis.T @ matrix @ basis, basis.T @ b)
    torch.testing.assert_close(solution.x, expected, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(solution.curvature, expected @ matrix @ expected)


def test_conjugate_gradient_stops_when_it_is_there() -> None:
    calls = []

    def product(v: Tensor) -> Tensor:
        calls.append(v)
        return 2.0 * v

    zero = conjugate_gradient(product, torch.zeros(3), 10)
    assert torch.equal(zero.x, torch.zeros(3))
    assert not calls
    assert conjugate_gradient(product, torch.ones(3), 10).x.tolist() == [0.5, 0.5, 0.5]
    assert len(calls) == 1


@settings
def test_fisher_product_is_the_hessian_of_the_mean_kl_after_adaptation(
    discrete: bool, objective: InnerObjective, steps: int
) -> None:
    setting = Setting(discrete, objective, steps)
    mask = setting.lessons[-1].mask
    old = detached(setting.after(setting.theta))
    matrix = hessian(lambda x: mean_divergence(old, setting.after(x), mask))(setting.theta)
    assert torch.linalg.eigvalsh(matrix)[-1] > 1e-2
    theta = setting.theta.clone().requires_grad_()
    product = fisher_product(theta, setting.after(theta), setting.weights)
    columns = torch.stack([product(e) for e in torch.eye(len(theta), dtype=torch.float64)])
    torch.testing.assert_close(columns, matrix, rtol=1e-8, atol=1e-10)


@settings
def test_an_accepted_step_is_the_scaled_natural_gradient_and_keeps_its_promises(
    discrete: bool, objective: InnerObjective, steps: int
) -> None:
    setting = Setting(discrete, objective, steps)
    mask, config = setting.lessons[-1].mask, TrustRegionConfig(cg_damping=0.1, cg_iterations=60)
    old = detached(setting.after(setting.theta))
    before = setting.surrogate(old)
    start = setting.theta.clone()
    new_theta, metrics = trust_region_step(
        setting.theta, setting.after, setting.surrogate, setting.weights, config
    )
    assert torch.equal(setting.theta, start)
    assert not new_theta.requires_grad
    assert metrics["train/accepted"] == 1.0

    matrix = hessian(lambda x: mean_divergence(old, setting.after(x), mask))(start)
    matrix += 0.1 * torch.eye(len(start))
    leaf = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(setting.surrogate(setting.after(leaf)), leaf)
    direction = torch.linalg.solve(matrix, gradient)
    step = math.sqrt(2.0 * 0.01 / float(direction @ matrix @ direction)) * direction
    shrunk = 0.8 ** metrics["train/backtracks"] * step
    assert (new_theta - start - shrunk).norm() < 1e-3 * shrunk.norm()

    new = setting.after(new_theta)
    gain, kl = float(setting.surrogate(new) - before), float(mean_divergence(old, new, mask))
    assert gain > 0.0
    assert kl <= 0.01
    assert metrics["train/surrogate"] == pytest.approx(float(before), rel=1e-12)
    assert metrics["train/surrogate_gain"] == pytest.approx(gain, rel=1e-9)
    assert metrics["train/approx_kl"] == pytest.approx(kl, rel=1e-9)
    assert metrics["train/gradient_norm"] == pytest.approx(float(gradient.norm()), rel=1e-12)


def unit_gaussians(theta: Tensor) -> DiagGaussian:
    """Two tasks of one step each; theta [A] is the mean of both."""
    mean = theta.expand(2, 1, 1, -1)
    return DiagGaussian(mean, 0.0 * mean)


HALVES = torch.full((2, 1, 1), 0.5, dtype=torch.float64)


def test_kl_is_a_mean_over_samples_and_a_sum_over_the_entries_of_an_action() -> None:
    slope = torch.tensor([1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    config = TrustRegionConfig(max_kl=0.02, cg_damping=1e-3)
    theta, metrics = trust_region_step(
        torch.zeros(4, dtype=torch.float64),
        unit_gaussians,
        lambda p: (p.mean[0, 0, 0] * slope).sum(),  # type: ignore[union-attr]
        HALVES,
        config,
    )
    # KL = |theta|^2 / 2, so |theta|^2 = 2 max_kl, a little less for the damping.
    torch.testing.assert_close(theta, slope / 2 * math.sqrt(2 * 0.02 / 1.001))
    assert metrics["train/approx_kl"] == pytest.approx(0.02 / 1.001)
    assert metrics["train/backtracks"] == 0


def test_the_line_search_shortens_until_the_surrogate_rises() -> None:
    theta, metrics = trust_region_step(
        torch.zeros(1, dtype=torch.float64),
        unit_gaussians,
        lambda p: (p.mean - 1.5 * p.mean**2)[0].sum(),  # type: ignore[union-attr]
        HALVES,
        TrustRegionConfig(max_kl=0.5, cg_damping=0.0, backtrack_ratio=0.8),
    )
    # Full step 1; x - 1.5 x^2 is negative at 1 and 0.8, positive at 0.64.
    torch.testing.assert_close(theta, torch.tensor([0.64], dtype=torch.float64))
    assert metrics["train/backtracks"] == 2
    assert metrics["train/surrogate_gain"] == pytest.approx(0.64 - 1.5 * 0.64**2)
    assert metrics["train/approx_kl"] == pytest.approx(0.64**2 / 2)


def narrowing(theta: Tensor) -> DiagGaussian:
    log_std = theta.expand(2, 1, 1, -1)
    return DiagGaussian(0.0 * log_std, log_std)


def kl_of_narrowing(by: float) -> float:
    return -by + 0.5 * (math.exp(2 * by) - 1)


def narrow(max_backtracks: int) -> tuple[Tensor, dict[str, float]]:
    config = TrustRegionConfig(
        max_kl=0.25, cg_damping=0.0, backtrack_ratio=0.9, max_backtracks=max_backtracks
    )
    start = torch.zeros(1, dtype=torch.float64)
    return trust_region_step(
        start,
        narrowing,
        lambda p: -p.log_std[0].sum(),  # type: ignore[union-attr]
        HALVES,
        config,
    )


def test_the_line_search_shortens_until_the_kl_is_within_its_bound() -> None:
    trials = [0.5 * 0.9**i for i in range(15)]  # the Fisher information of log_std is 2
    first = next(i for i, by in enumerate(trials) if kl_of_narrowing(by) <= 0.25)
    assert first > 0
    theta, metrics = narrow(max_backtracks=first + 1)
    assert metrics["train/backtracks"] == first
    assert float(theta[0]) == pytest.approx(-trials[first])
    assert metrics["train/approx_kl"] == pytest.approx(kl_of_narrowing(trials[first]))
    theta, metrics = narrow(max_backtracks=first)
    assert (float(theta[0]), metrics["train/accepted"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    "case", ["nan everywhere", "nan away from theta", "inf away from theta", "falls", "flat"]
)
def test_a_step_that_cannot_be_trusted_is_refused(case: str) -> None:
    start = torch.tensor([0.3, -0.2], dtype=torch.float64)

    def surrogate(p: Distribution) -> Tensor:
        mean = p[0][0, 0, 0]
        if case == "nan everywhere":
            return mean.sum() * float("nan")
        if case.endswith("away from theta"):
            return torch.where(mean == start, mean, float(case[:3])).sum()
        moved = (mean != start).any()
        return (
            torch.where(moved, mean.sum() - 100.0, mean.sum()) if case == "falls" else 0 * mean[0]
        )

    theta, metrics = trust_region_step(
        start, unit_gaussians, surrogate, HALVES, TrustRegionConfig(max_backtracks=4)
    )
    assert torch.equal(theta, torch.tensor([0.3, -0.2], dtype=torch.float64))
    assert metrics["train/accepted"] == 0.0
    assert metrics["train/approx_kl"] == 0.0
    assert metrics["train/surrogate_gain"] == 0.0
    assert metrics["train/backtracks"] == 4
