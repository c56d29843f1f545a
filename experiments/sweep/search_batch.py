"""Trials, batch by batch: drawn, run with every seed, cut short where hopeless, and scored."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from rich.console import Console

from metarl.checks import InputError
from metarl.experiments.sweep.plan import Job, job_of
from metarl.experiments.sweep.search_result import score_at, shown
from metarl.experiments.sweep.spec import SweepSpec, configured
from metarl.experiments.sweep.table import last_metrics

if TYPE_CHECKING:
    from metarl.experiments.sweep.search_study import Study, Trial

_DIVERGED = 1
"""Exit status of a run that came to its own end, and a bad one."""


class BatchFailedError(RuntimeError):
    """No run of a batch could be made: the fault is not in the values; the message says more."""


class Search(NamedTuple):
    """A search under way."""

    spec: SweepSpec
    study: "Study"
    out: Path
    objective: str
    """The metric that is to be high."""
    prune: bool
    """Whether trials are given up on the way."""
    launch: Callable[[Sequence[Job]], Mapping[str, int]]
    """Makes runs; returns their exit statuses by the ids of their jobs."""
    interrupted: Callable[[], bool]
    """Whether a signal has asked for the end; the batch then stays as it is, to go on with."""
    notes: Console


_Runs: TypeAlias = dict[int, list[Job]]
"""The runs of each trial that is still on, by its number: one for each seed."""


def go_through(search: Search, trials: int, batch: int) -> None:
    """Bring so many trials to their ends, ``batch`` at a time, or stop at a signal.

    Raises:
        BatchFailedError: of a batch, no run could be made.
    """
    for first in range(0, trials, batch):
        end = min(first + batch, trials)
        # All are drawn before one is run: what is drawn does not depend on which run is faster.
        while len(search.study.trials) < end:
            search.study.draw()
        _finish(search, search.study.trials[first:end])
        if search.interrupted():
            return


def _finish(search: Search, trials: Sequence["Trial"]) -> None:
    """Bring the running ones of these trials to their ends, or stop at a signal."""
    runs = _runs(search, [trial for trial in trials if trial.state == "running"])
    if not runs:
        return
    iterations = next(iter(runs.values()))[0].experiment.iterations
    for rung in rungs(iterations) if search.prune else ():
        statuses = _reach(search, runs, rung)
        if search.interrupted():
            return
        runs = _better(search, runs, rung, statuses)
    statuses = _reach(search, runs, iterations)
    if search.interrupted():
        return
    for number, score in _scores(search, runs, iterations, statuses):
        search.study.complete(number, score)
        values = search.study.trials[number].values
        told = ", ".join(f"{key}={shown(value)}" for key, value in values.items())
        search.notes.print(f"trial {number}: {search.objective} {shown(score)} with {told}")


def rungs(iterations: int) -> tuple[int, ...]:
    """Return the meta-iterations after which trials are compared: a quarter and half of all."""
    return tuple(sorted({math.ceil(iterations / 4), math.ceil(iterations / 2)} - {iterations}))


def _runs(search: Search, trials: Sequence["Trial"]) -> _Runs:
    """Return the runs of trials; one whose values the experiment refuses is given up."""
    runs: _Runs = {}
    for trial in trials:
        try:
            runs[trial.number] = [*_jobs(search, trial)]
        except InputError as error:
            _give_up(search, trial.number, error.lines[0], bad=True)
    return runs


def _jobs(search: Search, trial: "Trial") -> Iterator[Job]:
    spec = search.spec
    for seed in spec.seeds:
        experiment = configured(spec.presets[0], seed, {**spec.set, **trial.values})
        yield job_of(experiment, search.out, f"trial {trial.number} s{seed}")


def _reach(search: Search, runs: _Runs, iteration: int) -> Mapping[str, int]:
    """Let all runs come to ``iteration``; return the exit statuses of those that were launched."""
    due: dict[str, Job] = {}
    for job in (job for jobs in runs.values() for job in jobs):
        is_last = iteration == job.experiment.iterations
        if _iteration(job) >= iteration and (job.done or not is_last):
            continue
        # The end of a shorter way, if any.
        (job.folder / "DONE").unlink(missing_ok=True)
        experiment = dataclasses.replace(job.experiment, iterations=iteration)
        due[job.id] = job._replace(experiment=experiment)
    return search.launch([*due.values()]) if due else {}


def _better(search: Search, runs: _Runs, rung: int, statuses: Mapping[str, int]) -> _Runs:
    """Return the runs of the trials that are worth going on with."""
    scores = _scores(search, runs, rung, statuses)
    for number, score in scores:
        search.study.report(number, rung, score)
    for number, score in scores:
        # Before a kill, runs may have been found good and have gone further: that stands.
        if any(_iteration(job) > rung for job in runs[number]):
            continue
        if search.study.is_hopeless(number):
            said = f"{shown(score)} after {rung} meta-iterations is below the median"
            _give_up(search, number, said, bad=True)
    left = {trial.number for trial in search.study.trials if trial.state == "running"}
    return {number: jobs for number, jobs in runs.items() if number in left}


def _scores(
    search: Search, runs: _Runs, iteration: int, statuses: Mapping[str, int]
) -> list[tuple[int, float]]:
    """Return the number and the mean score of each trial; those without one are given up.

    Raises:
        BatchFailedError: none has one, and not for its values: they stay as they are.
    """
    scores: list[tuple[int, float]] = []
    failures: list[tuple[int, str, bool]] = []
    for number, jobs in runs.items():
        of_seeds = [score_at(job.folder, search.objective, iteration) for job in jobs]
        known = [score for score in of_seeds if score is not None]
        if len(known) == len(jobs):
            scores.append((number, statistics.fmean(known)))
            continue
        job = jobs[of_seeds.index(None)]
        status = statuses.get(job.id, 0)
        said = f"{job.label} has no finite {search.objective}"
        if status:
            said = f"{job.label} ended with status {status}: {search.out}/logs/{job.id}.log"
        failures.append((number, said, status in (0, _DIVERGED)))
    if failures and not scores and not any(bad for _, _, bad in failures):
        raise BatchFailedError("\n".join(said for _, said, _ in failures))
    for number, said, bad in failures:
        _give_up(search, number, said, bad=bad)
    return scores


def _give_up(search: Search, number: int, reason: str, *, bad: bool) -> None:
    search.study.give_up(number, reason, bad=bad)
    search.notes.print(f"trial {number} given up: {reason}")


def _iteration(job: Job) -> int:
    return int(last_metrics(job.folder / "metrics.jsonl").get("iteration", 0))
