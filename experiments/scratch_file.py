"""What a file of ``metarl scratch`` holds, for those that show it beside agents."""

import textwrap
from pathlib import Path
from typing import NamedTuple

from metarl.checks import InputError
from metarl.experiments.evaluation.scoring import score_table
from metarl.files import BrokenFileError, parse_json
from metarl.plain_data import read_fields

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
    wall_s: float
    """Seconds of all tasks together, the scoring included."""

    @property
    def along(self) -> int:
        """How many of the scores, from the first on, are after 0, 1, 2, ... rounds."""
        return sum(place == number for place, number in enumerate(self.rounds))


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
        lines = (f"{file} is not what metarl scratch writes: {line}" for line in error.lines)
        raise InputError(textwrap.shorten(line, _LONGEST_LINE) for line in lines) from None
    if not columns == len(learned.rounds) == len(learned.env_steps) or learned.rounds[0] != 0:
        raise InputError(
            [f"{file} is not what metarl scratch writes: rounds, env_steps and per_task disagree"]
        )
    return learned
