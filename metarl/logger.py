"""Sinks of metrics: a file that survives a kill, TensorBoard, and services that may fail or hang.

A resumed run writes again from its checkpoint's iteration on: every sink that keeps a record drops
what it holds from there, so that the record has neither gap nor duplicate. Where nothing can be
dropped, what the sink holds already is not sent again (``BackgroundSink``).
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from metarl.checkpoint import write_bytes_atomic
from metarl.checks import InputError
from metarl.types import Metrics

if TYPE_CHECKING:
    from torch.utils import tensorboard

_SB3_NAMES = {
    "eval/mean_reward": ("validation/post_return", 1.0),
    "train/entropy_loss": ("train/entropy", -1.0),
    "train/learning_rate": ("train/outer_lr", 1.0),
    "train/loss": ("train/surrogate", -1.0),
    "train/policy_gradient_loss": ("train/surrogate", -1.0),
    "train/value_loss": ("train/value_error", 1.0),
}
"""Tags of Stable-Baselines3, and what they are in ours, with the sign that SB3 gives them."""


class MetricSink(Protocol):
    """Where the metrics of each meta-iteration go."""

    def write(self, iteration: int, env_steps: int, metrics: Metrics) -> None:
        """Take the metrics of an iteration (from 1 on) and the env steps of the run so far."""
        ...

    def close(self) -> None:
        """Finish what is under way; a second call does nothing."""
        ...


def with_sb3_names(iteration: int, env_steps: int, metrics: Metrics) -> Metrics:
    """Return metrics under our names, and once more under those of SB3 that say the same."""
    known = {
        name: sign * metrics[ours] for name, (ours, sign) in _SB3_NAMES.items() if ours in metrics
    }
    # Last, a loss of the agent's own, which may be more than what it is made of here.
    return {"time/iterations": iteration, "time/total_timesteps": env_steps} | known | metrics


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
        except (ValueError, RecursionError) as error:
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
    one more than the env steps of its checkpoint. Training goes on without TensorBoard: ``tell``
    hears of the first failure, and ``failures`` counts them all.
    """

    def __init__(self, folder: Path, purge_step: int, tell: Callable[[str], None]) -> None:
        self.failures = 0
        self._tell = tell
        self._writer: tensorboard.SummaryWriter | None = None
        try:
            # Half a second and more, which those who only import metarl need not pay.
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

            self._writer = SummaryWriter(str(folder), purge_step=purge_step)
        except Exception as error:
            self._fail(error)

    def write(self, iteration: int, env_steps: int, metrics: Metrics) -> None:
        """Add one point to each metric's curve, under SB3's names too."""
        if self._writer is None:
            self.failures += 1
            return
        try:
            for name, value in with_sb3_names(iteration, env_steps, metrics).items():
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
            self._tell(f"TensorBoard output failed: {type(error).__name__}: {error}")
