"""What finished runs have reached, read back from their folders."""

import json
import textwrap
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metarl.checks import InputError
from metarl.experiments.evaluation.files import standard_evaluations
from metarl.experiments.evaluation.scoring import TOTAL, score_table
from metarl.experiments.experiment import environment_name
from metarl.experiments.progress import RULES, STOPPED
from metarl.files import BrokenFileError, parse_json
from metarl.logger import read_metrics
from metarl.plain_data import read_fields
from metarl.runs import Config, RunConflictError, read_config
from metarl.statistics import CurveSummary, FloatArray

NO_SETTING = ("seed", "threads", "device", "checkpoint_every", "evaluate_every")
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

    @property
    def setting(self) -> str:
        """What tells settings apart: all of the run but its seed, and how it was scored."""
        kept = {key: value for key, value in self.config.items() if key not in NO_SETTING}
        # Seeds are compared on the same tasks after the same number of adaptations.
        scored = (self.length, self.per_task.shape, self.score)
        return json.dumps([kept, scored], sort_keys=True)


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
        first = outcomes.setdefault((outcome.setting, outcome.seed), outcome)
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


def score_of(label: str, episodes: int) -> str:
    """Say what a score is: a total over another number of episodes is another one."""
    return (
        f"{label} of {episodes} episode{'s' if episodes > 1 else ''}" if label == TOTAL else label
    )


def _read(folder: Path, config: Config) -> Outcome:
    done = _picked((RULES, STOPPED), parse_json(folder / "DONE", (folder / "DONE").read_bytes()))
    asked = read_fields(_Asked, _picked(_Asked._fields, config), "config.yaml: ")
    rows = read_metrics(folder / "metrics.jsonl")
    columns = [[row[key] for row in rows] for key in ("env_steps", "meta/post_return")]
    seconds = [row["time/sampling_s"] + row["time/update_s"] for row in rows]
    if [row["iteration"] for row in rows] != [*range(1, len(rows) + 1)]:
        raise InputError(["metrics.jsonl lacks meta-iterations"])
    files = standard_evaluations(folder / "eval", len(rows))
    evaluations = [_evaluation(file) for file in files]
    tables = [score_table(evaluation.per_task) for evaluation in evaluations]
    if not tables:
        raise InputError([f"eval/ holds nothing of meta-iteration {len(rows)}"])
    best = max(range(len(tables)), key=lambda place: tables[place].shape)
    return Outcome(
        folder=folder,
        config=config,
        preset=asked.preset,
        environment=environment_name(asked.env),
        seed=asked.seed,
        commits=_commits(folder / "system.json"),
        learning=np.array([*columns, np.cumsum(seconds)], dtype=np.float64),
        per_task=tables[best],
        score=score_of(evaluations[best].score, asked.episodes),
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
