"""Bootstrap intervals of statistics of runs and tasks: what is drawn again, and how often.

A score is that of one run (a seed: one meta-training) on one task. In meta-learning one run is
scored on every task, so that a lucky seed is lucky on all of them: such runs are drawn whole. The
stratified bootstrap of Agarwal et al. 2021 draws runs anew for each task, which is right where each
task was trained on apart, as in Atari, and gives intervals that are too narrow where it was not.

Sources: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical
precipice", section 4.1; Davison and Hinkley 1997, "Bootstrap methods and their application",
section 3.8 (clusters).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metarl.checks import COUNT, FRACTION, check_fields, fault_in_choice

_Floats: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.int64]
"""Where numbers are in a flattened array."""

Statistic: TypeAlias = Callable[[_Floats], _Floats]
"""Reduces the last two axes: [..., runs, tasks] to [...]."""

_DRAWN_RUNS = ("whole", "per task", "kept")
# 4 million numbers are 32 MB; indices, scores and the sorted copy are alive at once.
_VALUES_AT_ONCE = 4_000_000


class Interval(NamedTuple):
    """A percentile interval; both ends in the unit of the statistic."""

    low: _Floats
    high: _Floats


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """What a bootstrap draws again, with replacement."""

    runs: Literal["whole", "per task", "kept"] = "whole"
    """Runs with their scores on all tasks; runs for each task apart (stratified); or no runs."""
    tasks: bool = False
    """Whether tasks are drawn too, for all runs alike: the interval then speaks of other tasks."""
    samples: int = 2000
    """How often."""
    level: float = 0.95
    """The share of the drawn statistics that lies in the interval."""

    def __post_init__(self) -> None:
        nothing = "Bootstrap: neither runs nor tasks are drawn"
        check_fields(
            self,
            {"samples": COUNT, "level": FRACTION},
            fault_in_choice(self, "runs", _DRAWN_RUNS),
            None if self.tasks or self.runs != "kept" else nothing,
        )


def usual_bootstrap(num_runs: int) -> Bootstrap:
    """Return the bootstrap of results: whole runs, or, of a single run, tasks.

    With several runs an interval speaks of other seeds on exactly these tasks; with one it speaks
    of other tasks for this one trained agent, and says nothing of other seeds.
    """
    return Bootstrap() if num_runs > 1 else Bootstrap(runs="kept", tasks=True)


def bootstrap_interval(
    scores: ArrayLike, statistic: Statistic, rng: np.random.Generator, bootstrap: Bootstrap
) -> Interval:
    """Percentile interval of a statistic of runs and tasks.

    Scores are [runs, tasks, ...] and ``statistic`` sees them drawn again as [..., samples, runs,
    tasks]; the ends of the interval are [...]. All trailing entries share one resampling.

    Raises:
        ValueError: fewer than two axes, no scores, or a statistic of another shape.
    """
    values = checked("bootstrap_interval", scores, 2)
    runs, tasks = values.shape[:2]
    entries = values.shape[2:]
    pooled = np.ascontiguousarray(np.moveaxis(values.reshape(runs * tasks, *entries), 0, -1))
    drawn = []
    for (places,) in resamplings([runs], tasks, rng, bootstrap, pooled.size):
        result = np.asarray(statistic(pooled[..., places]))
        if result.shape != (*entries, len(places)):
            raise ValueError(
                "bootstrap_interval: the statistic must reduce the last two axes, "
                f"{[*entries, *places.shape]} became {list(result.shape)}"
            )
        drawn.append(result)
    return percentiles(np.concatenate(drawn, axis=-1), bootstrap.level)


def resamplings(
    runs: Sequence[int], tasks: int, rng: np.random.Generator, bootstrap: Bootstrap, size: int
) -> Iterator[list[Places]]:
    """Yield blocks of samples: for each group of runs, places in its flattened [runs * tasks].

    Places are [samples of the block, runs, tasks]. Groups share the tasks that are drawn, and draw
    their runs apart.

    Args:
        runs: number of runs of each group.
        tasks: number of tasks, the same for all.
        rng: where the draws come from.
        bootstrap: what is drawn, and how many samples in all.
        size: numbers that the caller holds for one sample, which bounds a block.
    """
    at_once = max(1, _VALUES_AT_ONCE // size)
    for start in range(0, bootstrap.samples, at_once):
        count = min(at_once, bootstrap.samples - start)
        task = np.arange(tasks)[None, None]
        if bootstrap.tasks:
            task = rng.integers(tasks, size=(count, tasks))[:, None]
        yield [_places(rng, group, task, count, bootstrap) for group in runs]


def _places(
    rng: np.random.Generator, runs: int, task: Places, count: int, bootstrap: Bootstrap
) -> Places:
    """Draw runs, [samples, runs, tasks or 1], and join them with tasks [samples or 1, 1, tasks]."""
    tasks = task.shape[-1]
    run = np.arange(runs)[None, :, None]
    if bootstrap.runs != "kept":
        width = tasks if bootstrap.runs == "per task" else 1
        run = rng.integers(runs, size=(count, runs, width))
    return np.broadcast_to(run * tasks + task, (count, runs, tasks))


def percentiles(drawn: _Floats, level: float) -> Interval:
    """Return the interval between the percentiles of drawn statistics [..., samples]."""
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(drawn, (tail, 1.0 - tail), axis=-1)
    return Interval(np.asarray(low), np.asarray(high))


def checked(caller: str, scores: ArrayLike, axes: int, *, exact: bool = False) -> _Floats:
    """Return scores as float64 with ``axes`` axes (or more, unless exact) and something in each.

    Raises:
        ValueError: in the name of the caller.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim < axes or (exact and values.ndim != axes) or values.size == 0:
        kind = f"{axes}" if exact else f"at least {axes}"
        raise ValueError(
            f"{caller}: scores need {kind} non-empty axes, got shape {list(values.shape)}"
        )
    return values
