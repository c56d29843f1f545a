"""Intervals: what is drawn, and by repeating the experiment; see test_published_statistics."""

import collections
import itertools

import numpy as np
import pytest

from metarl.bootstrap import (
    Bootstrap,
    bootstrap_interval,
    percentiles,
    resamplings,
    usual_bootstrap,
)
from metarl.checks import InputError
from metarl.statistics import (
    expected_ranks,
    improvement_interval,
    iqm_of_runs,
    mean_of_runs,
    performance_profile,
    profile_interval,
    rank_intervals,
)

PER_TASK = Bootstrap(runs="per task")
TASKS = Bootstrap(runs="kept", tasks=True)


@pytest.mark.parametrize(
    ("bootstrap", "possible"),
    [
        (Bootstrap(), {(0, 1, 0, 1), (0, 1, 2, 3), (2, 3, 0, 1), (2, 3, 2, 3)}),
        (PER_TASK, {(a, b, c, d) for a in (0, 2) for b in (1, 3) for c in (0, 2) for d in (1, 3)}),
        (TASKS, {(a, b, a + 2, b + 2) for a in (0, 1) for b in (0, 1)}),
        (
            Bootstrap(tasks=True),
            {
                (r + a, r + b, s + a, s + b)
                for r, s, a, b in itertools.product((0, 2), (0, 2), (0, 1), (0, 1))
            },
        ),
    ],
)
def test_what_is_drawn(bootstrap: Bootstrap, possible: set[tuple[int, ...]]) -> None:
    """Two runs of two tasks, places 0 and 1, 2 and 3: every drawing comes equally often."""
    blocks = resamplings([2], 2, np.random.default_rng(0), bootstrap, 1000)
    drawn = np.concatenate([places for (places,) in blocks]).reshape(bootstrap.samples, 4)
    counts = collections.Counter(map(tuple, drawn.tolist()))
    assert set(counts) == possible
    spread = (2000 / len(possible)) ** 0.5
    assert all(abs(n - 2000 / len(possible)) < 4 * spread for n in counts.values())


def test_groups_share_tasks_and_draw_runs_apart() -> None:
    both = Bootstrap(tasks=True)
    ((few, many),) = resamplings([3, 5], 4, np.random.default_rng(0), both, 100)
    np.testing.assert_array_equal(few[:, :1] % 4, many[:, :1] % 4)
    apart = Bootstrap(samples=500)
    ((one, other),) = resamplings([3, 3], 4, np.random.default_rng(0), apart, 100)
    assert 0.2 < (one[:, 0, 0] == other[:, 0, 0]).mean() < 0.5


def coverage(
    shape: tuple[int, int], of_a_run: float, bootstrap: Bootstrap, repeats: int = 300
) -> float:
    """Return how often an interval holds the truth where runs are lucky on all tasks at once."""
    rng = np.random.default_rng(3)
    offsets = np.zeros(shape[1]) if shape[0] == 1 else np.linspace(-3.0, 3.0, shape[1])
    covered = 0
    for _ in range(repeats):
        luck = of_a_run * rng.normal(size=(shape[0], 1))
        scores = offsets + luck + rng.normal(size=shape)
        low, high = bootstrap_interval(scores, iqm_of_runs, rng, bootstrap)
        covered += int(low <= 0.0 <= high)
    return covered / repeats


@pytest.mark.parametrize(
    ("shape", "of_a_run", "bootstrap", "expected"),
    [
        ((40, 3), 0.0, PER_TASK, (0.91, 0.98)),
        ((1, 120), 0.0, TASKS, (0.91, 0.98)),
        ((30, 8), 1.0, Bootstrap(), (0.89, 0.98)),
        ((10, 8), 1.0, Bootstrap(), (0.85, 0.95)),
        ((3, 8), 1.0, Bootstrap(), (0.68, 0.82)),  # between the lowest and the highest of three
        ((10, 15), 1.0, PER_TASK, (0.35, 0.65)),  # and why runs of meta-learning are drawn whole
    ],
)
def test_intervals_cover_the_truth_as_often_as_the_page_says(
    shape: tuple[int, int], of_a_run: float, bootstrap: Bootstrap, expected: tuple[float, float]
) -> None:
    fewer = Bootstrap(runs=bootstrap.runs, tasks=bootstrap.tasks, samples=300)
    assert expected[0] <= coverage(shape, of_a_run, fewer) <= expected[1]


