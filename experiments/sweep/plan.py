"""The runs of a sweep, each with its place and its command, and what launches them."""

import dataclasses
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from metarl.checkpoint import write_json
from metarl.checks import COUNT, COUNT_OR_ZERO, InputError, check_fields, fault_in_choice
from metarl.experiments.experiment import Experiment, to_dict
from metarl.experiments.group import StopRequest
from metarl.experiments.presets import preset
from metarl.experiments.sweep.spec import SweepSpec, configured
from metarl.runs import Config, config_id, default_run_folder

_NO_PART_OF_ID = ("threads",)
"""Fields that alter no result, and may be others when the sweep goes on."""

State: TypeAlias = Literal["queued", "running", "done", "failed", "retried", "stopped"]


class Job(NamedTuple):
    """One run of a sweep."""

    id: str
    """8 hex digits that name its configuration, seed included."""
    label: str
    """For people: preset, what differs from it within the sweep, seed."""
    experiment: Experiment
    folder: Path
    """Of the run."""

    @property
    def done(self) -> bool:
        """Whether the run has come to its end."""
        return (self.folder / "DONE").exists()


@dataclass(frozen=True, kw_only=True)
class SlurmConfig:
    """What is asked of the cluster for each run."""

    partition: str | None = None
    """Partition; the cluster's own where left out."""
    account: str | None = None
    """Account that is charged."""
    minutes: int = 240
    """Time limit; a run that reaches it is requeued and goes on."""
    memory_gb: int = 0
    """Memory; 0 for what the cluster gives."""
    gpus: int = 0
    """GPUs."""
    cluster: Literal["slurm", "local"] = "slurm"
    """Where submitit sends jobs: to Slurm, or, to try this out, to processes of this machine."""

    def __post_init__(self) -> None:
        ranges = {"minutes": COUNT, "memory_gb": COUNT_OR_ZERO, "gpus": COUNT_OR_ZERO}
        check_fields(self, ranges, fault_in_choice(self, "cluster", ("slurm", "local")))


class LaunchRequest(NamedTuple):
    """What a launcher is asked for."""

    out: Path
    """Folder of the sweep; logs go to ``logs/<id>.log`` in it."""
    jobs: int
    """Runs at a time."""
    threads: int
    """Threads of each run."""
    retries: int
    """How often a run that failed is started again."""
    stop: StopRequest
    """Tells of a signal: the launcher then lets its runs save, and returns."""
    slurm: SlurmConfig
    """Of the launcher slurm alone."""
    asha: bool = False
    """Of the launcher ray alone: whether runs that fall behind are stopped."""


Watch: TypeAlias = Callable[[Job, State], None]
"""Told of every change of a job's state."""
Launcher: TypeAlias = Callable[[Sequence[Job], LaunchRequest, Watch], Mapping[str, int]]
"""Runs jobs; returns the exit status of each that came to an end, by its id."""


def plan(spec: SweepSpec, out: Path) -> list[Job]:
    """Return the runs of a sweep: seed by seed, so that all settings can be compared early.

    Settings that come out the same are one run.

    Raises:
        InputError: two settings share an id.
    """
    jobs: dict[str, Job] = {}
    for seed in spec.seeds:
        for name in spec.presets:
            for point in spec.points():
                told = [f"{key}={point[key]}" for key in spec.grid]
                label = " ".join([name, *told, f"s{seed}"])
                job = job_of(configured(name, seed, point), out, label)
                first = jobs.setdefault(job.id, job)
                if first.experiment != job.experiment:
                    raise InputError([f"{first.label} and {label} share the id {job.id}"])
    return list(jobs.values())


def job_of(experiment: Experiment, out: Path, label: str) -> Job:
    """Return the job of an experiment within the sweep whose folder is ``out``."""
    identity = config_id(to_dict(experiment), _NO_PART_OF_ID)
    folder = default_run_folder(out / "runs", experiment.preset, experiment.seed, identity)
    return Job(identity, label, experiment, folder)


def write_plan(spec: SweepSpec, jobs: Sequence[Job], out: Path) -> None:
    """Write ``plan.json``: every run with its id, folder, command and configuration."""
    runs: list[Config] = [
        {
            "id": job.id,
            "label": job.label,
            "folder": str(job.folder.relative_to(out)),
            "command": "metarl " + shlex.join(command_of(job)),
            "config": to_dict(job.experiment),
        }
        for job in jobs
    ]
    write_json(out / "plan.json", {"schema": 1, "name": spec.name, "runs": runs})


def command_of(job: Job) -> tuple[str, ...]:
    """Return what follows ``metarl`` in the command that makes the run: only what differs."""
    base = preset(job.experiment.preset)
    flags = _flags(base, job.experiment, "--")
    return ("train", job.experiment.preset, *flags, "--out", str(job.folder))


def _flags(base: object, asked: object, above: str) -> Iterator[str]:
    """Yield the flags that turn one dataclass into another of its type."""
    for field in dataclasses.fields(base):  # type: ignore[arg-type]
        before, after = getattr(base, field.name), getattr(asked, field.name)
        flag = above + field.name.replace("_", "-")
        if dataclasses.is_dataclass(before):
            yield from _flags(before, after, f"{flag}.")
        elif isinstance(after, bool) and before != after:
            yield flag if after else f"{above}no-{field.name.replace('_', '-')}"
        elif before != after:
            yield flag
            yield from map(str, after if isinstance(after, tuple) else (after,))
