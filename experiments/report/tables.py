"""The tables of a report: final results, chances, costs, and how configurations differ.

Settings are compared at the number of adaptations after which their own IQM is highest.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metarl.experiments.report.folders import shown
from metarl.experiments.report.legend import Entry
from metarl.experiments.settings import Setting, best_round, in_minutes
from metarl.experiments.standings import Standing
from metarl.runs import leaves
from metarl.statistics import CurveSummary, FloatArray, probability_of_improvement


class Cell(NamedTuple):
    """A statistic and its 95% interval, as text."""

    value: str
    interval: str
    compared: bool = False
    """Whether a setting is compared with others by this score."""


class Result(NamedTuple):
    """A line of the table of final results; a reference has scores and nothing else."""

    entry: Entry
    scores: Sequence[Cell]
    rank: Cell | None = None
    """Expected rank of a run among one run of each other setting."""
    beats_first: Cell | None = None
    """Probability of improvement over the first setting; None for that one itself."""
    seeds: str = ""
    iterations: str = ""
    env_steps: str = ""


class Cost(NamedTuple):
    """What the runs of a setting took, as text."""

    entry: Entry
    env_steps: str
    """Mean over runs, in millions."""
    wall_time: str
    """Mean over runs, in minutes, and the range."""
    speed: str
    """Env steps a second, over all runs."""
    device: str
    threads: str


class Difference(NamedTuple):
    """A key of the configuration by which settings differ."""

    key: str
    values: Sequence[str]
    """By setting, over its runs; empty where there is no such key."""


def probabilities(scores: Sequence[FloatArray]) -> list[list[float]]:
    """Return the probability of each setting (rows) to beat each (columns).

    Scores are [seeds, tasks] by setting.
    """
    return [[probability_of_improvement(mine, other) for other in scores] for mine in scores]


def result_of(
    entry: Entry, setting: Setting, curve: CurveSummary, standing: Standing | None
) -> Result:
    """Return a line of the table of final results; ``standing`` is None of a setting alone."""
    runs = setting.outcomes
    lengths = sorted({run.iteration for run in runs})
    return Result(
        entry=entry,
        scores=scores_of(curve, best_round(curve.iqm)),
        rank=_cell(*standing.rank) if standing else None,
        beats_first=_cell(*standing.beats) if standing and standing.beats else None,
        seeds=str(len(runs)),
        iterations=" to ".join(f"{end:,}" for end in dict.fromkeys((lengths[0], lengths[-1]))),
        env_steps=_millions(setting),
    )


def scores_of(curve: CurveSummary, compared: int) -> list[Cell]:
    """Return a curve as text; ``compared`` is the place of the score that is compared, or -1."""
    rows = zip(curve.iqm, curve.ci_low, curve.ci_high, strict=True)
    return [_cell(*row)._replace(compared=place == compared) for place, row in enumerate(rows)]


def cost_of(entry: Entry, setting: Setting) -> Cost:
    """Return what the runs of a setting took."""
    runs = setting.outcomes
    seconds = [run.wall_s for run in runs]
    wall_time = in_minutes(sum(seconds) / len(runs))
    if len(runs) > 1:
        wall_time += f" ({in_minutes(min(seconds))} to {in_minutes(max(seconds))})"
    steps = sum(run.learning[0, -1] for run in runs)
    speed = steps / sum(seconds) if sum(seconds) > 0 else float("nan")
    return Cost(
        entry=entry,
        env_steps=_millions(setting),
        wall_time=wall_time,
        speed=f"{speed:,.0f}",
        device=_over_runs(setting).get("device", ""),
        threads=_over_runs(setting).get("threads", ""),
    )


def differences(settings: Sequence[Setting]) -> list[Difference]:
    """Return the keys by which configurations of settings differ, those that all have first."""
    texts = [_over_runs(setting) for setting in settings]
    keys = dict.fromkeys(key for text in texts for key in text)
    table = [Difference(key, [text.get(key, "") for text in texts]) for key in keys]
    return sorted(
        (row for row in table if len({*row.values}) > 1), key=lambda row: "" in row.values
    )


def number(value: float) -> str:
    """Return a score with as many decimals as it deserves, and a true minus."""
    return f"{value:.{2 if abs(value) < 10 else 1}f}".replace("-", "−")


def _cell(value: float, low: float, high: float) -> Cell:
    return Cell(number(value), f"{number(low)}, {number(high)}")


def _millions(setting: Setting) -> str:
    return f"{np.mean([run.learning[0, -1] for run in setting.outcomes]) / 1e6:.2f}"


def _over_runs(setting: Setting) -> dict[str, str]:
    """Return the values that the runs of a setting have, by dotted key."""
    values: dict[str, dict[str, None]] = {}
    for outcome in sorted(setting.outcomes, key=lambda run: run.seed):
        for place, value in leaves(outcome.config):
            values.setdefault(".".join(place), {})[shown(value)] = None
    return {key: ", ".join(texts) for key, texts in values.items()}
