"""Sinks of metrics: a file that survives a kill, TensorBoard, and the screen.

A resumed run writes again from its checkpoint's iteration on: every sink that keeps a record drops
what it holds from there, so that the record has neither gap nor duplicate.
"""

import json
import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from metarl.checkpoint import write_bytes_atomic
from metarl.checks import InputError
from metarl.types import Metrics

if TYPE_CHECKING:
    from torch.utils import tensorboard

_FPS = "time/fps"
_ROWS_SHOWN = 12
_TIMES_KEPT = 20


class MetricSink(Protocol):
    """Where the metrics of each meta-iteration go."""

    def write(self, iteration: int, env_steps: int, metrics: Metrics) -> None:
        """Take the metrics of an iteration (from 1 on) and the env steps of the run so far."""
        ...

    def close(self) -> None:
        """Finish what is under way; a second call does nothing."""
        ...


class JsonlSink:
    """Append-only file, one JSON object per line, each line on its way to disk when written.

    On opening, lines of ``first_iteration`` and later are dropped, and so is a last line torn by a
    kill. Numbers that are not finite are written as null: the file is strict JSON.

    Raises:
        ValueError: a line of the existing file, other than the last, is not a line of metrics.
    """

    def __init__(self, path: Path, first_iteration: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _keep_before(path, first_iteration)
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def write(self, iteration: int, env_steps: int, metrics: Metrics) -> None:
        """Append one line.

        Raises:
            ValueError: the sink is closed.
        """
        numbers = {name: float(value) for name, value in metrics.items()}
        finite = {name: v if math.isfinite(v) else None for name, v in numbers.items()}
        line = json.dumps({"iteration": iteration, "env_steps": env_steps, **finite})
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read the lines of a ``metrics.jsonl``; null becomes NaN, a torn last line is left out.

    Raises:
        ValueError: a line other than the last is not a line of metrics.
    """
    return [
        {name: math.nan if value is None else value for name, value in record.items()}
        for _, record in _records(path)
    ]


def _records(path: Path) -> list[tuple[bytes, dict[str, float | None]]]:
    """Return each whole line with what it says."""
    lines = path.read_bytes().split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    records: list[tuple[bytes, dict[str, float | None]]] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line.decode("utf-8"))
            if not isinstance(record, dict) or not isinstance(record.get("iteration"), int):
                raise ValueError("no iteration")
        except ValueError as error:
            # Only the end can be torn: anything else is damage, and not ours to throw away.
            if number < len(lines):
                line_says = f"{path}, line {number}: not a line of metrics"
                raise InputError([line_says]) from error
            break
        records.append((line, record))
    return records


def _keep_before(path: Path, first_iteration: int) -> None:
    """Rewrite the file, atomically, with the lines before ``first_iteration``."""
    kept = [
        line
        for line, record in _records(path)
        if (iteration := record["iteration"]) is not None and iteration < first_iteration
    ]
    content = b"".join(line + b"\n" for line in kept)
    if content == path.read_bytes():
        return
    write_bytes_atomic(path, content)


class TensorBoardSink:
    """Event files for TensorBoard; x is env steps.

    Points of earlier runs at ``purge_step`` env steps and beyond are dropped: a resumed run passes
    one more than the env steps of its checkpoint. Training goes on without TensorBoard: the first
    failure is a warning, and ``failures`` counts them all.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        self.failures = 0
        self._writer: tensorboard.SummaryWriter | None = None
        try:
            # Half a second and more, which those who only import metarl need not pay.
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

            self._writer = SummaryWriter(str(folder), purge_step=purge_step)
        except Exception as error:
            self._fail(error)

    def write(self, iteration: int, env_steps: int, metrics: Metrics) -> None:
        """Add one point to each metric's curve."""
        if self._writer is None:
            self.failures += 1
            return
        try:
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, env_steps)
            # A thread does the writing: flushing brings its errors here and outlives a kill.
            self._writer.flush()
        except Exception as error:
            self._fail(error)

    def close(self) -> None:
        """Close the event file."""
        if self._writer is None:
            return
        try:
            self._writer.close()
        except Exception as error:
            self._fail(error)
        self._writer = None

    def _fail(self, error: Exception) -> None:
        # Whatever the reason, hours of training must not end for want of a plot.
        self.failures += 1
        if self.failures == 1:
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"TensorBoard output failed: {reason}", RuntimeWarning, stacklevel=3)


class ConsoleSink:
    """A live table on a terminal, one plain line per iteration elsewhere; on stderr unless told.

    ``columns`` names the metrics to show and their headings. Time left comes from the median of
    the recent iterations' wall times, as read from ``clock`` in seconds.
    """

    def __init__(
        self,
        columns: Mapping[str, str],
        total_iterations: int,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._columns = dict(columns)
        self._total = total_iterations
        self._console = Console(stderr=True) if console is None else console
        self._clock = clock
        self._last_time = clock()
        self._times: deque[float] = deque(maxlen=_TIMES_KEPT)
        self._rows: deque[list[str]] = deque(maxlen=_ROWS_SHOWN)
        self._live: Live | None = None

    def write(self, iteration: int, env_steps: int, metrics: Metrics) -> None:
        """Show one iteration."""
        now = self._clock()
        self._times.append(now - self._last_time)
        self._last_time = now
        left = _duration(median(self._times) * max(0, self._total - iteration))
        cells = [_number(metrics.get(name)) for name in self._columns]
        speed = _count(metrics.get(_FPS))
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._rows.append([str(iteration), _count(env_steps), *cells, speed])
            self._show(Group(self._table(), self._progress(iteration, left)))
        else:
            width = len(str(self._total))
            named = zip(self._columns.values(), cells, strict=True)
            parts = [f"[{iteration:>{width}}/{self._total}] {_count(env_steps):>6} steps"]
            parts += [f"{heading} {cell:>8}" for heading, cell in named]
            parts += [f"{speed:>6} steps/s", f"{left:>8} left"]
            self._console.out("  ".join(parts), highlight=False)

    def close(self) -> None:
        """Leave the last table on the terminal and give the cursor back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self, view: Group) -> None:
        if self._live is None:
            # Redirected, stdout would come out on stderr and pipes would run dry.
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)
            self._live.start()
        self._live.update(view, refresh=True)

    def _table(self) -> Table:
        table = Table(header_style="bold", border_style="dim")
        for heading in ("iteration", "env steps", *self._columns.values(), "steps/s"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in self._rows:
            table.add_row(*row)
        return table

    def _progress(self, done: int, left: str) -> Table:
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=self._total, completed=done, width=30)
        line.add_row(Text(f"{done}/{self._total}"), bar, Text(f"{left} left"))
        return line


def _number(value: float | None) -> str:
    """Format a metric in eight characters or so."""
    if value is None:
        return "-"
    size = abs(value)
    if not math.isfinite(size) or size == 0:
        return f"{value:g}"
    if size < 1e-3 or size >= 1e6:
        return f"{value:.1e}"
    return f"{value:.{4 if size < 1 else 2 if size < 1000 else 0}f}"


def _count(value: float | None) -> str:
    """Format a count in three figures and a unit."""
    if value is None or not math.isfinite(value):
        return "-"
    # 999.5 would print as 1000: the next unit takes over from there.
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        scaled = value / scale
        if scaled >= 0.9995:
            return f"{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f}{unit}"
    return f"{value:.0f}"


def _duration(seconds: float) -> str:
    """Format seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
