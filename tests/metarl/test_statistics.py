"""Statistics against numbers done by hand, and by brute force."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from metarl.statistics import (
    expected_ranks,
    interquartile_mean,
    iqm_of_runs,
    mean_of_runs,
    median_of_tasks,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    profile_thresholds,
    summarise_curve,
)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 3.5),  # 2, 3, 4, 5 are left
        ([100, 3, -100, 1, 2], 2.0),  # floor(5 / 4) = 1 falls away at each end
        ([7, 6, 5, 4, 3, 2, 1000], 5.0),  # floor(7 / 4) = 1: mean of 3..7
        ([10, 0, 5], 5.0),  # floor(3 / 4) = 0: the plain mean
        ([4], 4.0),
    ],
)
def test_iqm_by_hand(scores: list[float], expected: float) -> None:
    assert interquartile_mean(scores) == expected


def test_iqm_is_taken_over_the_last_axis_in_any_order() -> None:
    rows = np.random.default_rng(0).permuted(np.tile(np.arange(8.0), (2, 3, 1)), axis=-1)
    rows[1] += 10
    np.testing.assert_array_equal(interquartile_mean(rows), [[3.5] * 3, [13.5] * 3])


def test_nan_is_not_trimmed_away() -> None:
    assert math.isnan(interquartile_mean([1, 2, 3, math.nan]))
    assert math.isnan(interquartile_mean([1, math.nan]))
    assert math.isnan(performance_profile([[1, math.nan]], [0.5])[0])
    assert math.isnan(probability_of_improvement([[1, math.nan]], [[0, 0]]))


def test_aggregates_by_hand() -> None:
    """Two runs of four tasks; means of tasks are 1, 2, 4, 30."""
    scores = np.array([[0.0, 2.0, 3.0, 30.0], [2.0, 2.0, 5.0, 30.0]])
    assert median_of_tasks(scores) == 3.0
    assert mean_of_runs(scores) == 9.25
    assert iqm_of_runs(scores) == 3.0  # 2, 2, 3, 5 are left
    assert optimality_gap(scores, 4.0) == pytest.approx(4.0 - (0 + 2 + 3 + 4 + 2 + 2 + 4 + 4) / 8)
    batch = np.stack((scores, scores + 1.0))
    for aggregate in (median_of_tasks, mean_of_runs, iqm_of_runs):
        np.testing.assert_allclose(aggregate(batch), aggregate(scores) + np.array([0.0, 1.0]))
    np.testing.assert_allclose(optimality_gap(batch, 40.0), [40 - 9.25, 40 - 10.25])


@pytest.mark.parametrize("score", [0.0, -39.0, 1e9, -1e30])
def test_thresholds_rise_and_enclose_all_scores(score: float) -> None:
    groups = [[[score, score]], [[np.nextafter(score, np.inf)], [score]]]
    limits = profile_thresholds(groups, 201)
    assert limits.shape == (201,)
    assert (np.diff(limits) > 0).all()
    assert limits[0] < score < limits[-1]
    np.testing.assert_allclose(profile_thresholds([[0.0], [10.0]], 3), [-0.2, 5.0, 10.2])


def test_profile_by_hand() -> None:
    scores = [[0, 1], [2, 3]]
    np.testing.assert_array_equal(
        performance_profile(scores, [-1, 0, 0.5, 2, 3]), [1.0, 0.75, 0.75, 0.25, 0.0]
    )


def brute_force_improvement(x: NDArray[np.int64], y: NDArray[np.int64]) -> float:
    per_task = []
    for task in range(x.shape[1]):
        pairs = list(itertools.product(x[:, task], y[:, task]))
        per_task.append(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
    return float(np.mean(per_task))


def test_probability_of_improvement_against_brute_force() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 4, size=(3, 6)), rng.integers(0, 4, size=(5, 6))
    assert probability_of_improvement(x, y) == pytest.approx(brute_force_improvement(x, y))
    assert probability_of_improvement(x, x) == 0.5
    assert probability_of_improvement(x + 10, y) == 1.0


def brute_force_ranks(groups: list[NDArray[np.int64]]) -> list[float]:
    drawn: list[list[float]] = []
    for task in range(groups[0].shape[1]):
        for scores in itertools.product(*(group[:, task] for group in groups)):
            # The ranks that a tie shares are averaged: those above, and half of the equal others.
            above = [sum(other > mine for other in scores) for mine in scores]
            equal = [sum(other == mine for other in scores) - 1 for mine in scores]
            drawn.append([1 + a + e / 2 for a, e in zip(above, equal, strict=True)])
    return [float(rank) for rank in np.mean(drawn, axis=0)]


def test_expected_ranks_against_brute_force() -> None:
    rng = np.random.default_rng(6)
    groups = [
        rng.integers(0, 4, size=(runs, 3)) + shift for runs, shift in ((2, 0), (3, 1), (1, 0))
    ]
    np.testing.assert_allclose(expected_ranks(groups), brute_force_ranks(groups))
    np.testing.assert_allclose(expected_ranks([[[3.0]], [[1.0]], [[2.0]]]), [1.0, 3.0, 2.0])
    np.testing.assert_allclose(expected_ranks([[[3.0]], [[3.0]]]), [1.5, 1.5])


def test_curve_summary_by_hand() -> None:
    """One run, eight tasks; all tasks gain 10 in each round."""
    tasks = np.arange(8.0)[[3, 1, 7, 0, 2, 6, 4, 5]]
    scores = (tasks[:, None] + np.array([0.0, 10.0]))[None]
    summary = summarise_curve(scores, np.random.default_rng(0))
    assert summary.mean == summary.iqm == (3.5, 13.5)
    assert summary.ci_low[0] < 3.5 < summary.ci_high[0]
    assert summary.ci_low[1] == summary.ci_low[0] + 10.0


def test_seeds_are_lucky_on_all_tasks_at_once() -> None:
    """Three seeds that differ on every task alike: the interval reaches from worst to best."""
    scores = np.tile(np.array([0.0, 1.0, 5.0])[:, None, None], (1, 6, 1))
    summary = summarise_curve(scores, np.random.default_rng(0))
    assert (summary.ci_low, summary.ci_high) == ((0.0,), (5.0,))


def test_summary_is_a_function_of_scores_and_generator() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 10, 4))
    again = [summarise_curve(scores, np.random.default_rng(7)) for _ in range(2)]
    assert again[0] == again[1]


def test_faults_are_named() -> None:
    with pytest.raises(ValueError, match="interquartile_mean: scores need at least 1 non-empty"):
        interquartile_mean([])
    with pytest.raises(ValueError, match=r"iqm_of_runs: .* at least 2 non-empty axes"):
        iqm_of_runs([1.0, 2.0])
    with pytest.raises(ValueError, match="same tasks, got 2 and 1"):
        probability_of_improvement([[1, 2]], [[1]])
    with pytest.raises(ValueError, match="expected_ranks: all need the same tasks, got none"):
        expected_ranks([])
