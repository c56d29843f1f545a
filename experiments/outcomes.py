"""What finished runs have reached, read back from their folders."""

import dataclasses
import json
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from metarl import envs
from metarl.checks import InputError
from metarl.experiments.evaluation.files import standard_evaluations
from metarl.experiments.evaluation.scoring import TOTAL, score_table
from metarl.files import BrokenFileError, parse_json
from metarl.logger import read_metrics
from metarl.plain_data import plain, read_fields
from metarl.runs import Config, RunConflictError, read_config
from metarl.statistics import CurveSummary, FloatArray, summarise_curve

_NO_SETTING = ("seed", "threads", "device", "checkpoint_every", "evaluate_every")
"""Fields of a config by which runs of one setting may differ."""
_DAMAGE = (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
"""What reading raises where a file does not hold what it should."""
_LONGEST_REASON = 300
_NONE = object()


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
    """[2, meta-iterations]: env steps so far, adaptation included, and return after adaptation."""
    wall_s: float
    """Seconds of sampling and updates, without evaluations and restarts."""
    per_task: FloatArray
    """Scores [tasks, N + 1] on held-out tasks after 0 to N adaptations."""
    score: str
    """What a score is."""
    floors: dict[str, CurveSummary]
    """What else was evaluated on the same tasks, by name: what learned nothing, and references."""

    @property
    def iteration(self) -> int:
        """Meta-iterations."""
        return len(self.learning[0])


class Setting(NamedTuple):
    """Runs that differ in nothing but their seed."""

    preset: str
    outcomes: Sequence[Outcome]

    def curve(self) -> CurveSummary:
        """Summarise all seeds and tasks."""
        scores = np.stack([outcome.per_task for outcome in self.outcomes])
        return summarise_curve(scores, np.random.default_rng(0))


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
        for name, setting in zip(labels(settings), settings, strict=True):
            commits = frozenset[str]().union(*(run.commits for run in setting.outcomes))
            if len(commits) > 1:
                notes.print(f"note: {name}: runs of several commits: {', '.join(sorted(commits))}")
    return environments


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
    asked = read_fields(_Asked, _picked(_Asked._fields, config), "config.yaml: ")
    rows = read_metrics(folder / "metrics.jsonl")
    columns = [[row[key] for row in rows] for key in ("env_steps", "meta/post_return")]
    if [row["iteration"] for row in rows] != [*range(1, len(rows) + 1)]:
        raise InputError(["metrics.jsonl lacks meta-iterations"])
    files = standard_evaluations(folder / "eval", len(rows))
    evaluations = [_evaluation(file) for file in files]
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
        environment=_environment(asked.env),
        seed=asked.seed,
        commits=_commits(folder / "system.json"),
        learning=np.array(columns, dtype=np.float64),
        wall_s=float(sum(row["time/sampling_s"] + row["time/update_s"] for row in rows)),
        per_task=tables[best],
        score=score,
        floors={name: _curve(curve) for name, curve in evaluations[best].references.items()},
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
    """Return the best IQM of a setting that has adapted, or the only one that there is."""
    iqm = setting.curve().iqm
    return max(iqm[1:] or iqm)


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

    def walk(config: Mapping[str, object], above: str) -> Iterator[tuple[str, object]]:
        for key, value in config.items():
            if isinstance(value, Mapping):
                yield from walk(value, f"{above}{key}.")
            else:
                yield f"{above}{key}", value

    for key, value in walk(outcome.config, ""):
        if key not in (*_NO_SETTING, "iterations"):
            yield key, value
    yield "iterations", outcome.iteration
    yield "held-out scores", outcome.per_task.shape


def _environment(config: Mapping[str, object]) -> str:
    """Name an environment by its preset, or by what it has other than the first one."""
    env = dict(config)
    name = str(env.pop("name"))
    presets = envs.ENVS[name].presets if name in envs.ENVS else {}
    published = {key: plain(dataclasses.asdict(preset)) for key, preset in presets.items()}
    for key, values in published.items():
        if values == env:
            return f"{name}, {key}"
    first: dict[str, object] = next(iter(published.values()), {})
    other = [f"{key} {value}" for key, value in env.items() if first.get(key, _NONE) != value]
    return f"{name} ({', '.join(other)})"


def _all_but_seed(outcome: Outcome) -> str:
    kept = {key: value for key, value in outcome.config.items() if key not in _NO_SETTING}
    # Seeds are compared on the same tasks after the same number of adaptations.
    scored = (outcome.iteration, outcome.per_task.shape, outcome.score)
    return json.dumps([kept, scored], sort_keys=True)
