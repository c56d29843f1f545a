"""What finished runs have reached, read back from their folders."""

import json
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from metarl.checks import InputError
from metarl.experiments.evaluate import TOTAL, score_table
from metarl.experiments.experiment import environment_name
from metarl.experiments.progress import RULES, STOPPED
from metarl.files import BrokenFileError, parse_json
from metarl.logger import read_metrics
from metarl.plain_data import read_fields
from metarl.runs import Config, RunConflictError, leaves, read_config
from metarl.statistics import CurveSummary, FloatArray, iqm_of_runs, summarise_curve

_NO_SETTING = ("seed", "threads", "device", "checkpoint_every", "evaluate_every")
"""Fields of a config by which runs of one setting may differ."""
_DAMAGE = (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
"""What reading raises where a file does not hold what it should."""
_LONGEST_REASON = 300


class Outcome(NamedTuple):
    """One run at its end."""

    folder: Path
    config: Config
    preset: str
    environment: str
    """What it is trained on, by the name of its preset where it has one."""
    seed: int
    commits: frozenset[str]
    """Of the code that it was trained with, where that is known."""
    learning: FloatArray
    """[3, meta-iterations]: env steps so far, adaptation included; return after adaptation; seconds
    of sampling and updates so far, without evaluations and restarts."""
    per_task: FloatArray
    """Scores [tasks, N + 1] on held-out tasks after 0 to N adaptations."""
    score: str
    """What a score is."""
    floors: dict[str, CurveSummary]
    """What else was evaluated on the same tasks, by name: what learned nothing, and references."""
    length: str | int
    """What decided how long it is: rules that may stop it early, or its meta-iterations."""

    @property
    def iteration(self) -> int:
        """Meta-iterations."""
        return len(self.learning[0])

    @property
    def wall_s(self) -> float:
        """Seconds of sampling and updates of the whole run."""
        return float(self.learning[2, -1])


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

    def curve(self) -> CurveSummary:
        """Summarise all seeds and tasks."""
        return summarise_curve(self.scores(), np.random.default_rng(0))


class _Asked(NamedTuple):
    """What must be known of a run's config."""

    preset: str
    seed: int
    episodes: int
    env: dict[str, object]


class _Evaluation(NamedTuple):
    """What must be known of an evaluation."""

    per_task: tuple[tuple[float, ...], ...]
    score: str
    references: dict[str, object]


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


def read_outcomes(folders: Iterable[Path]) -> tuple[list[Outcome], list[str]]:
    """Read all runs that can be read, and say of each other one why it cannot.

    Two runs of one setting and one seed are no two seeds: the first is taken.
    """
    outcomes: dict[tuple[str, int], Outcome] = {}
    faults: list[str] = []
    for folder in folders:
        try:
            outcome = read_outcome(folder)
        except (InputError, RunConflictError) as error:
            faults += str(error).splitlines()
            continue
        first = outcomes.setdefault((_all_but_seed(outcome), outcome.seed), outcome)
        if first is not outcome:
            faults.append(f"{folder} has the setting and the seed of {first.folder}: choose one")
    return list(outcomes.values()), faults


def read_outcome(folder: Path) -> Outcome:
    """Read a finished run; of several evaluations at its end the largest: tasks, then adaptations.

    Raises:
        InputError: the run has not finished, or cannot be read.
        RunConflictError: the folder holds no run.
    """
    config = read_config(folder)
    if not (folder / "DONE").exists():
        raise InputError([f"{folder} has not finished: its folder holds no DONE"])
    try:
        return _read(folder, config)
    except _DAMAGE as error:
        told = isinstance(error, InputError | BrokenFileError)
        reason = str(error) if told else f"{type(error).__name__}: {error}"
        line = textwrap.shorten(reason, _LONGEST_REASON, placeholder=" ...")
        raise InputError([f"{folder} cannot be read: {line}"]) from error


def _read(folder: Path, config: Config) -> Outcome:
    done = _picked((RULES, STOPPED), parse_json(folder / "DONE", (folder / "DONE").read_bytes()))
    asked = read_fields(_Asked, _picked(_Asked._fields, config), "config.yaml: ")
    rows = read_metrics(folder / "metrics.jsonl")
    columns = [[row[key] for row in rows] for key in ("env_steps", "meta/post_return")]
    seconds = [row["time/sampling_s"] + row["time/update_s"] for row in rows]
    if [row["iteration"] for row in rows] != [*range(1, len(rows) + 1)]:
        raise InputError(["metrics.jsonl lacks meta-iterations"])
    standard = re.compile(rf"{len(rows):06d}_tasks\d+_adaptations\d+\.json")
    files = (folder / "eval").glob("*.json")
    evaluations = [_evaluation(file) for file in files if standard.fullmatch(file.name)]
    tables = [score_table(evaluation.per_task) for evaluation in evaluations]
    if not tables:
        raise InputError([f"eval/ holds nothing of meta-iteration {len(rows)}"])
    best = max(range(len(tables)), key=lambda place: tables[place].shape)
    score = evaluations[best].score
    if score == TOTAL:  # over another number of episodes it is another score
        score += f" of {asked.episodes} episode{'s' if asked.episodes > 1 else ''}"
    return Outcome(
        folder=folder,
        config=config,
        preset=asked.preset,
        environment=environment_name(asked.env),
        seed=asked.seed,
        commits=_commits(folder / "system.json"),
        learning=np.array([*columns, np.cumsum(seconds)], dtype=np.float64),
        per_task=tables[best],
        score=score,
        floors={name: _curve(curve) for name, curve in evaluations[best].references.items()},
        length=str(done.get(RULES, done.get(STOPPED, ""))) or len(rows),
    )


def _evaluation(file: Path) -> _Evaluation:
    content = parse_json(file, file.read_bytes())
    return read_fields(_Evaluation, _picked(_Evaluation._fields, content), f"{file.name}: ")


def _picked(fields: Collection[str], content: object) -> dict[str, object]:
    """Return what a mapping says of some fields."""
    if not isinstance(content, Mapping):
        raise InputError([f"must be a mapping, got {content!r}"])
    return {key: value for key, value in content.items() if key in fields}


def _curve(content: object) -> CurveSummary:
    curve = read_fields(CurveSummary, _picked(CurveSummary._fields, content), "references: ")
    score_table(curve)
    return curve


def _commits(file: Path) -> frozenset[str]:
    """Return the commits of all sittings, as far as they are told."""
    if not file.exists():
        return frozenset()
    content = _picked(("sittings",), parse_json(file, file.read_bytes()))
    sittings: Any = content.get("sittings", [])
    told = [sitting["git"] for sitting in sittings if sitting["git"]]
    return frozenset(git["commit"][:8] + (" (changed)" if git["dirty"] else "") for git in told)


def by_environment(outcomes: Sequence[Outcome]) -> dict[str, list[Setting]]:
    """Sort runs into environments, and those of each into settings; never mixes two of either.

    Returns:
        Settings, best adapted IQM first, by what tells the environment and the evaluation apart.
    """
    environments: dict[str, dict[str, list[Outcome]]] = {}
    for outcome in outcomes:
        tasks = f"{len(outcome.per_task)} held-out tasks"
        title = f"{outcome.environment}: {outcome.score}, {tasks}"
        settings = environments.setdefault(title, {})
        settings.setdefault(_all_but_seed(outcome), []).append(outcome)
    return {
        name: sorted(
            (Setting(runs[0].preset, runs) for runs in settings.values()), key=_best, reverse=True
        )
        for name, settings in environments.items()
    }


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
        keys = sorted({key for other in same for key in (*other, *mine)})
        apart = [key for key in keys if any(other.get(key) != mine.get(key) for other in same)]
        told = ", ".join(f"{key.split('.')[-1]} {mine.get(key)}" for key in apart)
        result.append(f"{setting.preset} ({told})" if told else setting.preset)
    return result


def shared_floors(settings: Sequence[Setting]) -> dict[str, CurveSummary]:
    """Return the floors that all settings share, but for those with the name of a setting.

    Such as untrained weights are others for each agent.
    """
    first, *others = (setting.outcomes[0].floors for setting in settings)
    taken = labels(settings)
    return {
        name: curve
        for name, curve in first.items()
        if name not in taken and all(floors.get(name) == curve for floors in others)
    }


def _leaves(outcome: Outcome) -> Iterator[tuple[str, object]]:
    """Walk through all values by which settings are told apart, with their dotted names."""

    for place, value in leaves(outcome.config):
        key = ".".join(place)
        if key not in (*_NO_SETTING, "iterations"):
            yield key, value
    yield "iterations", outcome.length
    yield "held-out scores", outcome.per_task.shape


def _all_but_seed(outcome: Outcome) -> str:
    kept = {key: value for key, value in outcome.config.items() if key not in _NO_SETTING}
    # Seeds are compared on the same tasks after the same number of adaptations.
    scored = (outcome.length, outcome.per_task.shape, outcome.score)
    return json.dumps([kept, scored], sort_keys=True)
