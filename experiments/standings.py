"""How settings stand to each other on the same tasks: ranks, and who beats whom how often."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metarl.bootstrap import Interval, usual_bootstrap
from metarl.checks import InputError
from metarl.experiments.settings import Setting, best_round
from metarl.statistics import (
    FloatArray,
    expected_ranks,
    improvement_interval,
    probability_of_improvement,
    rank_intervals,
)


class Estimate(NamedTuple):
    """A statistic with the ends of its 95% interval."""

    value: float
    low: float
    high: float


class Standing(NamedTuple):
    """How one setting stands to the others of its environment."""

    rank: Estimate
    """Expected rank of a run among one run of each other setting; 1 is best."""
    beats: Estimate | None
    """Probability of improvement over the setting compared with; None for that one itself."""


def compared_scores(settings: Sequence[Setting], after: int | None) -> list[FloatArray]:
    """Return the scores [seeds, tasks] by which settings are compared.

    Args:
        settings: of one environment.
        after: this many adaptations, or None for as many as suit each setting best by its IQM.

    Raises:
        InputError: a setting was not evaluated after so many.
    """
    rounds = [best_round(setting.iqm()) if after is None else after for setting in settings]
    short = [s for s, place in zip(settings, rounds, strict=True) if place >= s.scores().shape[2]]
    if short:
        widest = short[0].scores().shape[2] - 1
        raise InputError([f"--after {after}: {short[0].preset} was evaluated after 0 to {widest}"])
    return [s.scores()[..., place] for s, place in zip(settings, rounds, strict=True)]


def standings(scores: Sequence[FloatArray], reference: int) -> list[Standing]:
    """Compare scores [seeds, tasks] of settings with each other, and with one of them.

    Intervals speak of seeds where every setting has several, else of tasks.
    """
    bootstrap = usual_bootstrap(min(map(len, scores)))
    ranks = expected_ranks(scores)
    low, high = rank_intervals(scores, np.random.default_rng(0), bootstrap)

    def beats(mine: FloatArray) -> Estimate:
        interval = improvement_interval(
            mine, scores[reference], np.random.default_rng(0), bootstrap
        )
        return _estimate(probability_of_improvement(mine, scores[reference]), interval)

    return [
        Standing(
            Estimate(float(ranks[place]), float(low[place]), float(high[place])),
            None if place == reference else beats(mine),
        )
        for place, mine in enumerate(scores)
    ]


def _estimate(value: float, interval: Interval) -> Estimate:
    return Estimate(value, float(interval.low), float(interval.high))
