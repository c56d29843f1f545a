"""What the first process of a run keeps on disk, and shows, while the run goes on."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Self

from rich.console import Console

from metarl.background import BackgroundSink, Point
from metarl.checkpoint import latest_checkpoint, save_checkpoint
from metarl.console import ConsoleSink
from metarl.experiments.callbacks import (
    VALIDATION,
    Callback,
    CheckpointEvery,
    EarlyStop,
    EvaluateEvery,
    Reached,
    StopAtReturn,
    rules_of,
)
from metarl.experiments.progress import Progress
from metarl.experiments.tracking import TRACKERS, Service, Subject
from metarl.logger import JsonlSink, MetricSink, TensorBoardSink, read_metrics
from metarl.runs import RunConflictError, RunFolder, read_config
from metarl.types import Metrics

_COLUMNS = {
    "meta/pre_return": "before",
    "meta/post_return": "after",
    "train/approx_kl": "KL",
    VALIDATION: "validation",
}
_KEPT_CHECKPOINTS = 3
_LONG_S, _SHORT_S = 60.0, 8.0
"""Seconds for a service to take what is left: at the run's end, and after a signal or an error."""


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """How one sitting of a run goes; nothing of it is part of the run's identity."""

    callbacks: Sequence[Callback] = ()
    """Asked in this order, after the validation."""
    track: Sequence[Service] = ()
    """Services that are sent the metrics, besides TensorBoard."""
    go_on: bool = False
    """Whether a run that was stopped early is trained on."""


class Wishes(NamedTuple):
    """What is to follow a meta-iteration, for all processes."""

    save: bool = False
    stop: bool = False


class Record:
    """Owns what the first process keeps of a run: checkpoints, metrics and the best weights."""

    def __init__(
        self, progress: Progress, run: RunFolder, console: Console, sitting: Sitting
    ) -> None:
        self.progress, self.run = progress, run
        self._console, self._sitting = console, sitting
        self._saved: int | None = None
        self._sinks: list[MetricSink] = []
        self._trackers: list[BackgroundSink] = []
        checkpoint = latest_checkpoint(run.checkpoints, self._warn)
        if checkpoint is None:
            self._refuse_lost_checkpoints()
        else:
            progress.restore(checkpoint)
            self._saved = checkpoint.iteration
        if sitting.go_on:
            progress.stopped = None
        self._callbacks: list[Callback] = [
            EvaluateEvery(progress.experiment.evaluate_every),
            *sitting.callbacks,
            CheckpointEvery(progress.experiment.checkpoint_every),
        ]
        if progress.stopped is not None:
            self._tell_of_stop("was stopped early", "--go-on trains on")
        elif not progress.over:
            if checkpoint is not None:
                console.print(f"resuming {run.path} after meta-iteration {progress.iteration}")
            rules = (EarlyStop, StopAtReturn)
            progress.rules = rules_of(each for each in sitting.callbacks if isinstance(each, rules))
            run.mark_undone()
            self._open_sinks()
        self._open_trackers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        finally:
            for tracker in self._trackers:
                tracker.close(_LONG_S if self.run.done else _SHORT_S)

    def take(self, metrics: Metrics) -> Wishes:
        """Ask the callbacks about an iteration and write its metrics; return what they wish."""
        progress, wish = self.progress, Wishes()

        def save() -> None:
            nonlocal wish
            wish = wish._replace(save=True)

        reached = Reached(progress, dict(metrics), self.run, save, self._warn)
        against = [each for each in self._callbacks if not each.on_iteration(reached)]
        for sink in (*self._sinks, *self._trackers):
            sink.write(progress.iteration, progress.env_steps, reached.metrics)
        if against and not progress.over:
            progress.stopped = rules_of(against)
            self._tell_of_stop("stops early", "the same command with --go-on trains on")
        return wish._replace(stop=bool(against))

    def save(self) -> None:
        """Write a checkpoint of this iteration, unless there is one."""
        # After the metrics: a kill in between repeats the iteration and leaves no gap.
        if self._saved == self.progress.iteration:
            return
        self._saved = self.progress.iteration
        save_checkpoint(self.run.checkpoints, self.progress.checkpoint({}), keep=_KEPT_CHECKPOINTS)

    def close(self) -> None:
        """Finish the metrics, but not those on their way to services; again, it does nothing."""
        with ExitStack() as stack:
            # Where the disk is full, the first one raises; the last one still frees the terminal.
            for sink in self._sinks:
                stack.callback(sink.close)
            self._sinks = []

    def _open_sinks(self) -> None:
        run, progress = self.run, self.progress
        self._sinks.append(JsonlSink(run.metrics, progress.iteration + 1))
        purge_step = progress.env_steps + 1 if progress.iteration else 0
        self._sinks.append(TensorBoardSink(run.tensorboard, purge_step, self._warn))
        iterations = progress.experiment.iterations
        self._sinks.append(ConsoleSink(_COLUMNS, iterations, self._console))

    def _open_trackers(self) -> None:
        """Let services have the metrics, with all that they lack: also when training is over."""
        run, services = self.run, self._sitting.track
        if not services:
            return
        rows = read_metrics(run.metrics) if run.metrics.exists() else []
        earlier = [_point(row) for row in rows if row["iteration"] <= self.progress.iteration]
        subject = Subject(run.path, self.progress.experiment.preset, read_config(run.path))
        for name in services:
            open_tracker = partial(TRACKERS[name], subject)
            self._trackers.append(BackgroundSink(name, open_tracker, self._warn, earlier))

    def _warn(self, text: str) -> None:
        self._console.print(f"warning: {text}")

    def _tell_of_stop(self, what: str, way_on: str) -> None:
        progress = self.progress
        place = f"meta-iteration {progress.iteration} of {progress.experiment.iterations}"
        said = f"{self.run.path} {what} at {place}: {progress.stopped}; {way_on}"
        self._console.print(said)

    def _refuse_lost_checkpoints(self) -> None:
        """Keep a record whose weights are gone from being overwritten by a new start."""
        rows = read_metrics(self.run.metrics) if self.run.metrics.exists() else []
        every = self.progress.experiment.checkpoint_every
        if self.run.done or (every and len(rows) > every):
            raise RunConflictError(
                f"{self.run.path} holds the metrics of {len(rows)} meta-iterations but no"
                " checkpoint to go on from; choose another --out"
            )


def _point(row: Metrics) -> Point:
    metrics = {name: value for name, value in row.items() if name not in ("iteration", "env_steps")}
    return Point(int(row["iteration"]), int(row["env_steps"]), metrics)
