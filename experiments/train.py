"""A run from start, or from where it was broken off, to its evaluation."""

import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType

from rich.console import Console

from metarl.checkpoint import Checkpoint, CheckpointError, latest_checkpoint, save_checkpoint
from metarl.checks import InputError
from metarl.experiments.evaluate import (
    EvaluationRequest,
    capped,
    evaluate,
    print_curves,
    report,
)
from metarl.experiments.experiment import FREE_FIELDS, Experiment, Parts, build, to_dict
from metarl.experiments.figures import learning_figure
from metarl.logger import ConsoleSink, JsonlSink, MetricSink, TensorBoardSink, read_metrics
from metarl.runs import RunConflictError, RunFolder, config_id, default_run_folder
from metarl.seeding import Streams
from metarl.trainer import Iteration, meta_train
from metarl.types import Metrics

_COLUMNS = {
    "meta/pre_return": "before",
    "meta/post_return": "after",
    "train/approx_kl": "KL",
    "validation/post_return": "validation",
}
_KEPT_CHECKPOINTS = 3
_VALIDATION_TASKS = 20


class StopRequest:
    """Owns the handlers of SIGINT and SIGTERM while a run is on.

    While ``patient``, the first signal asks the run to stop after the meta-iteration in hand. Any
    other stops it at once, with 128 plus its number, which the atomic files survive.
    """

    def __init__(self) -> None:
        self.patient = False
        self.number: int | None = None
        """The signal that came, if one did."""
        self._previous: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None or not self.patient:
            sys.exit(128 + number)
        self.number = number


class Progress:
    """Owns what a run has reached: the agent, the steps taken so far, and their checkpoints."""

    def __init__(self, experiment: Experiment, run: RunFolder, console: Console) -> None:
        self.experiment, self.run = experiment, run
        self.parts: Parts = build(experiment)
        self.iteration, self.env_steps = 0, 0
        self._console = console
        self._saved: int | None = None
        self._best = self._read_best()
        checkpoint = latest_checkpoint(run.checkpoints, self._warn)
        if checkpoint is None:
            self._refuse_lost_checkpoints()
            return
        self.parts.agent.load_state_dict(checkpoint.tensors)
        self.iteration = self._saved = checkpoint.iteration
        self.env_steps = int(str(checkpoint.state["env_steps"]))
        if self.iteration < experiment.iterations:
            console.print(f"resuming {run.path} after meta-iteration {self.iteration}")

    def _warn(self, text: str) -> None:
        self._console.print(f"warning: {text}")

    def _refuse_lost_checkpoints(self) -> None:
        """Keep a record whose weights are gone from being overwritten by a new start."""
        rows = read_metrics(self.run.metrics) if self.run.metrics.exists() else []
        every = self.experiment.checkpoint_every
        if self.run.done or (every and len(rows) > every):
            raise RunConflictError(
                f"{self.run.path} holds the metrics of {len(rows)} meta-iterations but no"
                " checkpoint to go on from; choose another --out"
            )

    def take(self, result: Iteration) -> Metrics:
        """Count an iteration; return its metrics, with those of a validation when it is time."""
        self.iteration, self.env_steps = result.number, self.env_steps + result.env_steps
        every = self.experiment.evaluate_every
        due = bool(every) and self.iteration % every == 0
        return result.metrics | (self._validate() if due else {})

    def save_when_due(self) -> None:
        """Write a checkpoint if this iteration is one to be saved."""
        every = self.experiment.checkpoint_every
        if every and self.iteration % every == 0:
            self.save()

    def save(self) -> None:
        """Write a checkpoint of this iteration, unless there is one."""
        if self._saved == self.iteration:
            return
        self._saved = self.iteration
        save_checkpoint(self.run.checkpoints, self._checkpoint({}), keep=_KEPT_CHECKPOINTS)

    def _checkpoint(self, more: dict[str, object]) -> Checkpoint:
        state = {"env_steps": self.env_steps, **more}
        return Checkpoint(self.iteration, self.parts.agent.state_dict(), state)

    def _validate(self) -> Metrics:
        """Score tasks of the training distribution; keep the weights when none were better before.

        These tasks have a stream of their own: the best weights are not chosen on held-out tasks.
        """
        experiment, parts = self.experiment, self.parts
        streams = Streams(experiment.seed, ("validation",), device=experiment.device)
        tasks = parts.distribution.sample(_VALIDATION_TASKS, streams)
        curve = evaluate(experiment, parts, parts.agent, tasks, experiment.adaptations)
        before, after = curve.summary.mean[0], curve.summary.mean[-1]
        if self._best is None or after > self._best:
            self._best = after
            save_checkpoint(self.run.best, self._checkpoint({"post_return": after}), keep=1)
        return {"validation/pre_return": before, "validation/post_return": after}

    def _read_best(self) -> float | None:
        try:
            checkpoint = latest_checkpoint(self.run.best, self._warn)
        except CheckpointError as error:
            # Nothing depends on it: training goes on, and the next validation replaces it.
            self._warn(str(error))
            return None
        return None if checkpoint is None else float(str(checkpoint.state["post_return"]))


