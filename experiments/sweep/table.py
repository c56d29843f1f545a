"""What a sweep shows while it runs: one live table, or a line for each change of state."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from metarl.experiments.sweep.plan import Job, State

_ORDER: Sequence[State] = ("running", "retried", "failed", "stopped", "queued", "done")
_TAIL_BYTES = 65_536
_LINES_OF_FRAME = 7


class SweepTable:
    """Owns the terminal while a sweep runs; a ``Watch``.

    On a terminal it shows state, meta-iteration, return after adaptation and environment steps per
    second of each run, as its metrics say; elsewhere each change of state makes a line.
    """

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        self._jobs, self._console = tuple(jobs), console
        self._states: dict[str, State] = {job.id: _first_state(job) for job in jobs}
        live = console.is_terminal and not console.is_dumb_terminal
        self._live: Live | None = None
        if live:
            # Redirected, stdout would come out on stderr and pipes would run dry.
            self._live = Live(
                console=console,
                get_renderable=self._view,
                refresh_per_second=1,
                redirect_stdout=False,
                redirect_stderr=False,
            )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, job: Job, state: State) -> None:
        """Take a change of state."""
        self._states[job.id] = state
        if self._live is None:
            done = self._counts()["done"]
            cells = _cells(job) if state == "done" else ()
            said = f"[{done}/{len(self._jobs)}] {state:8} {job.label}"
            if cells:
                said += f"  return {cells[1]}"
            self._console.out(said, highlight=False)

    def _counts(self) -> Counter[State]:
        return Counter(self._states.values())

    def _view(self) -> Group:
        jobs = sorted(self._jobs, key=lambda job: _ORDER.index(self._states[job.id]))
        shown = jobs[: max(1, self._console.height - _LINES_OF_FRAME)]
        table = Table(header_style="bold", border_style="dim")
        table.add_column("run", overflow="ellipsis", no_wrap=True)
        table.add_column("state")
        for heading in ("iteration", "return", "steps/s"):
            table.add_column(heading, justify="right", no_wrap=True)
        for job in shown:
            # Labels are a user's words: never markup.
            table.add_row(Text(job.label), self._states[job.id], *_cells(job))
        counts = self._counts()
        said = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
        hidden = f"; {len(jobs) - len(shown)} not shown" if len(shown) < len(jobs) else ""
        return Group(table, Text(f"{len(jobs)} runs: {said}{hidden}"))


def _first_state(job: Job) -> State:
    return "done" if job.done else "queued"


def _cells(job: Job) -> tuple[str, str, str]:
    """Return meta-iteration, return and steps per second of a run, as they are shown."""
    row = last_metrics(job.folder / "metrics.jsonl")
    total = job.experiment.iterations
    score, speed = (row.get(key) for key in ("meta/post_return", "time/fps"))
    return (
        f"{int(row.get('iteration', 0))}/{total}",
        "-" if score is None else f"{score:.4g}",
        "-" if speed is None or not math.isfinite(speed) else f"{speed:,.0f}",
    )


def last_metrics(file: Path) -> Mapping[str, float]:
    """Return the last whole line of a ``metrics.jsonl``, without what is null; {} if none."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - _TAIL_BYTES))
            lines = stream.read().split(b"\n")
    except OSError:
        return {}
    for line in reversed(lines[:-1]):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            return {key: value for key, value in row.items() if isinstance(value, int | float)}
    return {}
