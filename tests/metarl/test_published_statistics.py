"""Statistics against the library that was published with them.

Numbers are those of rliable 1.2.0 (with arch 7.2.0, scipy 1.17.1 and numpy 2.4.6), seed 0.
"""

import functools
from collections.abc import Sequence

import numpy as np
import pytest

from metarl.bootstrap import Bootstrap, Interval, Statistic, bootstrap_interval
from metarl.statistics import (
    improvement_interval,
    iqm_of_runs,
    mean_of_runs,
    median_of_tasks,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    profile_interval,
)

X = np.array(
    [
        [0.12, 1.40, -0.55, 0.71],
        [0.31, 1.15, -0.20, 0.42],
        [0.05, 1.90, -0.35, 0.95],
        [0.58, 1.40, -0.80, 0.10],
        [0.27, 1.05, 0.15, 0.66],
    ]
)
Y = np.array([[0.12, 0.90, -0.40, 0.80], [0.44, 1.40, -0.95, 0.30], [-0.10, 1.22, -0.35, 0.15]])
THRESHOLDS = [-0.5, -0.2, 0.1, 0.4, 0.7, 1.4]


def assert_close(ends: Interval, expected: Sequence[Sequence[float] | float], by: float) -> None:
    np.testing.assert_allclose(ends, expected, rtol=0, atol=by)


# The library drew 50,000 samples, and 10,000 for the probability of improvement; ours are 20,000.
# Ends may differ by what two drawings differ.
@pytest.mark.parametrize(
    ("statistic", "runs_drawn", "tasks_drawn"),
    [
        (iqm_of_runs, (0.274, 0.568), (-0.2, 1.23)),
        (mean_of_runs, (0.345, 0.589), (-0.1325, 1.105)),
        (median_of_tasks, (0.266, 0.563), (-0.3, 1.32)),
        (functools.partial(optimality_gap, target=0.5), (0.214, 0.3835), (0.032, 0.677)),
    ],
)
def test_intervals_are_those_of_the_published_library(
    statistic: Statistic,
    runs_drawn: tuple[float, float],
    tasks_drawn: tuple[float, float],
) -> None:
    rng = np.random.default_rng(0)
    ours = Bootstrap(runs="per task", samples=20_000)
    assert_close(bootstrap_interval(X, statistic, rng, ours), runs_drawn, 0.006)
    both = Bootstrap(runs="per task", tasks=True, samples=20_000)
    assert_close(bootstrap_interval(X, statistic, rng, both), tasks_drawn, 0.02)


def test_more_intervals_are_those_of_the_published_library() -> None:
    rng = np.random.default_rng(0)
    ours = Bootstrap(runs="per task", samples=20_000)
    profile = profile_interval(X, THRESHOLDS, rng, ours)
    expected = ([0.8, 0.75, 0.55, 0.4, 0.25, 0.0], [1.0, 0.9, 0.85, 0.6, 0.45, 0.15])
    assert_close(profile, expected, 1e-9)
    assert_close(improvement_interval(X, Y, rng, ours), (0.4333, 0.85), 0.0085)


def test_estimates_are_those_of_the_published_library() -> None:
    for scores, iqm, mean, median, gap in (
        (X, 0.42699999999999994, 0.46599999999999997, 0.41700000000000004, 0.29900000000000004),
        (Y, 0.285, 0.2941666666666666, 0.28500000000000003, 0.39916666666666667),
    ):
        assert iqm_of_runs(scores) == pytest.approx(iqm, abs=1e-12)
        assert mean_of_runs(scores) == pytest.approx(mean, abs=1e-12)
        assert median_of_tasks(scores) == pytest.approx(median, abs=1e-12)
        assert optimality_gap(scores, 0.5) == pytest.approx(gap, abs=1e-12)
    assert probability_of_improvement(X, Y) == pytest.approx(0.65, abs=1e-12)
    assert probability_of_improvement(Y, X) == pytest.approx(0.35, abs=1e-12)
    profile = performance_profile(X, THRESHOLDS)
    np.testing.assert_allclose(profile, [0.9, 0.8, 0.7, 0.5, 0.35, 0.05], atol=1e-12)
