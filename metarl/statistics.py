"""Statistics of few runs over many tasks: IQM, median, optimality gap, profiles, ranks.

Source: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice".
Scores are held per run and per task, never averaged beforehand: intervals need them apart, see
``metarl.bootstrap``. A NaN among the scores makes the result NaN; it is never trimmed away.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metarl.bootstrap import (
    Bootstrap,
    Interval,
    bootstrap_interval,
    checked,
    percentiles,
    resamplings,
    usual_bootstrap,
)

FloatArray: TypeAlias = NDArray[np.float64]
_IntArray: TypeAlias = NDArray[np.int64]

_TRIMMED = 0.25


class CurveSummary(NamedTuple):
    """An adaptation curve over all runs and tasks; one entry per round, after 0, 1, ... steps."""

    mean: tuple[float, ...]
    iqm: tuple[float, ...]
    ci_low: tuple[float, ...]
    """Lower end of the 95% interval of the IQM."""
    ci_high: tuple[float, ...]
    """Upper end of the 95% interval of the IQM."""


def interquartile_mean(scores: ArrayLike) -> FloatArray:
    """Mean without the lowest and highest quarter: [..., N] to [...].

    floor(N / 4) values fall away at each end, as in ``scipy.stats.trim_mean`` at 0.25.

    Raises:
        ValueError: there is no value to average.
    """
    values = checked("interquartile_mean", scores, 1)
    size = values.shape[-1]
    cut = int(_TRIMMED * size)
    if cut == 0:
        return np.asarray(values.mean(axis=-1))
    middle = np.partition(values, (cut, size - cut - 1), axis=-1)[..., cut : size - cut]
    # Partitioning puts NaN last, where trimming would hide it.
    return np.where(np.isnan(values).any(axis=-1), np.nan, middle.mean(axis=-1))


def iqm_of_runs(scores: ArrayLike) -> FloatArray:
    """Interquartile mean of all scores of all runs: [..., runs, tasks] to [...].

    Raises:
        ValueError: fewer than two axes, or no scores.
    """
    values = checked("iqm_of_runs", scores, 2)
    return interquartile_mean(values.reshape(*values.shape[:-2], -1))


def mean_of_runs(scores: ArrayLike) -> FloatArray:
    """Mean of all scores of all runs: [..., runs, tasks] to [...].

    Raises:
        ValueError: fewer than two axes, or no scores.
    """
    return np.asarray(checked("mean_of_runs", scores, 2).mean(axis=(-2, -1)))


def median_of_tasks(scores: ArrayLike) -> FloatArray:
    """Median over tasks of the mean over runs: [..., runs, tasks] to [...] (paper, sec. 2).

    Raises:
        ValueError: fewer than two axes, or no scores.
    """
    return np.asarray(np.median(checked("median_of_tasks", scores, 2).mean(axis=-2), axis=-1))


def optimality_gap(scores: ArrayLike, target: float) -> FloatArray:
    """By how much scores fall short of a target on average: [..., runs, tasks] to [...].

    What lies above the target counts as the target (paper, sec. 4.1); less is better.

    Raises:
        ValueError: fewer than two axes, or no scores.
    """
    values = checked("optimality_gap", scores, 2)
    return np.asarray(target - np.minimum(values, target).mean(axis=(-2, -1)))


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> FloatArray:
    """Fraction of scores above each threshold: [runs, tasks] and [M] to [M] (paper, sec. 4.2).

    Raises:
        ValueError: scores are not [runs, tasks], or empty.
    """
    values = checked("performance_profile", scores, 2, exact=True)
    limits = np.asarray(thresholds, dtype=np.float64)
    # heaviside(0, 0) = 0: a score must exceed its threshold. Unlike `>`, it lets NaN through.
    return np.asarray(np.heaviside(values[..., None] - limits, 0.0).mean(axis=(0, 1)))


def profile_thresholds(groups: Sequence[ArrayLike], number: int) -> FloatArray:
    """Return rising thresholds [number] from just below all scores of some groups to just above.

    Raises:
        ValueError: there is no group or no score.
    """
    every = np.concatenate([checked("profile_thresholds", group, 1).ravel() for group in groups])
    low, high, largest = every.min(), every.max(), np.abs(every).max()
    margin = 0.02 * (high - low)
    if margin <= 1e-6 * largest:  # where scores hardly differ, thresholds must do so still
        margin = 0.05 * largest or 0.5
    return np.linspace(low - margin, high + margin, number)


def profile_interval(
    scores: ArrayLike, thresholds: ArrayLike, rng: np.random.Generator, bootstrap: Bootstrap
) -> Interval:
    """Interval of a performance profile at each of M rising thresholds.

    Raises:
        ValueError: scores are not [runs, tasks], empty, or not finite; thresholds do not rise.
    """
    values = checked("profile_interval", scores, 2, exact=True)
    limits = np.asarray(thresholds, dtype=np.float64)
    if limits.ndim != 1 or not (np.diff(limits) > 0).all():
        raise ValueError("profile_interval: thresholds must be [M] and rise")
    if not np.isfinite(values).all():
        raise ValueError("profile_interval: scores must be finite")
    cleared = np.searchsorted(limits, values, side="left").ravel()
    drawn = []
    for (places,) in resamplings([len(values)], values.shape[1], rng, bootstrap, values.size):
        counts = _histograms(cleared[places].reshape(len(places), -1), len(limits) + 1)
        # A score that clears n thresholds lies above the first n.
        above = counts[:, ::-1].cumsum(axis=1)[:, -2::-1]
        drawn.append(above.T / values.size)
    return percentiles(np.concatenate(drawn, axis=1), bootstrap.level)


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """Probability that a run of x beats a run of y on a task drawn uniformly (paper, sec. 4.3).

    Scores are [runs_x, tasks] and [runs_y, tasks] on the same tasks; a tie counts half.

    Raises:
        ValueError: a shape is wrong, or the tasks differ in number.
    """
    ours, theirs = _same_tasks("probability_of_improvement", [x, y])
    return float((1.0 + np.sign(ours[:, None] - theirs[None, :]).mean()) / 2.0)


def improvement_interval(
    x: ArrayLike, y: ArrayLike, rng: np.random.Generator, bootstrap: Bootstrap
) -> Interval:
    """Interval of ``probability_of_improvement``: runs of x and y are drawn apart, tasks together.

    Raises:
        ValueError: a shape is wrong, or the tasks differ in number.
    """
    low, high = rank_intervals([x, y], rng, bootstrap)
    return Interval(2.0 - high[0], 2.0 - low[0])


def expected_ranks(groups: Sequence[ArrayLike]) -> FloatArray:
    """Rank of a run of each of G groups among one run of each other: [G] (paper, fig. 5).

    On a task drawn uniformly, one run drawn from every group; 1 is best, and a tie shares its
    ranks. Scores are [runs, tasks] on the same tasks; groups may differ in their number of runs.

    Raises:
        ValueError: there is no group, a shape is wrong, or the tasks differ in number.
    """
    scores = _same_tasks("expected_ranks", groups)
    # A group's chance against itself is one half, and the best rank is 1.
    better = [[probability_of_improvement(other, mine) for other in scores] for mine in scores]
    return np.asarray(np.sum(better, axis=1) + 0.5, dtype=np.float64)


def rank_intervals(
    groups: Sequence[ArrayLike], rng: np.random.Generator, bootstrap: Bootstrap
) -> Interval:
    """Intervals [G] of ``expected_ranks``: runs of each group are drawn apart, tasks together.

    Raises:
        ValueError: as ``expected_ranks``, or a score is NaN.
    """
    scores = _same_tasks("rank_intervals", groups)
    if any(np.isnan(group).any() for group in scores):
        raise ValueError("rank_intervals: scores must not be NaN")
    levels, tasks = _levels(scores), scores[0].shape[1]
    runs = [len(group) for group in scores]
    # For each score a sample holds its place and a cell of the histogram.
    size = 2 * sum(runs) * tasks
    blocks = resamplings(runs, tasks, rng, bootstrap, size)
    drawn = [_ranks(levels, places) for places in blocks]
    return percentiles(np.concatenate(drawn, axis=1), bootstrap.level)


def _same_tasks(caller: str, groups: Sequence[ArrayLike]) -> list[FloatArray]:
    scores = [checked(caller, group, 2, exact=True) for group in groups]
    numbers = [group.shape[1] for group in scores]
    if len(set(numbers)) != 1:
        told = " and ".join(map(str, numbers)) or "none"
        raise ValueError(f"{caller}: all need the same tasks, got {told}")
    return scores


def _levels(scores: Sequence[FloatArray]) -> list[_IntArray]:
    """Number the scores of each task from the lowest on, ties alike, through all groups."""
    everyone = np.concatenate(scores)
    return [(everyone[:, None] < group).sum(axis=0) for group in scores]


def _ranks(levels: Sequence[_IntArray], places: Sequence[_IntArray]) -> FloatArray:
    """Return expected ranks [G, samples] where ``places`` says which scores a sample holds."""
    width = sum(len(group) for group in levels)
    samples, _, tasks = places[0].shape
    # A row of cells for each sample and task, and in it one for each level.
    rows = width * np.arange(samples * tasks).reshape(samples, 1, tasks)
    cells = [group.ravel()[place] + rows for group, place in zip(levels, places, strict=True)]
    equal = np.zeros(rows.size * width)
    for cell in cells:
        equal += np.bincount(cell.ravel(), minlength=equal.size) / cell.shape[1]
    higher = equal.reshape(-1, width)[:, ::-1].cumsum(axis=1)[:, ::-1].ravel() - equal
    better = higher + equal / 2.0
    return np.stack([better[cell].mean(axis=(1, 2)) + 0.5 for cell in cells])


def _histograms(values: _IntArray, width: int) -> _IntArray:
    """Count 0, ..., width - 1 in each row: [N, M] to [N, width]."""
    shifted = values + width * np.arange(len(values))[:, None]
    return np.bincount(shifted.ravel(), minlength=width * len(values)).reshape(-1, width)


def summarise_curve(scores: ArrayLike, rng: np.random.Generator) -> CurveSummary:
    """Mean, IQM and 95% interval of the IQM per round; scores are [runs, tasks, rounds].

    What the interval speaks of, seeds or tasks, is told in ``metarl.bootstrap.usual_bootstrap``.

    Raises:
        ValueError: scores are not [runs, tasks, rounds], or empty.
    """
    values = checked("summarise_curve", scores, 3, exact=True)
    by_round = np.moveaxis(values, -1, 0)
    interval = bootstrap_interval(values, iqm_of_runs, rng, usual_bootstrap(len(values)))
    rows = (mean_of_runs(by_round), iqm_of_runs(by_round), *interval)
    return CurveSummary(*(tuple(float(value) for value in row) for row in rows))
