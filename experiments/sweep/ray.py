"""Runs on Ray: on the cluster that RAY_ADDRESS names, or on a Ray of their own on this machine."""

import ipaddress
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from metarl.checks import InputError
from metarl.experiments.sweep.plan import Job, LaunchRequest, Watch

if TYPE_CHECKING:
    from ray import tune
    from ray.tune.schedulers import TrialScheduler

_ADDRESS = "RAY_ADDRESS"
_OBJECTS_BYTES = 100_000_000
"""Of shared memory, which holds no more than the names of runs here."""
_LONGEST_PARENT = 20
"""Of the folder of Ray's sockets: a socket's path ends after 107 bytes, of which Ray takes most."""
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0",
}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Read on import: Ray then listens on 127.0.0.1 alone, as it does by itself on those systems."""
_KILLED = 128 + signal.SIGKILL
_RUNGS, _KEPT = 2, 3


def cluster_address() -> str | None:
    """Return the address of the cluster that the user names; None for a Ray of our own."""
    address = os.environ.get(_ADDRESS, "")
    return None if address in ("", "local") else address


def launch_ray(jobs: Sequence[Job], request: LaunchRequest, watch: Watch) -> Mapping[str, int]:
    """Run jobs as trials of Ray Tune, each in its run folder as everywhere.

    A run whose worker died is started again on another, as often as ``request.retries`` says, and
    goes on from its checkpoint. With ``request.asha`` runs that fall behind are stopped.

    Raises:
        InputError: Ray is not installed or does not answer, or runs that cannot be compared are to
            compete.
    """
    if not jobs:
        return {}
    if request.asha:
        _refuse_unlike(jobs)
    # Ray keeps state here that the run folders make worthless.
    notes = request.out.resolve() / "ray"
    shutil.rmtree(notes, ignore_errors=True)
    with _connected(request):
        try:
            results = _tuner(jobs, request, watch, notes).fit()
            return _statuses(jobs, results)
        finally:
            shutil.rmtree(notes, ignore_errors=True)


def _tuner(jobs: Sequence[Job], request: LaunchRequest, watch: Watch, notes: Path) -> "tune.Tuner":
    from ray import tune  # noqa: PLC0415

    from metarl.experiments.sweep import ray_tune  # noqa: PLC0415

    trainable = tune.with_parameters(
        ray_tune.RunTrial, jobs=_absolute(jobs), out=request.out.resolve(), threads=request.threads
    )
    return tune.Tuner(
        tune.with_resources(
            trainable,
            lambda config: _needs(jobs[config[ray_tune.PLACE]], request.threads),
        ),
        param_space={ray_tune.PLACE: tune.grid_search(list(range(len(jobs))))},
        tune_config=tune.TuneConfig(
            metric=ray_tune.METRIC,
            mode="max",
            max_concurrent_trials=request.jobs,
            scheduler=_asha(jobs) if request.asha else None,
            trial_dirname_creator=lambda trial: jobs[trial.config[ray_tune.PLACE]].id,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(notes),
            failure_config=tune.FailureConfig(max_failures=request.retries),
            stop=ray_tune.StopOnSignal(request.stop),
            callbacks=[ray_tune.Listener(jobs, watch)],
            verbose=0,
        ),
    )


def _needs(job: Job, threads: int) -> "tune.PlacementGroupFactory":
    from ray import tune  # noqa: PLC0415

    gpus = int(job.experiment.device == "cuda")
    return tune.PlacementGroupFactory([{"CPU": float(threads), "GPU": float(gpus)}])


def _asha(jobs: Sequence[Job]) -> "TrialScheduler":
    """Return a scheduler that lets the better third go on at a ninth and at a third of the way.

    Asynchronous successive halving: Li et al. (2020), "A system for massively parallel
    hyperparameter tuning".
    """
    from ray.tune.schedulers import ASHAScheduler  # noqa: PLC0415

    from metarl.experiments.sweep.ray_tune import CLOCK  # noqa: PLC0415

    iterations = jobs[0].experiment.iterations
    return ASHAScheduler(
        time_attr=CLOCK,
        max_t=iterations + 1,  # At max_t Ray ends a trial, and ours evaluate after the last one.
        grace_period=max(1, iterations // _KEPT**_RUNGS),
        reduction_factor=_KEPT,
    )


def _refuse_unlike(jobs: Sequence[Job]) -> None:
    """Refuse runs whose returns say nothing about each other."""
    first = jobs[0].experiment
    for job in jobs:
        if (job.experiment.env, job.experiment.iterations) != (first.env, first.iterations):
            raise InputError(
                [
                    "--asha lets runs compete, which takes one environment and one number of"
                    f" iterations; {jobs[0].label} and {job.label} differ there"
                ]
            )


def _statuses(jobs: Sequence[Job], results: "tune.ResultGrid") -> dict[str, int]:
    """Return the exit status of each run that ended; one that was stopped on the way has none."""
    from metarl.experiments.sweep.ray_tune import PLACE, RunEndedError  # noqa: PLC0415

    statuses = {job.id: 0 for job in jobs if job.done}
    for result in (results[place] for place in range(len(results))):
        job = jobs[(result.config or {})[PLACE]]
        if result.error is not None:
            cause = getattr(result.error, "cause", None)
            statuses[job.id] = cause.status if isinstance(cause, RunEndedError) else _KILLED
    return statuses


def _absolute(jobs: Sequence[Job]) -> list[Job]:
    """Return jobs that mean the same folders wherever a worker stands."""
    return [job._replace(folder=job.folder.resolve()) for job in jobs]


@contextmanager
def _connected(request: LaunchRequest) -> Iterator[None]:
    """Connect to the cluster, or start a Ray of our own, until the end.

    Raises:
        InputError: Ray is not installed, or nothing answers.
    """
    address = cluster_address()
    with ExitStack() as stack:
        stack.enter_context(_environment(_SETTINGS | ({} if address else _LOOPBACK)))
        try:
            import ray  # noqa: PLC0415 - seconds, for this launcher alone
        except ImportError as error:
            said = "the launcher ray needs Ray: pip install 'metarl-suite[ray]'"
            raise InputError([said]) from error
        folder = None if address else stack.enter_context(_short_folder())
        stack.callback(ray.shutdown)
        handler = signal.getsignal(signal.SIGTERM)
        try:
            _init(request, folder)
        except (ConnectionError, RuntimeError, ValueError) as error:
            if address is None:
                raise
            said = str(error).partition("\n")[0]
            raise InputError([f"no Ray answers at {_ADDRESS}={address}: {said}"]) from error
        signal.signal(signal.SIGTERM, handler)  # Ray takes the signal for itself.
        # What fails is told by our own table and logs.
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        yield


def _init(request: LaunchRequest, folder: str | None) -> None:
    """Start a Ray that only this machine can talk to, in ``folder``; or, without it, connect."""
    import ray  # noqa: PLC0415

    if folder is None:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
        return
    ray.init(
        address="local",
        num_cpus=request.jobs * request.threads,
        include_dashboard=False,
        object_store_memory=_OBJECTS_BYTES,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=folder,
    )
    addresses = [node["NodeManagerAddress"] for node in ray.nodes()]  # type: ignore[no-untyped-call]
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


@contextmanager
def _short_folder() -> Iterator[str]:
    """Make a folder for Ray's sockets and logs that is gone afterwards."""
    usual = tempfile.gettempdir()
    parent = usual if len(usual) <= _LONGEST_PARENT else "/tmp"
    with tempfile.TemporaryDirectory(
        prefix="metarl-", dir=parent, ignore_cleanup_errors=True
    ) as folder:
        yield folder
