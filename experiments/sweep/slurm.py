"""Runs on a Slurm cluster, as an array of jobs that are requeued until they have finished.

submitit hands the cluster a pickle of what to run, which the nodes read; nothing here reads one:
whether a run has come to its end is told by its folder.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metarl.checkpoint import write_json
from metarl.checks import InputError
from metarl.experiments.sweep.local import start
from metarl.experiments.sweep.plan import Job, LaunchRequest, Watch
from metarl.files import parse_json, read_regular, refuse
from metarl.locks import is_locked

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

_POLL_S = 1.0
_SAVING_S = 120
"""Seconds before its time limit at which a job is told to save and is requeued."""
_MOST_REQUEUES = 100
_LONGEST_BOOK = 10_000_000


class ClusterRun:
    """Owns the process of a run on a node of the cluster; travels there before it has one."""

    def __init__(self, job: Job, out: Path, threads: int) -> None:
        self._run = (job, out, threads)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run; return the exit status."""
        job, _, _ = self._run
        # A driver that was killed in the middle may have sent the same run before.
        while is_locked(job.folder / "lock"):
            time.sleep(_POLL_S)
        if job.done:
            return 0
        self._process = start(*self._run)
        while (status := self._process.poll()) is None:
            time.sleep(_POLL_S)
        return status

    def checkpoint(self) -> "DelayedSubmission":
        """Let the run save, and say how to go on with it; submitit calls this in its handler."""
        from submitit.helpers import DelayedSubmission  # noqa: PLC0415  an extra

        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            # Not its wait(): the handler may stand in the middle of poll(), which has the lock.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(ClusterRun(*self._run))


def launch_slurm(jobs: Sequence[Job], request: LaunchRequest, watch: Watch) -> Mapping[str, int]:
    """Submit jobs as one array and watch them; what an earlier driver submitted is only watched.

    A signal ends the watching, not the jobs.

    Raises:
        InputError: submitit or Slurm is not there.
    """
    cluster = _cluster(request)
    statuses: dict[str, int] = {}
    for attempt in range(request.retries + 1):
        left = [job for job in jobs if not job.done]
        for job in left if attempt else ():
            watch(job, "retried")
        _watch_to_the_end(_submitted(cluster, left, request), request, watch)
        statuses = {job.id: 0 if job.done else 1 for job in jobs}
        if request.stop.number is not None:
            return {key: 0 for key, status in statuses.items() if status == 0}
        if not any(statuses.values()):
            break
    for job in jobs:
        if statuses[job.id]:
            watch(job, "failed")
    return statuses


class _Cluster(NamedTuple):
    """How jobs are sent, and found again."""

    executor: Any
    job_class: Any
    folder: Path


def _cluster(request: LaunchRequest) -> _Cluster:
    try:
        import submitit  # noqa: PLC0415  an extra
    except ImportError:
        raise InputError(["--launcher slurm needs: pip install 'metarl-suite[slurm]'"]) from None
    options = request.slurm
    if options.cluster == "slurm" and shutil.which("srun") is None:
        raise InputError(["--launcher slurm: no srun on this machine, which is no part of Slurm"])
    # The nodes find the folder too, whatever directory they start in.
    folder = request.out.absolute() / "slurm"
    executor = submitit.AutoExecutor(
        folder, cluster=options.cluster, slurm_max_num_timeout=_MOST_REQUEUES
    )
    executor.update_parameters(
        name="metarl",
        timeout_min=options.minutes,
        cpus_per_task=request.threads,
        gpus_per_node=options.gpus,
        slurm_mem=f"{options.memory_gb}GB" if options.memory_gb else None,
        slurm_partition=options.partition,
        slurm_account=options.account,
        slurm_array_parallelism=request.jobs,
        slurm_signal_delay_s=_SAVING_S,
    )
    classes = {"slurm": submitit.SlurmJob, "local": submitit.LocalJob}
    return _Cluster(executor, classes[options.cluster], folder)


def _submitted(
    cluster: _Cluster, jobs: Sequence[Job], request: LaunchRequest
) -> list[tuple[Job, Any]]:
    """Return each job with what the cluster has of it; submit those of which it has nothing."""
    book = request.out / "slurm.json"
    numbers = _numbers(book)
    there = {
        job.id: cluster.job_class(cluster.folder, numbers[job.id])
        for job in jobs
        if job.id in numbers
    }
    there = {key: sent for key, sent in there.items() if not sent.done(force_check=True)}
    out = request.out.absolute()
    new = [job for job in jobs if job.id not in there]
    if new:
        with cluster.executor.batch():
            sent = [
                cluster.executor.submit(
                    ClusterRun(job._replace(folder=job.folder.absolute()), out, request.threads)
                )
                for job in new
            ]
        there |= {job.id: entry for job, entry in zip(new, sent, strict=True)}
        write_json(book, numbers | {key: entry.job_id for key, entry in there.items()})
    return [(job, there[job.id]) for job in jobs]


def _numbers(book: Path) -> dict[str, str]:
    """Return the cluster's number of each job that was submitted, by the job's id.

    Raises:
        BrokenFileError: the file is damaged.
    """
    if not book.exists():
        return {}
    content = parse_json(book, read_regular(book, 0, _LONGEST_BOOK))
    if not isinstance(content, dict) or not all(isinstance(each, str) for each in content.values()):
        refuse(book, "does not hold the numbers of jobs; without it, all are submitted again")
    return content


def _watch_to_the_end(
    pairs: Sequence[tuple[Job, Any]], request: LaunchRequest, watch: Watch
) -> None:
    """Return when the cluster is done with all of them, or a signal came."""
    left, started = list(pairs), set[str]()
    while left and request.stop.number is None:
        time.sleep(_POLL_S)
        for job, sent in list(left):
            if sent.done():
                left.remove((job, sent))
                if job.done:
                    watch(job, "done")
            elif job.id not in started and sent.state.upper() == "RUNNING":
                started.add(job.id)
                watch(job, "running")
