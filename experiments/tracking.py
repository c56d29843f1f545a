"""Services that are sent a run's metrics: Weights & Biases and MLflow, by what users set for them.

Where they are, and as whom one comes to them, is said in their own ways: ``wandb login``,
``WANDB_MODE``, ``MLFLOW_TRACKING_URI`` and the like. A run is one run there, however often it is
broken off: its name is kept in ``RUN/tracking/``. Opening a tracker imports its package; all of
this is meant for the thread of a ``metarl.background.BackgroundSink``.
"""

import math
import os
import re
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from metarl.background import Tracker
from metarl.checkpoint import write_json
from metarl.checks import InputError
from metarl.files import parse_json, read_regular
from metarl.logger import with_sb3_names
from metarl.runs import Config
from metarl.types import Metrics

Service: TypeAlias = Literal["wandb", "mlflow"]

_PROJECT = "metarl"
SETTLED_S = 2.0
"""Seconds after which W&B should have on disk what it was sent."""
_WANDB_S = 15.0
"""Seconds for W&B to begin, and for its last uploads: so long may it keep a process that ends."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_NOTE = 1000
_LONGEST_PARAM = 500
_PARAMS_AT_ONCE = 100


class Subject(NamedTuple):
    """What a service is told of a run before its first point."""

    folder: Path
    preset: str
    config: Config


class WandbTracker:
    """A run of Weights & Biases; its step is env steps.

    W&B takes steps in rising order only. Which it has is asked of the server; in offline mode there
    is none to ask, and what was sent is noted here, once it should be on disk. So a kill makes the
    points of the last ``SETTLED_S`` seconds come twice in W&B's files, and loses none.

    Raises:
        InputError: W&B is not installed.
        wandb.errors.Error: it cannot be reached, or does not know the user.
    """

    def __init__(self, subject: Subject) -> None:
        try:
            import wandb  # noqa: PLC0415  a second, for those who use it
        except ImportError as error:
            raise _missing("wandb") from error
        folder = subject.folder / "tracking"
        note = folder / "wandb.json"
        identity = _noted(note) or uuid.uuid4().hex[:12]
        folder.mkdir(exist_ok=True)
        # Silent from here on: where no key is known it would ask for one, on a terminal in use.
        quiet = wandb.Settings(
            silent=True,
            console="off",
            init_timeout=_WANDB_S,
            finish_timeout=_WANDB_S,
            finish_timeout_raises=True,
            x_transaction_log_flush_interval=SETTLED_S / 4,
        )
        wandb.setup(settings=quiet)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=identity,
            resume="allow",
            name=subject.folder.name,
            group=subject.preset,
            config=subject.config,
            dir=str(folder),
            settings=quiet,
        )
        _note(note, identity)
        steps = folder / "wandb.steps"
        offline = self._run.offline
        self.env_steps = _last_step(steps) if offline else self._run.starting_step - 1
        self._fresh: deque[tuple[float, int]] = deque()
        self._steps = steps.open("a", encoding="ascii", newline="\n")

    def write(self, iteration: int, env_steps: int, metrics: Metrics) -> None:
        """Send one point."""
        self._run.log(with_sb3_names(iteration, env_steps, metrics), step=env_steps, commit=True)
        now = time.monotonic()
        self._fresh.append((now, env_steps))
        self._note_until(now - SETTLED_S)

    def close(self) -> None:
        """Wait until all is uploaded, or written where W&B is offline.

        Raises:
            TimeoutError: it takes too long; what is left can be sent by ``wandb sync``.
        """
        self._run.finish()
        self._note_until(math.inf)
        self._steps.close()

    def _note_until(self, then: float) -> None:
        while self._fresh and self._fresh[0][0] <= then:
            self._steps.write(f"{self._fresh.popleft()[1]}\n")
        self._steps.flush()


class MlflowTracker:
    """A run of MLflow; its step is env steps. Which it has is asked of the server or store.

    Raises:
        InputError: MLflow is not installed.
        mlflow.exceptions.MlflowException: it cannot be reached, or no longer knows the run.
    """

    def __init__(self, subject: Subject) -> None:
        try:
            from mlflow import MlflowClient  # noqa: PLC0415  seconds, for those who use it
        except ImportError as error:
            raise _missing("mlflow") from error
        folder = subject.folder / "tracking"
        note = folder / "mlflow.json"
        known = _noted(note)
        self._client = MlflowClient()
        self._run = self._begin(subject) if known is None else known
        folder.mkdir(exist_ok=True)
        _note(note, self._run)
        self._client.update_run(self._run, "RUNNING")
        history = self._client.get_metric_history(self._run, "time/total_timesteps")
        self.env_steps = max((int(metric.step) for metric in history), default=0)

    def write(self, iteration: int, env_steps: int, metrics: Metrics) -> None:
        """Send one point."""
        from mlflow.entities import Metric  # noqa: PLC0415  as above

        now = int(1000 * time.time())
        named = with_sb3_names(iteration, env_steps, metrics)
        points = [Metric(name, float(value), now, env_steps) for name, value in named.items()]
        self._client.log_batch(self._run, metrics=points)

    def close(self) -> None:
        """Say that the sitting is over: "finished", however far the run has come."""
        self._client.set_terminated(self._run, "FINISHED")

    def _begin(self, subject: Subject) -> str:
        from mlflow.entities import Param  # noqa: PLC0415  as above

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        there = self._client.get_experiment_by_name(name)
        experiment = there.experiment_id if there else self._client.create_experiment(name)
        tags = {"preset": subject.preset}
        run = self._client.create_run(experiment, run_name=subject.folder.name, tags=tags)
        identity = str(run.info.run_id)
        params = [Param(key, value[:_LONGEST_PARAM]) for key, value in _leaves(subject.config)]
        for first in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(identity, params=params[first : first + _PARAMS_AT_ONCE])
        return identity


TRACKERS: Mapping[Service, Callable[[Subject], Tracker]] = {
    "wandb": WandbTracker,
    "mlflow": MlflowTracker,
}


def _missing(package: str) -> InputError:
    return InputError([f"{package} is not installed: pip install 'metarl-suite[{package}]'"])


def _note(file: Path, identity: str) -> None:
    write_json(file, {"run": identity})


def _noted(file: Path) -> str | None:
    """Return the name that a service gave the run, where it has one."""
    if not file.exists():
        return None
    content = parse_json(file, read_regular(file, 0, _LONGEST_NOTE))
    name = content.get("run") if isinstance(content, dict) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError([f"{file} does not hold the name of a run; without it, a new one begins"])
    return name


def _last_step(file: Path) -> int:
    """Return the last number of a file whose end may be torn."""
    if not file.exists():
        return 0
    *whole, _ = file.read_text(encoding="ascii").split("\n")
    return int(whole[-1]) if whole else 0


def _leaves(config: Mapping[str, object], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", str(value)
