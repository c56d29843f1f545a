"""The sections of a report: one for each environment, made of what its settings have reached."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from metarl.experiments.report.charts import (
    Chart,
    adaptation_chart,
    learning_chart,
    profile_chart,
)
from metarl.experiments.report.folders import Clip, RunView, view
from metarl.experiments.report.legend import (
    Entry,
    Reference,
    entries_of_references,
    entries_of_settings,
    references_of,
)
from metarl.experiments.report.tables import (
    Cost,
    Difference,
    Result,
    cost_of,
    differences,
    probabilities,
    result_of,
    scores_of,
)
from metarl.experiments.settings import Setting, labels, several_commits
from metarl.experiments.standings import compared_scores, standings
from metarl.statistics import CurveSummary

_FEW_SEEDS = 3


class Section(NamedTuple):
    """All that a report says of one environment."""

    anchor: str
    environment: str
    score: str
    tasks: int
    notes: Sequence[str]
    legend: Sequence[Entry]
    results: Sequence[Result]
    """Of settings, best first, and of the references that they share."""
    probabilities: Sequence[Sequence[float]]
    """[settings, settings]: of the setting of the row to beat that of the column."""
    costs: Sequence[Cost]
    differences: Sequence[Difference]
    charts: Mapping[str, Chart]
    runs: Sequence[tuple[Entry, Sequence[RunView]]]

    @property
    def settings(self) -> Sequence[Entry]:
        """The legend without references."""
        return self.legend[: len(self.costs)]

    @property
    def rounds(self) -> int:
        """The largest number of scores in a line of results."""
        return max(len(result.scores) for result in self.results)


def section(
    anchor: str, settings: Sequence[Setting], clips: Mapping[Path, Sequence[Clip]], page: Path
) -> Section:
    """Say all that there is to say of the settings of one environment, best first.

    Args:
        anchor: what the section is called in links.
        settings: as ``by_environment`` sorts them.
        clips: moving pictures of each run.
        page: where the report is going to lie.
    """
    first, names = settings[0].outcomes[0], labels(settings)
    references = references_of(names, settings)
    ours, theirs = entries_of_settings(names), entries_of_references(references)
    curves = [setting.curve() for setting in settings]
    final = compared_scores(settings, None)
    drawn = [(entry, entry.name, curve) for entry, curve in zip(ours, curves, strict=True)]
    beside = _beside(theirs, references)
    # One alone stands to nobody.
    stand = standings(final, 0) if len(final) > 1 else [None]
    lines = zip(ours, settings, curves, stand, strict=True)
    shared = [Result(entry, scores_of(curve, -1)) for entry, _, curve in beside if entry.shown]
    return Section(
        anchor=anchor,
        environment=first.environment,
        score=first.score,
        tasks=len(first.per_task),
        notes=[*seed_notes(names, settings), *several_commits(settings)],
        legend=[*ours, *theirs],
        results=[*(result_of(*line) for line in lines), *shared],
        probabilities=probabilities(final),
        costs=[cost_of(*pair) for pair in zip(ours, settings, strict=True)],
        differences=differences(settings),
        charts={
            "learning": learning_chart(ours, settings),
            "adaptation": adaptation_chart(drawn + beside, first.score),
            "profile": profile_chart(ours, final, first.score),
        },
        runs=[
            (entry, [view(run, clips[run.folder], page) for run in setting.outcomes])
            for entry, setting in zip(ours, settings, strict=True)
        ],
    )


def _beside(
    legend: Sequence[Entry], references: Sequence[Reference]
) -> list[tuple[Entry, str, CurveSummary]]:
    return [
        (entry, name, curve)
        for entry, reference in zip(legend, references, strict=True)
        for name, curve in reference.curves
    ]


def seed_notes(names: Sequence[str], settings: Sequence[Setting]) -> list[str]:
    """Say of what intervals speak where seeds are few."""
    seeds = [len(setting.outcomes) for setting in settings]
    one = [name for name, count in zip(names, seeds, strict=True) if count == 1]
    few = [name for name, count in zip(names, seeds, strict=True) if 1 < count < _FEW_SEEDS]
    notes = []
    if len(one) == len(names):
        notes.append("One seed each: intervals speak of tasks, not of seeds.")
    elif one:
        notes.append(f"One seed: {', '.join(one)}. Intervals there speak of tasks, not of seeds.")
    if few:
        notes.append(f"Fewer than {_FEW_SEEDS} seeds: {', '.join(few)}.")
    return notes
