"""What a file of ``metarl scratch`` holds, for those that show it beside agents."""

import itertools
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metarl import envs
from metarl.checks import InputError
from metarl.experiments.evaluation.scoring import score_table
from metarl.experiments.experiment import environment_name
from metarl.experiments.outcomes import score_of
from metarl.experiments.settings import title_of
from metarl.files import BrokenFileError, parse_json
from metarl.plain_data import read_fields
from metarl.statistics import FloatArray

_LONGEST_LINE = 300


class Learned(NamedTuple):
    """What is read of a file of ``metarl scratch``."""

    env: dict[str, object]
    split: str
    episodes: int
    score: str
    rounds: tuple[int, ...]
    """After how many rounds policies were scored."""
    env_steps: tuple[int, ...]
    """As many: of each task."""
    per_task: tuple[tuple[float, ...], ...]
    """Scores, by task, then as ``rounds``."""
    seed: int
    wall_s: float
    """Seconds of all tasks together, the scoring included."""

    @property
    def along(self) -> int:
        """How many of the scores, from the first on, are after 0, 1, 2, ... rounds."""
        return sum(place == number for place, number in enumerate(self.rounds))


class Scratch(NamedTuple):
    """Files that differ in nothing but the seed."""

    kind: Learned
    """One of them."""
    scores: FloatArray
    """[seeds, tasks, rounds]."""
    wall_s: float
    """Mean over seeds."""

    @property
    def name_by_rounds(self) -> str:
        """Name what was learned round by round."""
        episodes = self.kind.episodes
        return f"from scratch, rounds of {episodes} episode{'s' if episodes > 1 else ''}"

    @property
    def name_at_the_end(self) -> str:
        """Name what was learned in the end."""
        return f"from scratch, {self.kind.env_steps[-1]:,} steps a task"

    def env_steps(self, place: int) -> int:
        """Return the steps of all tasks together until one of the scored rounds."""
        return self.kind.env_steps[place] * len(self.kind.per_task)


def read_scratch(files: Iterable[Path]) -> tuple[dict[str, list[Scratch]], list[str]]:
    """Read all files that can be read, and say of each other one why it cannot.

    Returns:
        What was learned from scratch, by the title of the table in which it stands, and the faults.
    """
    groups: dict[tuple[str, int, tuple[int, ...]], dict[int, Learned]] = {}
    faults: list[str] = []
    for file in files:
        try:
            learned = read_learned(file)
        except InputError as error:
            faults += error.lines
            continue
        seeds = groups.setdefault((_title(learned), learned.episodes, learned.rounds), {})
        if learned.seed in seeds:
            faults.append(f"{file} has the setting and the seed of a file before it: choose one")
        seeds.setdefault(learned.seed, learned)
    tables: dict[str, list[Scratch]] = {}
    for (title, *_), seeds in groups.items():
        several = list(seeds.values())
        scores = np.array([learned.per_task for learned in several])
        wall_s = sum(learned.wall_s for learned in several) / len(several)
        tables.setdefault(title, []).append(Scratch(several[0], scores, wall_s))
    return tables, faults


def _title(learned: Learned) -> str:
    score = score_of(learned.score, learned.episodes)
    title = title_of(environment_name(learned.env), score, len(learned.per_task))
    # Runs are in tables by their scores on the list "test".
    return title if learned.split == "test" else f"{title} ({learned.split})"


def read_learned(file: Path) -> Learned:
    """Read such a file.

    Raises:
        InputError: it is none; a line for each fault.
    """
    try:
        content = parse_json(file, file.read_bytes())
    except (OSError, BrokenFileError) as error:
        raise InputError([f"{file} is neither a run folder nor a JSON file: {error}"]) from None
    fields = content if isinstance(content, dict) else {}
    try:
        learned = read_fields(
            Learned, {key: fields[key] for key in Learned._fields if key in fields}
        )
        columns = score_table(learned.per_task).shape[1]
    except InputError as error:
        said = (f"{file} is not what metarl scratch writes: {line}" for line in error.lines)
        raise InputError(textwrap.shorten(line, _LONGEST_LINE) for line in said) from None
    checks = {
        "rounds, env_steps and per_task disagree": columns
        == len(learned.rounds)
        == len(learned.env_steps),
        "rounds must rise from 0": learned.rounds[:1] == (0,) and _rise(learned.rounds),
        "env_steps must rise from 0": learned.env_steps[:1] == (0,) and _rise(learned.env_steps),
        "episodes must be at least 1": learned.episodes >= 1,
        "wall_s must not be negative": learned.wall_s >= 0,
        "env.name must be that of an environment": str(learned.env.get("name")) in envs.ENVS,
    }
    lines = [
        f"{file} is not what metarl scratch writes: {why}" for why, ok in checks.items() if not ok
    ]
    if lines:
        raise InputError(lines)
    return learned


def _rise(numbers: Sequence[int]) -> bool:
    return all(a < b for a, b in itertools.pairwise(numbers))
