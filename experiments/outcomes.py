"""What finished runs have reached, read back from their folders."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metarl import envs
from metarl.checks import InputError
from metarl.logger import read_metrics
from metarl.plain_data import plain
from metarl.runs import Config, RunConflictError, read_config
from metarl.statistics import CurveSummary, FloatArray, summarise_curve

NO_SETTING = ("seed", "threads", "device", "checkpoint_every", "evaluate_every")
"""Fields of a config by which runs of one setting may differ."""


_NONE = object()


class Outcome(NamedTuple):
    """One run at its end."""

    folder: Path
    config: Config
    iteration: int
    """Meta-iterations."""
    env_steps: int
    """Of all of them, adaptation included."""
    wall_s: float
    """Seconds of sampling and updates, without evaluations and restarts."""
    per_task: FloatArray
    """Scores [tasks, N + 1] on held-out tasks after 0 to N adaptations."""
    score: str
    """What a score is."""
    floors: dict[str, CurveSummary]
    """What learned nothing, on the same tasks, by name."""


class Setting(NamedTuple):
    """Runs that differ in nothing but their seed."""

    preset: str
    outcomes: Sequence[Outcome]

    def curve(self) -> CurveSummary:
        """Summarise all seeds and tasks."""
        scores = np.stack([outcome.per_task for outcome in self.outcomes])
        return summarise_curve(scores, np.random.default_rng(0))


def read_outcome(folder: Path) -> Outcome:
    """Read a finished run; of several evaluations at its end the one on the most tasks.

    Raises:
        InputError: the run has not finished, or cannot be read.
        RunConflictError: the folder holds no run.
    """
    config = read_config(folder)
    if not (folder / "DONE").exists():
        raise InputError([f"{folder} has not finished: its folder holds no DONE"])
    try:
        rows = read_metrics(folder / "metrics.jsonl")
        iteration, env_steps = int(rows[-1]["iteration"]), int(rows[-1]["env_steps"])
        wall_s = sum(row["time/sampling_s"] + row["time/update_s"] for row in rows)
        files = (folder / "eval").glob(f"{iteration:06d}_tasks*_adaptations*.json")
        found = [json.loads(file.read_text()) for file in files]
        best: dict[str, Any] = max(found, key=lambda content: len(content["per_task"]))
        floors = {name: _curve(content) for name, content in best["references"].items()}
        per_task = np.asarray(best["per_task"], dtype=np.float64)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError([f"{folder} cannot be read: {type(error).__name__}: {error}"]) from error
    score = str(best["score"])
    return Outcome(folder, config, iteration, env_steps, wall_s, per_task, score, floors)


def _curve(content: dict[str, list[float]]) -> CurveSummary:
    return CurveSummary(*(tuple(content[name]) for name in CurveSummary._fields))


def read_outcomes(folders: Iterable[Path]) -> tuple[list[Outcome], list[str]]:
    """Read all runs that can be read, and say of each other one why it cannot."""
    outcomes: list[Outcome] = []
    faults: list[str] = []
    for folder in folders:
        try:
            outcomes.append(read_outcome(folder))
        except (InputError, RunConflictError) as error:
            faults += str(error).splitlines()
    return outcomes, faults


def by_environment(outcomes: Sequence[Outcome]) -> dict[str, list[Setting]]:
    """Sort runs into environments, and those of each into settings; never mixes two of either.

    Returns:
        Settings, best adapted IQM first, by what tells the environment and the evaluation apart.
    """
    environments: dict[str, dict[str, list[Outcome]]] = {}
    for outcome in outcomes:
        environment = _environment(outcome.config)
        title = f"{environment}: {outcome.score}, {len(outcome.per_task)} held-out tasks"
        settings = environments.setdefault(title, {})
        settings.setdefault(_all_but_seed(outcome), []).append(outcome)
    return {
        name: sorted(
            (Setting(str(runs[0].config["preset"]), runs) for runs in settings.values()),
            key=lambda setting: -max(setting.curve().iqm),
        )
        for name, settings in environments.items()
    }


def _environment(config: Config) -> str:
    """Name an environment by its preset, or by what it has other than the first one."""
    env: Any = dict(config["env"])  # type: ignore[call-overload]
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
    kept = {key: value for key, value in outcome.config.items() if key not in NO_SETTING}
    # Seeds are compared on the same tasks after the same number of adaptations.
    return json.dumps([kept, outcome.iteration, outcome.per_task.shape])
