"""What trials of a search have scored, and what comes of the best one."""

import itertools
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich.console import Console
from rich.table import Table

from metarl.checkpoint import write_bytes_atomic
from metarl.experiments.sweep.spec import SweepSpec
from metarl.logger import read_metrics
from metarl.plain_data import plain

if TYPE_CHECKING:
    from metarl.experiments.sweep.search_study import Trial

_TAIL = 0.1
_ROWS_SHOWN = 10
_FRESH_SEEDS = 5


def score_at(folder: Path, metric: str, iteration: int) -> float | None:
    """Return what a run had reached after ``iteration`` meta-iterations.

    The mean of a metric over the last tenth of them, or its last value where none is in there.

    Args:
        folder: of the run.
        metric: its column in ``metrics.jsonl``.
        iteration: until when to look; what came later plays no part.

    Returns:
        None where the run has not come so far, or has no finite value of the metric by then.
    """
    file = folder / "metrics.jsonl"
    rows = read_metrics(file) if file.exists() else []
    if len(rows) < iteration:
        return None
    points = [(row["iteration"], row[metric]) for row in rows[:iteration] if metric in row]
    tail = [value for at, value in points if at > iteration * (1 - _TAIL)]
    values = tail or [value for _, value in points[-1:]]
    if not values or not all(math.isfinite(value) for value in values):
        return None
    return statistics.fmean(values)


def ranked(trials: Sequence["Trial"]) -> list["Trial"]:
    """Return the complete trials, the best first; of equal ones the first drawn."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return sorted(complete, key=lambda trial: -(trial.score or 0.0))


def print_trials(trials: Sequence["Trial"], spec: SweepSpec, metric: str, console: Console) -> None:
    """Print the best trials, and how many others there are of which kind."""
    table = Table(header_style="bold", border_style="dim")
    for heading in ("rank", "trial", metric, *spec.search):
        # Dotted names are long: a line for each part.
        table.add_column(heading.replace(".", ".\n"), justify="right", overflow="fold")
    best = ranked(trials)
    for rank, trial in enumerate(best[:_ROWS_SHOWN], start=1):
        values = [shown(trial.values[key]) for key in spec.search]
        table.add_row(str(rank), str(trial.number), shown(trial.score), *values)
    console.print(table)
    others = [trial for trial in trials if trial.state != "complete"]
    for trial in others:
        console.print(f"trial {trial.number} {trial.state}: {trial.reason}")
    seeds = f"{len(spec.seeds)} seed{'s' if len(spec.seeds) > 1 else ''}"
    console.print(f"{len(best)} of {len(trials)} trials complete, each with {seeds}")


def write_best(trial: "Trial", spec: SweepSpec, metric: str, file: Path) -> None:
    """Write a sweep of the best trial's values, with seeds that the search has not used.

    The best of many is so by luck too: on the seeds that chose it, it looks better than it is.
    """
    fresh = (seed for seed in itertools.count(1) if seed not in spec.seeds)
    content = {
        "name": f"{spec.name[:80]}-best",
        "presets": list(spec.presets),
        "seeds": list(itertools.islice(fresh, _FRESH_SEEDS)),
        "set": plain(dict(spec.set) | dict(trial.values)),
    }
    head = f"# Trial {trial.number} of the search {spec.name}: {metric} {shown(trial.score)}.\n"
    text = head + yaml.safe_dump(content, sort_keys=False)
    write_bytes_atomic(file, text.encode())


def shown(value: object) -> str:
    """Return a value in a few figures."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
