"""``metarl sweep``: all runs of a spec, however often they are broken off."""

import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import tyro
from rich.console import Console

from metarl.checks import COUNT_OR_ZERO, InputError, check_fields, fault_in_choice
from metarl.envs.physics import default_threads
from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.group import StopRequest
from metarl.experiments.sweep.local import launch_local
from metarl.experiments.sweep.plan import (
    Job,
    Launcher,
    LaunchRequest,
    SlurmConfig,
    plan,
    write_plan,
)
from metarl.experiments.sweep.printed import launch_print
from metarl.experiments.sweep.ray import cluster_address, launch_ray
from metarl.experiments.sweep.slurm import launch_slurm
from metarl.experiments.sweep.spec import read_spec
from metarl.experiments.sweep.table import SweepTable
from metarl.locks import acquire_lock
from metarl.runs import RunConflictError

PLAN = "plan.json"
"""The file by which the folder of a sweep is known."""
_TAIL_LINES = 8


class Place(NamedTuple):
    """Where runs may be launched."""

    launch: Launcher
    here: bool
    """Whether the runs share the cores of this machine."""
    watched: bool = True
    """Whether there is anything to be shown of them."""


LAUNCHERS: Mapping[str, Place] = {
    "local": Place(launch_local, here=True),
    "slurm": Place(launch_slurm, here=False),
    "ray": Place(launch_ray, here=cluster_address() is None),
    "print": Place(launch_print, here=True, watched=False),
}


@dataclass(frozen=True, kw_only=True)
class SweepArgs:
    """Make every run of a sweep that is not there yet: presets times grid times seeds.

    The same command goes on where it was broken off, in whatever way.
    """

    spec: tyro.conf.Positional[Path]
    """YAML file of the sweep (docs/sweeps.md)."""
    out: Path | None = None
    """Folder of the sweep; by default sweeps/ and its name."""
    launcher: str = "local"
    """Where the runs take place: local, slurm, ray, or print for one command per line."""
    jobs: int = 0
    """Runs at a time; 0 for as many as the cores allow, or on a cluster for all."""
    threads: int = 0
    """Threads of each run; 0 shares the cores among the runs at a time, or 1 on a cluster."""
    retries: int = 1
    """How often a run that failed is started again."""
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    asha: bool = False
    """On Ray, stop runs that have fallen behind; without it, the same command finishes them."""

    def __post_init__(self) -> None:
        counts = dict.fromkeys(("jobs", "threads", "retries"), COUNT_OR_ZERO)
        alone = "--asha needs --launcher ray" if self.asha and self.launcher != "ray" else None
        check_fields(self, counts, fault_in_choice(self, "launcher", LAUNCHERS), alone)


def sweep_command(arguments: Sequence[str]) -> int:
    """Run ``metarl sweep SPEC.yaml [flags]``."""
    args = parse(SweepArgs, arguments, "sweep")
    spec = read_spec(args.spec)
    if spec.search:
        said = f"{args.spec}: ranges under search are for `metarl search`; list values under grid"
        raise InputError([said])
    out = Path("sweeps", spec.name) if args.out is None else args.out
    jobs, notes = plan(spec, out), plain_console(stderr=True)
    with claimed(out, PLAN), StopRequest() as stop:
        write_plan(spec, jobs, out)
        stop.patient = True
        asked = LaunchRequest(
            out, args.jobs, args.threads, args.retries, stop, args.slurm, args.asha
        )
        statuses = launch(jobs, args.launcher, asked, notes)
    if stop.number is not None:
        notes.print(f"stopped by signal {stop.number}. The same command goes on from there.")
        return 128 + stop.number
    return _report(jobs, statuses, out, notes)


def launch(
    jobs: Sequence[Job], launcher: str, asked: LaunchRequest, notes: Console
) -> Mapping[str, int]:
    """Make those runs that are missing, under one live table.

    Args:
        jobs: all that the table shows.
        launcher: by its name.
        asked: as the user asks, where 0 runs at a time and 0 threads stand for no wish.
        notes: where the table is shown.

    Returns:
        The exit statuses of the runs that ended, by the ids of their jobs.
    """
    missing = [job for job in jobs if not job.done]
    place = LAUNCHERS[launcher]
    cores = default_threads() if place.here else None
    at_a_time, threads = shares(asked.jobs, asked.threads, len(missing), cores)
    if cores is not None and at_a_time * threads > cores:
        notes.print(f"note: {at_a_time} runs x {threads} threads on {cores} cores")
    with SweepTable(jobs, notes if place.watched else plain_console(quiet=True)) as table:
        return place.launch(missing, asked._replace(jobs=at_a_time, threads=threads), table)


@contextmanager
def claimed(out: Path, mark: str) -> Iterator[None]:
    """Hold a folder that the file ``mark`` belongs in, made where it is missing.

    Other drivers are kept out of it.

    Raises:
        RunConflictError: it holds something else.
        RunLockedError: another driver holds it.
    """
    if out.exists() and not out.is_dir():
        raise RunConflictError(f"{out} is a file, not a folder")
    names = os.listdir(out) if out.exists() else []
    # What a first start that was killed may leave before the file is there.
    beginning = re.compile(rf"lock|\.{re.escape(mark)}\..*part(-journal)?")
    foreign = sorted(name for name in names if not beginning.fullmatch(name))
    if foreign and mark not in names:
        raise RunConflictError(f"{out} holds {foreign[0]!r} but no {mark}: it is for other things")
    out.mkdir(parents=True, exist_ok=True)
    lock = acquire_lock(out / "lock")
    try:
        yield
    finally:
        os.close(lock)


def shares(jobs: int, threads: int, runs: int, cores: int | None) -> tuple[int, int]:
    """Return how many runs go on at a time, and the threads of each.

    Args:
        jobs: as asked for; 0 for no wish.
        threads: as asked for; 0 for no wish.
        runs: how many there are to make.
        cores: that they share, and whose number jobs times threads then does not exceed unless
            both, or either alone, were asked to; None where each has a machine of its own.
    """
    if cores is None:
        return jobs or max(1, runs), threads or 1
    at_a_time = jobs or max(1, cores // (threads or 1))
    at_a_time = min(at_a_time, max(1, runs))
    return at_a_time, threads or max(1, cores // at_a_time)


def _report(jobs: Sequence[Job], statuses: Mapping[str, int], out: Path, notes: Console) -> int:
    """Say what has become of the runs; return the exit status."""
    failed = [job for job in jobs if statuses.get(job.id)]
    done = sum(job.done for job in jobs)
    notes.print(f"{done} of {len(jobs)} runs are done, {len(failed)} failed; all are in {out}")
    for job in failed:
        log = out / "logs" / f"{job.id}.log"
        notes.print(f"failed with status {statuses[job.id]}: {job.label} ({log})")
        for line in _tail(log):
            notes.print(f"    {line}")
    return 1 if failed else 0


def _tail(log: Path) -> list[str]:
    if not log.exists():
        return []
    with log.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip() for line in deque(file, _TAIL_LINES)]
