"""A run from start, or from where it was broken off, to its evaluation."""

import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType

from rich.console import Console

from metarl.checkpoint import Checkpoint, latest_checkpoint, save_checkpoint, write_json
from metarl.experiments.evaluate import (
    EvaluationRequest,
    as_json,
    capped,
    evaluate,
    print_curves,
    report,
)
from metarl.experiments.experiment import FREE_FIELDS, Experiment, Parts, build, to_dict
from metarl.experiments.figures import learning_figure
from metarl.logger import ConsoleSink, JsonlSink, MetricSink, TensorBoardSink, read_metrics
from metarl.runs import RunFolder, config_id, default_run_folder
from metarl.seeding import Streams
from metarl.trainer import Iteration, meta_train
from metarl.types import Metrics

_COLUMNS = {
    "meta/pre_return": "before",
    "meta/post_return": "after",
    "train/approx_kl": "KL",
    "eval/post_return": "held out",
}
_KEPT_CHECKPOINTS = 3
_HELD_OUT_DURING_TRAINING = 20


class StopRequest:
    """Owns the handlers of SIGINT and SIGTERM while a run is on.

    The first signal asks the run to stop after the meta-iteration in hand; the second stops it at
    once, which the atomic checkpoints survive.
    """

    def __init__(self) -> None:
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
        if self.number is not None:
            sys.exit(128 + number)
        self.number = number


class Progress:
    """Owns what a run has reached: the agent, the steps taken so far, and their checkpoints."""

    def __init__(self, experiment: Experiment, run: RunFolder, console: Console) -> None:
        self.experiment, self.run = experiment, run
        self.parts: Parts = build(experiment)
        self.iteration, self.env_steps = 0, 0
        self._best = self._read_best(console)
        checkpoint = latest_checkpoint(
            run.checkpoints, lambda text: console.print(f"warning: {text}")
        )
        if checkpoint is not None:
            self.parts.agent.load_state_dict(checkpoint.tensors)
            self.iteration = checkpoint.iteration
            self.env_steps = int(str(checkpoint.state["env_steps"]))
            console.print(f"resuming {run.path} after meta-iteration {self.iteration}")

    def take(self, result: Iteration) -> Metrics:
        """Count an iteration; return its metrics, with those of an evaluation when it is time."""
        self.iteration, self.env_steps = result.number, self.env_steps + result.env_steps
        every = self.experiment.evaluate_every
        due = bool(every) and self.iteration % every == 0
        return result.metrics | (self._evaluate() if due else {})

    def save_when_due(self) -> None:
        """Write a checkpoint if this iteration is one to be saved."""
        every = self.experiment.checkpoint_every
        if every and self.iteration % every == 0:
            self.save()

    def save(self) -> None:
        """Write a checkpoint of this iteration."""
        save_checkpoint(self.run.checkpoints, self._checkpoint({}), keep=_KEPT_CHECKPOINTS)

    def _checkpoint(self, more: dict[str, object]) -> Checkpoint:
        state = {"env_steps": self.env_steps, **more}
        return Checkpoint(self.iteration, self.parts.agent.state_dict(), state)

    def _evaluate(self) -> Metrics:
        """Evaluate on held-out tasks, and keep the weights when none were better before."""
        request = capped(
            EvaluationRequest(
                adaptations=self.experiment.adaptations, tasks=_HELD_OUT_DURING_TRAINING
            ),
            self.parts,
        )
        curve = evaluate(self.experiment, self.parts, self.parts.agent, request)
        content = as_json(self.experiment, self.iteration, curve)
        self.run.evaluations.mkdir(exist_ok=True)
        write_json(self.run.evaluations / f"{self.iteration:06d}_training.json", content)
        before, after = curve.summary.mean[0], curve.summary.mean[-1]
        if self._best is None or after > self._best:
            self._best = after
            save_checkpoint(self.run.best, self._checkpoint({"post_return": after}), keep=1)
        return {"eval/pre_return": before, "eval/post_return": after}

    def _read_best(self, console: Console) -> float | None:
        warn = lambda text: console.print(f"warning: {text}")  # noqa: E731
        checkpoint = latest_checkpoint(self.run.best, warn)
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
    with RunFolder.open(out, config, FREE_FIELDS) as run:
        progress = Progress(experiment, run, console)
        if progress.iteration < experiment.iterations:
            stopped_by = _train(progress, console)
            if stopped_by is not None:
                console.print(
                    f"stopped by signal {stopped_by} after meta-iteration {progress.iteration};"
                    f" saved in {run.path}. The same command goes on from there."
                )
                return 128 + stopped_by
        _finish(progress, console)
    return 0


def _train(progress: Progress, console: Console) -> int | None:
    """Run the meta-iterations that are left; return the signal that broke them off, if any."""
    experiment, run, parts = progress.experiment, progress.run, progress.parts
    streams = Streams(experiment.seed, device=experiment.device)
    with StopRequest() as stop, ExitStack() as stack:
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
    return stop.number


def _finish(progress: Progress, console: Console) -> None:
    """Evaluate on held-out tasks beside the floors, and draw both curves."""
    experiment, run, parts = progress.experiment, progress.run, progress.parts
    request = capped(EvaluationRequest(), parts)
    curves, picture = report(experiment, parts, progress.iteration, request, run.evaluations)
    print_curves(curves, parts.env.spec, console)
    rows = read_metrics(run.metrics)
    learning = run.evaluations / "learning.png"
    series = {
        "before adaptation": [row["meta/pre_return"] for row in rows],
        "after adaptation": [row["meta/post_return"] for row in rows],
    }
    iterations = [int(row["iteration"]) for row in rows]
    env_steps = [int(row["env_steps"]) for row in rows]
    learning_figure(learning, experiment.preset, iterations, env_steps, series)
    run.mark_done({"iteration": progress.iteration, "env_steps": progress.env_steps})
    console.print(f"run: {run.path}\nadaptation curve: {picture}\nlearning curve: {learning}")
