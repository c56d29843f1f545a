"""What a run has reached, in each of its processes, and what the first one keeps of it on disk."""

import hashlib
from typing import Self

import torch
from rich.console import Console

from metarl.checkpoint import Checkpoint, latest_checkpoint, save_checkpoint
from metarl.checks import InputError
from metarl.experiments.evaluation.scoring import evaluate
from metarl.experiments.experiment import Experiment, Parts, build, to_dict
from metarl.files import BrokenFileError
from metarl.logger import ConsoleSink, JsonlSink, MetricSink, TensorBoardSink, read_metrics
from metarl.processes import Processes
from metarl.runs import RunConflictError, RunFolder, config_id
from metarl.seeding import Streams
from metarl.trainer import Iteration
from metarl.types import Metrics

_COLUMNS = {
    "meta/pre_return": "before",
    "meta/post_return": "after",
    "train/approx_kl": "KL",
    "validation/post_return": "validation",
}
_KEPT_CHECKPOINTS = 3
_VALIDATION_TASKS = 20


class DriftError(RuntimeError):
    """Processes that should hold the same weights do not."""


class Progress:
    """Owns what a run has reached, the same in every process: the agent and the steps so far."""

    def __init__(self, experiment: Experiment, processes: Processes) -> None:
        self.experiment, self.processes = experiment, processes
        self.parts: Parts = build(experiment, processes)
        self.iteration, self.env_steps = 0, 0

    @property
    def save_is_due(self) -> bool:
        """Whether this iteration is one to be saved."""
        every = self.experiment.checkpoint_every
        return bool(every) and self.iteration % every == 0

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self.parts.agent.load_state_dict(checkpoint.tensors)
        self.iteration = checkpoint.iteration
        self.env_steps = int(str(checkpoint.state["env_steps"]))

    def align(self) -> None:
        """Take over what the first process has read from its disk.

        Raises:
            InputError: the processes were started with different settings.
        """
        settings = config_id(to_dict(self.experiment), ("threads",))
        if not self.processes.agree(settings):
            raise InputError(
                [
                    "the processes were started with different settings; only --threads may"
                    f" differ: process {self.processes.rank} has preset"
                    f" {self.experiment.preset} with settings {settings}"
                ]
            )
        agent = self.parts.agent
        state = agent.state_dict()
        reached = torch.tensor([self.iteration, self.env_steps])
        reached, *leaves = self.processes.from_first([reached, *state.values()])
        self.iteration, self.env_steps = (int(number) for number in reached.tolist())
        agent.load_state_dict(dict(zip(state, leaves, strict=True)))

    def count(self, result: Iteration) -> None:
        """Count an iteration.

        Raises:
            DriftError: it is one to be saved, and the processes' weights are no longer the same.
        """
        self.iteration, self.env_steps = result.number, self.env_steps + result.env_steps
        if self.save_is_due:
            self.refuse_drift()

    def refuse_drift(self) -> None:
        """Compare the processes' weights bit for bit.

        Raises:
            DriftError: they differ; the first process says so.
        """
        if self.processes.size == 1:
            return
        digest = hashlib.sha256()
        for leaf in self.parts.agent.state_dict().values():
            digest.update(leaf.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        if not self.processes.agree(digest.hexdigest()):
            said = (
                f"after meta-iteration {self.iteration} the {self.processes.size} processes hold"
                " different weights, which are not saved; they must run the same versions on"
                " machines of one kind. The same command goes on from the last checkpoint."
            )
            raise DriftError(said if self.processes.leads else "")

    def checkpoint(self, more: dict[str, object]) -> Checkpoint:
        """Return what is to be saved of this iteration."""
        state = {"env_steps": self.env_steps, **more}
        return Checkpoint(self.iteration, self.parts.agent.state_dict(), state)


class Record:
    """Owns what the first process keeps of a run: checkpoints, metrics and the best weights."""

    def __init__(self, progress: Progress, run: RunFolder, console: Console) -> None:
        self.progress, self.run = progress, run
        self._console = console
        self._saved: int | None = None
        self._sinks: list[MetricSink] = []
        self._best = self._read_best()
        checkpoint = latest_checkpoint(run.checkpoints, self._warn)
        if checkpoint is None:
            self._refuse_lost_checkpoints()
        else:
            progress.restore(checkpoint)
            self._saved = checkpoint.iteration
        if progress.iteration < progress.experiment.iterations:
            if checkpoint is not None:
                console.print(f"resuming {run.path} after meta-iteration {progress.iteration}")
            self._open_sinks()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, metrics: Metrics) -> None:
        """Write an iteration's metrics, with those of a validation when it is time, and save."""
        progress, every = self.progress, self.progress.experiment.evaluate_every
        if every and progress.iteration % every == 0:
            metrics = metrics | self._validate()
        for sink in self._sinks:
            sink.write(progress.iteration, progress.env_steps, metrics)
        # After the metrics: a kill in between repeats the iteration and leaves no gap.
        if progress.save_is_due:
            self.save()

    def save(self) -> None:
        """Write a checkpoint of this iteration, unless there is one."""
        if self._saved == self.progress.iteration:
            return
        self._saved = self.progress.iteration
        save_checkpoint(self.run.checkpoints, self.progress.checkpoint({}), keep=_KEPT_CHECKPOINTS)

    def close(self) -> None:
        """Finish the metrics; closing twice does no harm."""
        for sink in self._sinks:
            sink.close()
        self._sinks = []

    def _open_sinks(self) -> None:
        run, progress = self.run, self.progress
        self._sinks.append(JsonlSink(run.metrics, progress.iteration + 1))
        purge_step = progress.env_steps + 1 if progress.iteration else 0
        self._sinks.append(TensorBoardSink(run.tensorboard, purge_step))
        iterations = progress.experiment.iterations
        self._sinks.append(ConsoleSink(_COLUMNS, iterations, self._console))

    def _warn(self, text: str) -> None:
        self._console.print(f"warning: {text}")

    def _refuse_lost_checkpoints(self) -> None:
        """Keep a record whose weights are gone from being overwritten by a new start."""
        rows = read_metrics(self.run.metrics) if self.run.metrics.exists() else []
        every = self.progress.experiment.checkpoint_every
        if self.run.done or (every and len(rows) > every):
            raise RunConflictError(
                f"{self.run.path} holds the metrics of {len(rows)} meta-iterations but no"
                " checkpoint to go on from; choose another --out"
            )

    def _validate(self) -> Metrics:
        """Score tasks of the training distribution; keep the weights when none were better before.

        These tasks have a stream of their own: the best weights are not chosen on held-out tasks.
        """
        experiment, parts = self.progress.experiment, self.progress.parts
        streams = Streams(experiment.seed, ("validation",), device=experiment.device)
        tasks = parts.distribution.sample(_VALIDATION_TASKS, streams)
        curve = evaluate(experiment, parts, parts.agent, tasks, experiment.adaptations)
        before, after = curve.summary.mean[0], curve.summary.mean[-1]
        if self._best is None or after > self._best:
            self._best = after
            best = self.progress.checkpoint({"post_return": after})
            save_checkpoint(self.run.best, best, keep=1)
        return {"validation/pre_return": before, "validation/post_return": after}

    def _read_best(self) -> float | None:
        try:
            checkpoint = latest_checkpoint(self.run.best, self._warn)
        except BrokenFileError as error:
            # Nothing depends on it: training goes on, and the next validation replaces it.
            self._warn(str(error))
            return None
        return None if checkpoint is None else float(str(checkpoint.state["post_return"]))
