"""Verdicts: a published number against the mean of our runs and its interval."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from metarl.bootstrap import bootstrap_interval, usual_bootstrap
from metarl.experiments.outcomes import Outcome
from metarl.experiments.reproduce.published import Claim
from metarl.statistics import mean_of_runs

Word: TypeAlias = Literal["reproduced", "not reproduced", "not measured"]

_TWO_SIDED = 1.96
"""Standard errors of a published number that are allowed to it: its own 95% interval."""


class Verdict(NamedTuple):
    """What became of one claim."""

    claim: Claim
    word: Word
    seeds: int
    mean: float
    """Of all seeds and tasks, in the unit of the score; NaN where nothing was measured."""
    low: float
    """Lower end of its 95% interval: over seeds, or over tasks where there is one seed."""
    high: float


def judge(claim: Claim, outcomes: Sequence[Outcome]) -> Verdict:
    """Hold a claim to the finished runs of its preset: all of one setting, one for each seed.

    It is reproduced when the upper end of our interval reaches the lower end of the published
    number's: what does better than the paper reproduces it.
    """
    tables = [
        outcome.per_task[:, claim.adaptations]
        for outcome in outcomes
        if outcome.preset == claim.preset and outcome.per_task.shape[1] > claim.adaptations
    ]
    if not tables:
        return Verdict(claim, "not measured", 0, np.nan, np.nan, np.nan)
    # Lists of held-out tasks begin alike: of seeds scored on more than others, the first count.
    scores = np.stack([table[: min(map(len, tables))] for table in tables])
    drawn = usual_bootstrap(len(scores))
    interval = bootstrap_interval(scores, mean_of_runs, np.random.default_rng(0), drawn)
    reached = float(interval.high) >= claim.published - _TWO_SIDED * claim.error
    word: Word = "reproduced" if reached else "not reproduced"
    ends = float(interval.low), float(interval.high)
    return Verdict(claim, word, len(tables), float(scores.mean()), *ends)
