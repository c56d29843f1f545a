"""Runs on this machine: a process for each, no port, no daemon."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from metarl.experiments.sweep.plan import Job, LaunchRequest, Watch, command_of
from metarl.locks import is_locked

_POLL_S = 0.1
_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Running(NamedTuple):
    """A run under way."""

    job: Job
    process: "subprocess.Popen[bytes]"


def launch_local(jobs: Sequence[Job], request: LaunchRequest, watch: Watch) -> Mapping[str, int]:
    """Run jobs on this machine, ``request.jobs`` at a time, each with a log of its own.

    A run whose folder another process still holds, such as one that a killed driver has left
    saving, waits until it is free; one that has come to its end by then is not started.
    """
    queue, running = deque(jobs), list[Running]()
    starts: Counter[str] = Counter()
    statuses: dict[str, int] = {}
    try:
        while (queue or running) and request.stop.number is None:
            for job in _fill(queue, running, request, watch):
                statuses[job.id] = 0
                watch(job, "done")
            time.sleep(_POLL_S)
            for entry in [entry for entry in running if entry.process.poll() is not None]:
                running.remove(entry)
                job, status = entry.job, entry.process.returncode
                starts[job.id] += 1
                if status != 0 and starts[job.id] <= request.retries:
                    watch(job, "retried")
                    queue.append(job)
                    continue
                statuses[job.id] = status
                watch(job, "failed" if status else "done")
    finally:
        statuses |= _stop(running, watch)
    return statuses


def _fill(
    queue: deque[Job], running: list[Running], request: LaunchRequest, watch: Watch
) -> list[Job]:
    """Start what there is room for; return those that others have brought to their end."""
    ended: list[Job] = []
    for _ in range(len(queue)):
        if len(running) == request.jobs:
            break
        job = queue.popleft()
        if is_locked(job.folder / "lock"):
            queue.append(job)
        elif job.done:
            ended.append(job)
        else:
            running.append(Running(job, start(job, request.out, request.threads)))
            watch(job, "running")
    return ended


def start(job: Job, out: Path, threads: int) -> "subprocess.Popen[bytes]":
    """Start a run with so many threads; it appends to its log below ``out``.

    It ends when this process does; a Ctrl-C on the terminal is this process's affair.
    """
    log = out / "logs" / f"{job.id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = (*command_of(job), "--threads", str(threads))
    with log.open("ab") as file:
        file.write(f"$ metarl {shlex.join(arguments)}\n".encode())
        file.flush()
        return subprocess.Popen(
            # -P: no file of the folder that the user stands in takes the place of a module.
            [sys.executable, "-P", "-m", "metarl.experiments.sweep.child", *arguments],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | dict.fromkeys(_POOLS, str(threads)),
            start_new_session=True,
        )


def _stop(running: Sequence[Running], watch: Watch) -> dict[str, int]:
    """Let runs save and end; return the statuses of those that came to their end after all."""
    for entry in running:
        entry.process.send_signal(signal.SIGTERM)
    statuses = {}
    for job, process in running:
        if process.wait() == 0:
            statuses[job.id] = 0
        watch(job, "stopped" if process.returncode else "done")
    return statuses