def train(experiment: Experiment, out: Path | None, console: Console) -> int:
    """Train, or go on training, and evaluate at the end.

    Args:
        experiment: what to run.
        out: the run's folder; by default a place under ``runs/`` that follows from the experiment.
        console: where progress and results are shown.

    Returns:
        The exit status: 0, or 128 plus the number of the signal that broke the run off.
    """
    config = to_dict(experiment)
    if out is None:
        identity = config_id(config, FREE_FIELDS)
        out = default_run_folder(Path("runs"), experiment.preset, experiment.seed, identity)
    _refuse_fewer_iterations(experiment, out)
    with StopRequest() as stop, RunFolder.open(out, config, FREE_FIELDS) as run:
        progress = Progress(experiment, run, console)
        if progress.iteration < experiment.iterations:
            _train(progress, console, stop)
        if stop.number is not None:
            console.print(
                f"stopped by signal {stop.number} after meta-iteration {progress.iteration};"
                f" saved in {run.path}. The same command goes on from there."
            )
            return 128 + stop.number
        _finish(progress, console)
    return 0


def _refuse_fewer_iterations(experiment: Experiment, out: Path) -> None:
    held = latest_checkpoint(out / "checkpoints", lambda _: None)
    if held is not None and held.iteration > experiment.iterations:
        raise InputError(
            [
                f"{out} holds {held.iteration} meta-iterations already, asked for"
                f" {experiment.iterations}; choose another --out to start again"
            ]
        )


def _train(progress: Progress, console: Console, stop: StopRequest) -> None:
    """Run the meta-iterations that are left, or those until a signal."""
    experiment, run, parts = progress.experiment, progress.run, progress.parts
    streams = Streams(experiment.seed, device=experiment.device)
    stop.patient = True
    with ExitStack() as stack:
        sinks: list[MetricSink] = [
            JsonlSink(run.metrics, progress.iteration + 1),
            TensorBoardSink(run.tensorboard, progress.env_steps + 1 if progress.iteration else 0),
            ConsoleSink(_COLUMNS, experiment.iterations, console),
        ]
        for sink in sinks:
            stack.callback(sink.close)
        iterations = meta_train(
            parts.agent,
            parts.env,
            parts.distribution,
            experiment,
            streams,
            start=progress.iteration,
        )
        for result in iterations:
            metrics = progress.take(result)
            for sink in sinks:
                sink.write(progress.iteration, progress.env_steps, metrics)
            # After the metrics: a kill in between repeats the iteration and leaves no gap.
            progress.save_when_due()
            if stop.number is not None:
                break
        progress.save()
    stop.patient = False


def _finish(progress: Progress, console: Console) -> None:
    """Evaluate on held-out tasks beside the floors, and draw both curves."""
    experiment, run, parts = progress.experiment, progress.run, progress.parts
    request = capped(EvaluationRequest(), parts)
    curves, picture = report(experiment, parts, progress.iteration, request, run.evaluations)
    print_curves(curves, parts.env.spec, console)
    rows = read_metrics(run.metrics) if run.metrics.exists() else []
    learning = run.evaluations / "learning.png"
    series = {
        "before adaptation": [row["meta/pre_return"] for row in rows],
        "after adaptation": [row["meta/post_return"] for row in rows],
    }
    iterations = [int(row["iteration"]) for row in rows]
    env_steps = [int(row["env_steps"]) for row in rows]
    if rows:
        learning_figure(learning, experiment.preset, iterations, env_steps, series)
    run.mark_done({"iteration": progress.iteration, "env_steps": progress.env_steps})
    console.print(f"run: {run.path}\nadaptation curve: {picture}\nlearning curve: {learning}")
