"""What Ray Tune is given: runs as its trials, a listener, a way to stop. For `ray.py` alone."""

import math
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ray import tune
from ray.tune.experiment import Trial

from metarl.experiments.group import StopRequest
from metarl.experiments.sweep.local import start
from metarl.experiments.sweep.plan import Job, State, Watch
from metarl.experiments.sweep.table import last_metrics
from metarl.locks import is_locked

METRIC, CLOCK, PLACE = "meta/post_return", "iteration", "place"
"""What trials are compared by; how old they are; which run is whose, by its place among all."""
_POLL_S = 0.2


class RunEndedError(RuntimeError):
    """The process of a run came to an end, and the run did not."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class RunTrial(tune.Trainable):
    """Owns the process of one run, the same that the launcher for this machine starts.

    A step lasts until the run has written something new. The run goes on from its own checkpoints:
    a trial that is started again needs nothing of Ray's.
    """

    def setup(  # type: ignore[override]  # Ray fills in the rest: tune.with_parameters
        self, config: dict[str, int], jobs: Sequence[Job], out: Path, threads: int
    ) -> None:
        """Start the run, or go on with it."""
        threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
        self._job, self._told = jobs[config[PLACE]], 0
        # A worker was killed, and its run may still be saving.
        while is_locked(self._job.folder / "lock"):
            time.sleep(_POLL_S)
        self._process: subprocess.Popen[bytes] = start(self._job, out, threads)

    def step(self) -> dict[str, object]:
        """Return the newest metrics, as soon as there are some.

        Raises:
            RunEndedError: the process ended without success.
        """
        while True:
            status = self._process.poll()  # Before the metrics, which then are the last ones.
            row = last_metrics(self._job.folder / "metrics.jsonl")
            if status:
                raise RunEndedError(status)
            if status == 0 or row.get(CLOCK, 0) > self._told:
                self._told = int(row.get(CLOCK, 0))
                score = row.get(METRIC, -math.inf)
                return {CLOCK: self._told, METRIC: score, "done": status == 0}
            time.sleep(_POLL_S)

    def cleanup(self) -> None:
        """Let the run save, and end."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: the run folder holds it all."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Load nothing."""


def _leave_with(parent: int) -> None:
    """End this worker once Ray's daemon is gone, as after a kill of the driver.

    Ray waits for the step in hand first. The run notices the end of its worker, saves and leaves.
    """
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os._exit(1)


class Listener(tune.Callback):
    """Passes on to a ``Watch`` what becomes of the trials, and knows which are under way."""

    def __init__(self, jobs: Sequence[Job], watch: Watch) -> None:
        self._jobs, self._watch = jobs, watch
        self._running: set[int] = set()

    def __getstate__(self) -> dict[str, object]:
        """Return nothing: Ray pickles what it is given, a terminal too, and never reads it back."""
        return {}

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        """Tell of a run that starts, or starts again."""
        self._running.add(trial.config[PLACE])
        self._watch(self._jobs[trial.config[PLACE]], "running")

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        """Tell of a run that failed and has another try."""
        self._tell(trial, "retried")

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        """Tell of a run that failed for good."""
        self._tell(trial, "failed")

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        """Tell of a run that is done, or has fallen behind."""
        self._tell(trial, "done" if self._jobs[trial.config[PLACE]].done else "stopped")

    def on_experiment_end(self, trials: list[Trial], **info: object) -> None:
        """Tell of the runs that a signal has stopped."""
        for trial in trials:
            if trial.config[PLACE] in self._running:
                self._tell(trial, "stopped")

    def _tell(self, trial: Trial, state: State) -> None:
        self._running.discard(trial.config[PLACE])
        self._watch(self._jobs[trial.config[PLACE]], state)


class StopOnSignal(tune.Stopper):
    """Ends all trials once a signal has come."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop

    def __getstate__(self) -> dict[str, object]:
        """Return nothing, as the listener."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        """Stop no trial for what it reports."""
        return False

    def stop_all(self) -> bool:
        """Whether a signal has come."""
        return self._stop.number is not None
