"""Statistics of few runs over many tasks: IQM, intervals, profiles, probability of improvement.

Source: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice".
Scores are held per run and per task, never averaged beforehand: the interval needs them apart.
A NaN among the scores makes the result NaN; it is never trimmed away.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.float64]

Statistic: TypeAlias = Callable[[FloatArray], FloatArray]
"""Reduces the last axis: [..., N] to [...]."""

_TRIMMED = 0.25
_CURVE_SAMPLES = 2000
_CURVE_LEVEL = 0.95
# 4 million numbers are 32 MB; indices, scores and the sorted copy are alive at once.
_VALUES_AT_ONCE = 4_000_000


class Interval(NamedTuple):
    """A percentile interval; both ends in the unit of the statistic."""

    low: FloatArray
    high: FloatArray


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
    values = _checked("interquartile_mean", scores, 1)
    size = values.shape[-1]
    cut = int(_TRIMMED * size)
    if cut == 0:
        return np.asarray(values.mean(axis=-1))
    middle = np.partition(values, (cut, size - cut - 1), axis=-1)[..., cut : size - cut]
    # Partitioning puts NaN last, where trimming would hide it.
    return np.where(np.isnan(values).any(axis=-1), np.nan, middle.mean(axis=-1))


def stratified_bootstrap(
    scores: ArrayLike,
    statistic: Statistic,
    rng: np.random.Generator,
    samples: int,
    level: float,
) -> Interval:
    """Percentile bootstrap interval of a statistic of all runs and tasks.

    Scores are [runs, tasks, ...] and ``statistic`` sees resampled scores as [..., samples,
    runs * tasks]; the ends of the interval are [...]. All trailing entries share one resampling.

    With two runs or more, each task is a stratum: its runs are drawn with replacement, apart from
    those of other tasks, and the interval speaks of runs (seeds) on exactly these tasks. With ONE
    run a stratum holds nothing to draw from, so tasks are drawn instead: the interval then speaks
    of other tasks for this one trained agent and says nothing about other seeds.

    Raises:
        ValueError: fewer than two axes, no scores, ``samples`` < 1, or a level outside (0, 1).
    """
    values = _checked("stratified_bootstrap", scores, 2)
    if samples < 1:
        raise ValueError(f"stratified_bootstrap: samples must be >= 1, got {samples}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"stratified_bootstrap: level must be above 0 and below 1, got {level}")
    runs, tasks = values.shape[:2]
    pooled = np.ascontiguousarray(
        np.moveaxis(values.reshape(runs * tasks, *values.shape[2:]), 0, -1)
    )
    at_once = max(1, _VALUES_AT_ONCE // pooled.size)
    draws = [
        statistic(pooled[..., _resampled(rng, min(at_once, samples - start), runs, tasks)])
        for start in range(0, samples, at_once)
    ]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(np.concatenate(draws, axis=-1), (tail, 1.0 - tail), axis=-1)
    return Interval(np.asarray(low), np.asarray(high))


def _resampled(rng: np.random.Generator, samples: int, runs: int, tasks: int) -> NDArray[np.int64]:
    """Return places in the flattened [runs * tasks], as [samples, runs * tasks]."""
    if runs == 1:
        return rng.integers(tasks, size=(samples, tasks))
    run = rng.integers(runs, size=(samples, runs, tasks))
    return (run * tasks + np.arange(tasks)).reshape(samples, runs * tasks)


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> FloatArray:
    """Fraction of scores above each threshold: [runs, tasks] and [M] to [M] (paper, sec. 4.2).

    Raises:
        ValueError: scores are not [runs, tasks], or empty.
    """
    values = _checked("performance_profile", scores, 2, exact=True)
    limits = np.asarray(thresholds, dtype=np.float64)
    # heaviside(0, 0) = 0: a score must exceed its threshold. Unlike `>`, it lets NaN through.
    return np.asarray(np.heaviside(values[..., None] - limits, 0.0).mean(axis=(0, 1)))


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """Probability that a run of x beats a run of y on a task drawn uniformly (paper, sec. 4.3).

    Scores are [runs_x, tasks] and [runs_y, tasks] on the same tasks; a tie counts half.

    Raises:
        ValueError: a shape is wrong, or the tasks differ in number.
    """
    ours = _checked("probability_of_improvement", x, 2, exact=True)
    theirs = _checked("probability_of_improvement", y, 2, exact=True)
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            "probability_of_improvement: both need the same tasks, "
            f"got {ours.shape[1]} and {theirs.shape[1]}"
        )
    return float((1.0 + np.sign(ours[:, None] - theirs[None, :]).mean()) / 2.0)


def summarise_curve(scores: ArrayLike, rng: np.random.Generator) -> CurveSummary:
    """Mean, IQM and 95% interval of the IQM per round; scores are [runs, tasks, rounds].

    What the interval speaks of, seeds or tasks, is told in ``stratified_bootstrap``.

    Raises:
        ValueError: scores are not [runs, tasks, rounds], or empty.
    """
    values = _checked("summarise_curve", scores, 3, exact=True)
    by_round = values.reshape(-1, values.shape[2]).T
    interval = stratified_bootstrap(values, interquartile_mean, rng, _CURVE_SAMPLES, _CURVE_LEVEL)
    rows = (by_round.mean(axis=-1), interquartile_mean(by_round), *interval)
    return CurveSummary(*(tuple(float(value) for value in row) for row in rows))


def _checked(caller: str, scores: ArrayLike, axes: int, *, exact: bool = False) -> FloatArray:
    """Return scores as float64 with ``axes`` axes (or more, unless exact) and something in each."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim < axes or (exact and values.ndim != axes) or values.size == 0:
        kind = f"{axes}" if exact else f"at least {axes}"
        raise ValueError(
            f"{caller}: scores need {kind} non-empty axes, got shape {list(values.shape)}"
        )
    return values
