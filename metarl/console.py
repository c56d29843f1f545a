"""The sink that shows metrics on the screen while a run goes on."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from statistics import median

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from metarl.types import Metrics

_FPS = "time/fps"
_ROWS_SHOWN = 12
_TIMES_KEPT = 20


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
