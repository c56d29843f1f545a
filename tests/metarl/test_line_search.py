"""The line search of a trust-region step, on distributions whose KL one can do by hand."""

import math

import pytest
import torch
from torch import Tensor

from metarl.distributions import DiagGaussian, Distribution
from metarl.linearisation import Term
from metarl.trust_region import TrustRegionConfig, trust_region_step
from tests.conftest import ByAutograd


def unit_gaussians(theta: Tensor) -> DiagGaussian:
    """Two tasks of one step each; theta [A] is the mean of both."""
    mean = theta.expand(2, 1, 1, -1)
    return DiagGaussian(mean, 0.0 * mean)


def gaussian(policies: Distribution) -> DiagGaussian:
    assert isinstance(policies, DiagGaussian)
    return policies


HALVES = torch.full((2, 1, 1), 0.5, dtype=torch.float64)


def test_kl_is_a_mean_over_samples_and_a_sum_over_the_entries_of_an_action() -> None:
    slope = torch.tensor([1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    config = TrustRegionConfig(max_kl=0.02, cg_damping=1e-3)
    theta, metrics = trust_region_step(
        torch.zeros(4, dtype=torch.float64),
        [
            Term(
                ByAutograd(unit_gaussians, HALVES),
                lambda p: (gaussian(p).mean[0, 0, 0] * slope).sum(),
            )
        ],
        config,
    )
    # KL = |theta|^2 / 2, so |theta|^2 = 2 max_kl, a little less for the damping.
    torch.testing.assert_close(theta, slope / 2 * math.sqrt(2 * 0.02 / 1.001))
    assert metrics["train/approx_kl"] == pytest.approx(0.02 / 1.001)
    assert metrics["train/backtracks"] == 0


def test_the_line_search_shortens_until_the_surrogate_rises() -> None:
    theta, metrics = trust_region_step(
        torch.zeros(1, dtype=torch.float64),
        [
            Term(
                ByAutograd(unit_gaussians, HALVES),
                lambda p: (gaussian(p).mean - 1.5 * gaussian(p).mean ** 2)[0].sum(),
            )
        ],
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
        [Term(ByAutograd(narrowing, HALVES), lambda p: -gaussian(p).log_std[0].sum())],
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

    policies = ByAutograd(unit_gaussians, HALVES)
    theta, metrics = trust_region_step(
        start, [Term(policies, surrogate)], TrustRegionConfig(max_backtracks=4)
    )
    assert torch.equal(theta, torch.tensor([0.3, -0.2], dtype=torch.float64))
    assert metrics["train/accepted"] == 0.0
    assert metrics["train/approx_kl"] == 0.0
    assert metrics["train/surrogate_gain"] == 0.0
    # Where the step itself is not finite, nothing is tried.
    assert metrics["train/backtracks"] == (0 if case in ("nan everywhere", "flat") else 4)
