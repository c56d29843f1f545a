"""Settings: runs that differ in nothing but their seed, sorted by environment."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from metarl.checks import InputError
from metarl.experiments.outcomes import NO_SETTING, Outcome, read_outcomes
from metarl.runs import leaves
from metarl.statistics import CurveSummary, FloatArray, iqm_of_runs, summarise_curve


class Setting(NamedTuple):
    """Runs that differ in nothing but their seed."""

    preset: str
    outcomes: Sequence[Outcome]

    def scores(self) -> FloatArray:
        """Return scores [seeds, tasks, N + 1]."""
        return np.stack([outcome.per_task for outcome in self.outcomes])

    def iqm(self) -> FloatArray:
        """Return the IQM of all seeds and tasks, [N + 1]."""
        return iqm_of_runs(np.moveaxis(self.scores(), -1, 0))

    def learning(self) -> FloatArray:
        """Return ``Outcome.learning`` of all seeds, [seeds, 3, P].

        Where seeds stopped at different meta-iterations, up to the first of them.
        """
        shortest = min(outcome.iteration for outcome in self.outcomes)
        return np.stack([outcome.learning[:, :shortest] for outcome in self.outcomes])

    def curve(self) -> CurveSummary:
        """Summarise all seeds and tasks."""
        return summarise_curve(self.scores(), np.random.default_rng(0))


def read_settings(folders: Iterable[Path], notes: Console) -> dict[str, list[Setting]]:
    """Read runs and sort them, as ``by_environment`` does.

    Args:
        folders: of runs.
        notes: told of each run that is left out, and of settings whose code changed.

    Raises:
        InputError: no run is left.
    """
    outcomes, faults = read_outcomes(folders)
    if not outcomes:
        raise InputError(faults or ["which runs? Give their folders"])
    for fault in faults:
        notes.print(f"left out: {fault}")
    environments = by_environment(outcomes)
    for settings in environments.values():
        for note in several_commits(settings):
            notes.print(f"note: {note}")
    return environments


def several_commits(settings: Sequence[Setting]) -> list[str]:
    """Say of each setting whose code changed between its runs of which commits they are."""
    commits = [
        frozenset[str]().union(*(run.commits for run in setting.outcomes)) for setting in settings
    ]
    return [
        f"{name}: runs of several commits: {', '.join(sorted(those))}"
        for name, those in zip(labels(settings), commits, strict=True)
        if len(those) > 1
    ]


def by_environment(outcomes: Sequence[Outcome]) -> dict[str, list[Setting]]:
    """Sort runs into environments, and those of each into settings; never mixes two of either.

    Returns:
        Settings, best adapted IQM first, by what tells the environment and the evaluation apart.
    """
    environments: dict[str, dict[str, list[Outcome]]] = {}
    for outcome in outcomes:
        title = title_of(outcome.environment, outcome.score, len(outcome.per_task))
        settings = environments.setdefault(title, {})
        settings.setdefault(outcome.setting, []).append(outcome)
    return {
        name: sorted(
            (Setting(runs[0].preset, runs) for runs in settings.values()), key=_best, reverse=True
        )
        for name, settings in environments.items()
    }


def title_of(environment: str, score: str, tasks: int) -> str:
    """Name what scores must have in common to stand in one table."""
    return f"{environment}: {score}, {tasks} held-out tasks"


def _best(setting: Setting) -> float:
    iqm = setting.iqm()
    return float(iqm[best_round(iqm)])


def best_round(iqm: Sequence[float] | FloatArray) -> int:
    """Return the place of the best IQM once adapted, or of the only one that there is."""
    return max(range(min(1, len(iqm) - 1), len(iqm)), key=iqm.__getitem__)


def labels(settings: Sequence[Setting]) -> list[str]:
    """Name each setting: its preset, and, where several share that, the values that differ."""
    values = [dict(_leaves(setting.outcomes[0])) for setting in settings]
    result = []
    for setting, mine in zip(settings, values, strict=True):
        same = [v for s, v in zip(settings, values, strict=True) if s.preset == setting.preset]
        keys = sorted({key for other in same for key in other})
        apart = [key for key in keys if any(other.get(key) != mine.get(key) for other in same)]
        told = ", ".join(f"{key.split('.')[-1]} {mine.get(key, 'unset')}" for key in apart)
        result.append(f"{setting.preset} ({told})" if told else setting.preset)
    return result


def shared_floors(settings: Sequence[Setting], but: int = 0) -> dict[str, CurveSummary]:
    """Return the floors that settings share, save for those with the name of a setting.

    Such as untrained weights are others for each agent; what does nothing is the same for all that
    are scored alike.

    Args:
        settings: of one environment.
        but: how many of them, fewer than half, may have another floor of that name, or none; the
            result's names then say which.
    """
    taken = labels(settings)
    by_setting = [setting.outcomes[0].floors for setting in settings]
    shared = {}
    for name in dict.fromkeys(name for floors in by_setting for name in floors):
        curves = [floors.get(name) for floors in by_setting]
        ((curve, number),) = Counter(curves).most_common(1)
        others = [label for label, own in zip(taken, curves, strict=True) if own != curve]
        if name in taken or curve is None or len(others) > but or len(others) >= number:
            continue
        shared[f"{name} (not for {', '.join(others)})" if others else name] = curve
    return shared


def _leaves(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Walk through all values by which settings are told apart, with their dotted names.

    As text, since 1 and 1.0 are equal, but make two settings.
    """
    for place, value in leaves(outcome.config):
        key = ".".join(place)
        if key not in (*NO_SETTING, "iterations"):
            yield key, str(value)
    yield "iterations", str(outcome.length)
    yield "held-out scores", str(outcome.per_task.shape)


def in_minutes(seconds: float) -> str:
    """Return a wall time in minutes, with as many decimals as it deserves."""
    return f"{seconds / 60:.{1 if seconds >= 60 else 2}f}"
