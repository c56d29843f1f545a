"""What is done after meta-iterations: validating, saving, stopping early, and whatever users add.

A callback is asked after every meta-iteration, in the first process, before its metrics are
written. Training itself knows of none: ``metarl.trainer.meta_train`` is a generator, and the run
that walks through it (``metarl.experiments.train``) asks them.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from metarl.checkpoint import latest_checkpoint, save_checkpoint
from metarl.checks import COUNT, COUNT_OR_ZERO, NON_NEGATIVE, InputError, check_fields
from metarl.experiments.evaluation.scoring import evaluate
from metarl.experiments.progress import Progress
from metarl.files import BrokenFileError
from metarl.logger import read_metrics
from metarl.runs import RunFolder
from metarl.seeding import Streams
from metarl.types import Metrics

VALIDATION = "validation/post_return"
"""Return after adaptation on tasks of the training distribution, as ``EvaluateEvery`` names it."""
_VALIDATION_TASKS = 20


class Reached(NamedTuple):
    """Where a run is, as a callback sees it."""

    progress: Progress
    """Its ``iteration``, ``env_steps``, ``experiment`` and ``parts``, among them the agent."""
    metrics: Metrics
    """Of this meta-iteration. What a callback adds is recorded with them."""
    run: RunFolder
    save: Callable[[], None]
    """Ask for a checkpoint, which is written once the metrics are."""
    tell: Callable[[str], None]
    """Show the user a warning."""

    def history(self, metric: str) -> list[float]:
        """Return all values that the run has of a metric, this meta-iteration's last."""
        rows = [*read_metrics(self.run.metrics), self.metrics]
        return [row[metric] for row in rows if metric in row]


class Callback(Protocol):
    """Something to do after every meta-iteration.

    What it must remember it finds in ``Reached.history``: a resumed run then behaves as one that
    was never broken off. Its ``repr`` is recorded where it stops a run.
    """

    def on_iteration(self, reached: Reached) -> bool:
        """Do it; return whether to go on."""
        ...


@dataclass(frozen=True)
class CheckpointEvery:
    """Saves every so many meta-iterations; never for 0."""

    iterations: int

    def __post_init__(self) -> None:
        check_fields(self, {"iterations": COUNT_OR_ZERO})

    def on_iteration(self, reached: Reached) -> bool:
        """Ask for a checkpoint when it is time."""
        if _is_time(reached, self.iterations):
            reached.save()
        return True


@dataclass(frozen=True)
class EvaluateEvery:
    """Validates every so many meta-iterations, and keeps the best weights; never for 0.

    The tasks come from the training distribution, by a stream of their own: the best weights are
    not chosen on held-out tasks.
    """

    iterations: int

    def __post_init__(self) -> None:
        check_fields(self, {"iterations": COUNT_OR_ZERO})

    def on_iteration(self, reached: Reached) -> bool:
        """Add ``validation/pre_return`` and ``validation/post_return`` when it is time."""
        if not _is_time(reached, self.iterations):
            return True
        progress, best = reached.progress, _best(reached)
        experiment, parts = progress.experiment, progress.parts
        streams = Streams(experiment.seed, ("validation",), device=experiment.device)
        tasks = parts.distribution.sample(_VALIDATION_TASKS, streams)
        curve = evaluate(experiment, parts, parts.agent, tasks, experiment.adaptations)
        before, after = curve.summary.mean[0], curve.summary.mean[-1]
        if best is None or after > best:
            weights = progress.checkpoint({"post_return": after})
            save_checkpoint(reached.run.best, weights, keep=1)
        reached.metrics.update({"validation/pre_return": before, VALIDATION: after})
        return True


@dataclass(frozen=True, kw_only=True)
class EarlyStop:
    """Stops when a metric has not risen for a while."""

    patience: int
    """So many values in a row may fail to beat the best one before them; the last of them stops."""
    min_delta: float = 0.0
    """Only what lies above the best value by more than this counts as a rise."""
    on: str = VALIDATION
    """The metric; meta-iterations that do not report it do not count."""

    def __post_init__(self) -> None:
        check_fields(self, {"patience": COUNT, "min_delta": NON_NEGATIVE})

    def on_iteration(self, reached: Reached) -> bool:
        """Return False when patience is at its end."""
        if self.on not in reached.metrics:
            return True
        best, waited = -math.inf, 0
        for value in reached.history(self.on):
            risen = value > best + self.min_delta
            best, waited = (value, 0) if risen else (best, waited + 1)
        return waited < self.patience


@dataclass(frozen=True, kw_only=True)
class StopAtReturn:
    """Stops when a metric has reached a value."""

    value: float
    on: str = VALIDATION
    """The metric."""

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not math.isfinite(self.value):
            raise InputError([f"StopAtReturn.value must be a finite number, got {self.value!r}"])

    def on_iteration(self, reached: Reached) -> bool:
        """Return False when it is there."""
        return not reached.metrics.get(self.on, -math.inf) >= self.value


def rules_of(callbacks: Iterable[Callback]) -> str | None:
    """Name those callbacks by their types and settings, the same in every run; None for none."""
    names = [
        repr(each) if dataclasses.is_dataclass(each) else type(each).__name__ for each in callbacks
    ]
    return ", ".join(names) or None


def _is_time(reached: Reached, every: int) -> bool:
    return every > 0 and reached.progress.iteration % every == 0


def _best(reached: Reached) -> float | None:
    """Return the best validation so far, of which the weights are kept."""
    try:
        checkpoint = latest_checkpoint(reached.run.best, reached.tell)
    except BrokenFileError as error:
        # Nothing depends on it: training goes on, and this validation replaces it.
        reached.tell(str(error))
        return None
    return None if checkpoint is None else float(str(checkpoint.state["post_return"]))