def test_improvement_covers_the_truth() -> None:
    """Scores of N(1, 1) beat those of N(0, 1) with probability Phi(1 / sqrt 2) = 0.7602."""
    rng = np.random.default_rng(4)
    bootstrap = Bootstrap(runs="per task", samples=300)
    repeats, covered = 200, 0
    for _ in range(repeats):
        x, y = 1.0 + rng.normal(size=(12, 5)), rng.normal(size=(8, 5))
        low, high = improvement_interval(x, y, rng, bootstrap)
        covered += int(low <= 0.7602 <= high)
    assert 0.9 <= covered / repeats <= 0.98


@pytest.mark.parametrize("bootstrap", [Bootstrap(), PER_TASK, TASKS, Bootstrap(tasks=True)])
def test_counting_is_drawing_again(bootstrap: Bootstrap) -> None:
    """Profiles and ranks are counted in histograms; the same drawings, score by score."""
    fewer = Bootstrap(runs=bootstrap.runs, tasks=bootstrap.tasks, samples=40)
    x, y, z = (np.random.default_rng(n).integers(0, 5, size=(n, 4)) * 1.0 for n in (5, 3, 2))
    blocks = list(resamplings([5, 3, 2], 4, np.random.default_rng(1), fewer, 100))
    ranks = [
        expected_ranks([x.ravel()[of_x], y.ravel()[of_y], z.ravel()[of_z]])
        for block in blocks
        for of_x, of_y, of_z in zip(*block, strict=True)
    ]
    ends = rank_intervals([x, y, z], np.random.default_rng(1), fewer)
    np.testing.assert_allclose(ends, percentiles(np.stack(ranks, 1), 0.95))
    blocks = list(resamplings([5], 4, np.random.default_rng(1), fewer, 100))
    limits = [-1.0, 0.0, 1.5, 3.0, 4.0]
    profiles = [performance_profile(x.ravel()[place], limits) for (p,) in blocks for place in p]
    ends = profile_interval(x, limits, np.random.default_rng(1), fewer)
    np.testing.assert_allclose(ends, percentiles(np.stack(profiles, 1), 0.95))


def test_results_do_not_depend_on_blocks() -> None:
    """Large scores are drawn in several blocks; with one block of 2000 the interval is as wide."""
    scores = np.random.default_rng(0).normal(size=(1, 9000))
    low, high = bootstrap_interval(scores, mean_of_runs, np.random.default_rng(0), TASKS)
    assert float(high - low) == pytest.approx(2 * 1.96 / 9000**0.5, rel=0.08)


def test_trailing_axes_share_one_resampling() -> None:
    scores = np.random.default_rng(1).normal(size=(5, 4))
    both = np.stack((scores, scores + 2.0), axis=-1)
    for bootstrap in (Bootstrap(), PER_TASK, TASKS):
        ends = bootstrap_interval(both, iqm_of_runs, np.random.default_rng(2), bootstrap)
        alone = bootstrap_interval(scores, iqm_of_runs, np.random.default_rng(2), bootstrap)
        np.testing.assert_allclose(ends, np.stack((alone, np.add(alone, 2.0)), -1))


def test_one_value_leaves_no_width() -> None:
    rng = np.random.default_rng(0)
    for scores in ([[3.25]], np.full((5, 4), 3.25)):
        low, high = bootstrap_interval(scores, iqm_of_runs, rng, Bootstrap(samples=50))
        assert low == high == 3.25


def test_results_of_one_run_speak_of_tasks_and_of_several_of_seeds() -> None:
    assert usual_bootstrap(1) == Bootstrap(runs="kept", tasks=True)
    assert usual_bootstrap(2) == Bootstrap(runs="whole", tasks=False)


def test_faults_are_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"at least 2 non-empty axes, got shape \[3\]"):
        bootstrap_interval([1, 2, 3], iqm_of_runs, rng, Bootstrap())
    with pytest.raises(ValueError, match=r"last two axes, \[2000, 1, 2\] became \[2000, 1\]"):
        bootstrap_interval([[1, 2]], lambda scores: scores.mean(-1), rng, Bootstrap())
    with pytest.raises(InputError, match=r"level must be a number above 0 and below 1, got 95"):
        Bootstrap(level=95)
    with pytest.raises(InputError, match="samples must be a whole number from 1"):
        Bootstrap(samples=0)
    with pytest.raises(InputError, match="neither runs nor tasks are drawn"):
        Bootstrap(runs="kept")
    with pytest.raises(ValueError, match=r"thresholds must be .* and rise"):
        profile_interval([[1, 2]], [1.0, 0.0], rng, Bootstrap())
    with pytest.raises(ValueError, match="scores must be finite"):
        profile_interval([[1, np.nan]], [1.0], rng, Bootstrap())
    with pytest.raises(ValueError, match="must not be NaN"):
        rank_intervals([[[1, np.nan]], [[1, 2]]], rng, Bootstrap())
