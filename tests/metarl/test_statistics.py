"""Statistics against numbers done by hand, by brute force, and by repeating the experiment."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from metarl.statistics import (
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
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


def test_one_value_leaves_no_width() -> None:
    rng = np.random.default_rng(0)
    for scores in ([[3.25]], np.full((5, 4), 3.25)):
        interval = stratified_bootstrap(scores, interquartile_mean, rng, 50, 0.95)
        assert interval.low == interval.high == 3.25


def test_runs_are_drawn_within_tasks() -> None:
    """Tasks that differ widely, runs that agree: resampling runs within a task changes nothing."""
    scores = np.tile([0.0, 100.0, 1000.0], (4, 1))
    rng = np.random.default_rng(0)
    several = stratified_bootstrap(scores, lambda values: values.mean(-1), rng, 200, 0.9)
    assert several.low == several.high == pytest.approx(1100 / 3)
    single = stratified_bootstrap(scores[:1], lambda values: values.mean(-1), rng, 200, 0.9)
    assert single.low < 1100 / 3 < single.high


@pytest.mark.parametrize("shape", [(40, 3), (1, 120)])
def test_interval_covers_the_truth_about_as_often_as_it_says(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    offsets = np.zeros(shape[1]) if shape[0] == 1 else np.arange(shape[1]) * 10.0
    repeats = 400
    covered = 0
    for _ in range(repeats):
        scores = offsets + rng.normal(size=shape)
        interval = stratified_bootstrap(scores, lambda values: values.mean(-1), rng, 400, 0.95)
        covered += int(interval.low <= offsets.mean() <= interval.high)
    assert 0.91 <= covered / repeats <= 0.98


def test_trailing_axes_share_one_resampling() -> None:
    scores = np.random.default_rng(1).normal(size=(5, 4))
    both = np.stack((scores, scores + 2.0), axis=-1)
    low, high = stratified_bootstrap(both, interquartile_mean, np.random.default_rng(2), 300, 0.95)
    assert low.shape == high.shape == (2,)
    np.testing.assert_allclose((low[1], high[1]), (low[0] + 2.0, high[0] + 2.0))
    alone = stratified_bootstrap(scores, interquartile_mean, np.random.default_rng(2), 300, 0.95)
    np.testing.assert_allclose((alone.low, alone.high), (low[0], high[0]))


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


def test_curve_summary_by_hand() -> None:
    """One run, eight tasks; all tasks gain 10 in each round."""
    tasks = np.arange(8.0)[[3, 1, 7, 0, 2, 6, 4, 5]]
    scores = (tasks[:, None] + np.array([0.0, 10.0]))[None]
    summary = summarise_curve(scores, np.random.default_rng(0))
    assert summary.mean == summary.iqm == (3.5, 13.5)
    assert summary.ci_low[0] < 3.5 < summary.ci_high[0]
    assert summary.ci_low[1] == summary.ci_low[0] + 10.0


def test_summary_is_a_function_of_scores_and_generator() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 10, 4))
    again = [summarise_curve(scores, np.random.default_rng(7)) for _ in range(2)]
    assert again[0] == again[1]


def test_faults_are_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="interquartile_mean: scores need at least 1 non-empty"):
        interquartile_mean([])
    with pytest.raises(ValueError, match=r"at least 2 non-empty axes, got shape \[3\]"):
        stratified_bootstrap([1, 2, 3], interquartile_mean, rng, 10, 0.95)
    with pytest.raises(ValueError, match="level must be above 0 and below 1, got 95"):
        stratified_bootstrap([[1, 2]], interquartile_mean, rng, 10, 95)
    with pytest.raises(ValueError, match="same tasks, got 2 and 1"):
        probability_of_improvement([[1, 2]], [[1]])
