"""A run from start, or from where it was broken off, to its evaluation."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from metarl.annealing import OuterStepConfig
from metarl.checkpoint import latest_checkpoint
from metarl.checks import InputError
from metarl.experiments.evaluation.files import report
from metarl.experiments.evaluation.scoring import request_for
from metarl.experiments.evaluation.table import print_curves
from metarl.experiments.experiment import FREE_FIELDS, Experiment, to_dict
from metarl.experiments.figures import learning_figure
from metarl.experiments.group import StopRequest, as_one, claim_machine
from metarl.experiments.progress import Progress
from metarl.experiments.record import Record, Sitting, Wishes
from metarl.logger import read_metrics
from metarl.ppo import PpoConfig
from metarl.processes import ALONE, Processes
from metarl.protocols import HasMemory
from metarl.runs import Config, RunFolder, config_id, default_run_folder
from metarl.seeding import Streams
from metarl.trainer import meta_train

_ADAPTATION = ("before adaptation", "after adaptation")
_TRIAL = ("first episode of a trial", "last episode")
_PLAIN = Sitting()


def train(
    experiment: Experiment,
    out: Path | None,
    console: Console,
    processes: Processes = ALONE,
    sitting: Sitting = _PLAIN,
) -> int:
    """Train, or go on training, and evaluate at the end.

    Args:
        experiment: what to run.
        out: the run's folder; by default a place under ``runs/`` that follows from the experiment.
        console: where progress and results are shown.
        processes: those that share the work, each of which calls this. Only the first one reads or
            writes the folder and speaks; how many they are is no part of the run's identity.
        sitting: callbacks, and services that follow the run; of the first process.

    Returns:
        The exit status: 0, or 128 plus the number of the signal that broke the run off.
    """
    with StopRequest() as stop, ExitStack() as stack:
        with as_one(processes):
            processes.share(experiment.tasks_per_update)
            claim_machine(experiment, processes)
            progress, record = Progress(experiment, processes), None
            if processes.leads:
                run = stack.enter_context(_open_folder(progress, out))
                record = stack.enter_context(Record(progress, run, console, sitting))
                _tell_of_schedules(experiment, console)
        with as_one(processes):
            progress.align()
        if not progress.over:
            _train(progress, record, stop)
        if stop.number is not None:
            if record is not None:
                console.print(
                    f"stopped by signal {stop.number} after meta-iteration {progress.iteration};"
                    f" saved in {record.run.path}. The same command goes on from there."
                )
            # torchrun ends all others as soon as one is gone: not before the first has saved.
            processes.highest(0)
            return 128 + stop.number
        if record is not None:
            _finish(record, console)
    return 0


def _open_folder(progress: Progress, out: Path | None) -> RunFolder:
    experiment = progress.experiment
    config = to_dict(experiment)
    if out is None:
        identity = config_id(config, FREE_FIELDS)
        out = default_run_folder(Path("runs"), experiment.preset, experiment.seed, identity)
    _refuse_fewer_iterations(experiment, out)
    facts: Config = {"processes": progress.processes.size}
    return RunFolder.open(out, config, FREE_FIELDS, facts)


def _tell_of_schedules(experiment: Experiment, console: Console) -> None:
    agent, iterations = experiment.agent, experiment.iterations
    if isinstance(agent, PpoConfig | OuterStepConfig) and agent.step_size(iterations - 1) == 0.0:
        console.print(
            f"note: steps have shrunk to nothing after {agent.anneal_over} of {iterations}"
            f" meta-iterations; to learn in all of them, set --agent.anneal-over {iterations}, or 0"
            " for steps of one size",
            soft_wrap=True,
        )
    if isinstance(agent, PpoConfig) and agent.discount_at(iterations - 1) < agent.discount:
        console.print(
            f"note: the discount still rises when learning ends: --agent.raise-discount ends at"
            f" {agent.raise_discount[1]}, with {iterations} meta-iterations",
            soft_wrap=True,
        )


def _refuse_fewer_iterations(experiment: Experiment, out: Path) -> None:
    held = latest_checkpoint(out / "checkpoints", lambda _: None)
    if held is not None and held.iteration > experiment.iterations:
        raise InputError(
            [
                f"{out} holds {held.iteration} meta-iterations already, asked for"
                f" {experiment.iterations}; choose another --out to start again"
            ]
        )


def _train(progress: Progress, record: Record | None, stop: StopRequest) -> None:
    """Run the meta-iterations that are left, or those until a signal or a callback's word."""
    experiment, parts = progress.experiment, progress.parts
    streams = Streams(experiment.seed, device=experiment.device)
    stop.patient = True
    iterations = meta_train(
        parts.agent,
        parts.env,
        parts.distribution,
        experiment,
        streams,
        start=progress.iteration,
    )
    for result in iterations:
        progress.count(result)
        wishes = Wishes() if record is None else record.take(result.metrics)
        wishes = Wishes(*stop.agree(progress.processes, *wishes))
        if wishes.save:
            _save(progress, record)
        if wishes.stop or stop.number is not None:
            break
    _save(progress, record)
    stop.patient = False


def _save(progress: Progress, record: Record | None) -> None:
    progress.refuse_drift()
    if record is not None:
        record.save()


def _finish(record: Record, console: Console) -> None:
    """Evaluate on held-out tasks beside the floors, and draw both curves."""
    record.close()
    progress, run = record.progress, record.run
    experiment, parts = progress.experiment, progress.parts
    request = request_for(experiment, parts)
    curves, picture = report(experiment, parts, progress.iteration, request, run.evaluations, {})
    print_curves(curves, parts, console)
    rows = read_metrics(run.metrics) if run.metrics.exists() else []
    learning = run.evaluations / "learning.png"
    if rows:
        draw_learning(learning, experiment, isinstance(parts.agent, HasMemory), rows)
    run.mark_done(progress.facts)
    console.print(f"run: {run.path}\nadaptation curve: {picture}\nlearning curve: {learning}")


def draw_learning(
    path: Path, experiment: Experiment, in_trials: bool, rows: Sequence[Mapping[str, float]]
) -> None:
    """Draw the learning curve of a run.

    Args:
        path: of the PNG.
        experiment: of the run.
        in_trials: whether its agent has memory, so that a round is an episode of a trial.
        rows: its metrics, a mapping for each meta-iteration, at least one.
    """
    first, last = _TRIAL if in_trials else _ADAPTATION
    series = {
        first: [row["meta/pre_return"] for row in rows],
        last: [row["meta/post_return"] for row in rows],
    }
    iterations = [int(row["iteration"]) for row in rows]
    env_steps = [int(row["env_steps"]) for row in rows]
    learning_figure(path, experiment.preset, iterations, env_steps, series)
