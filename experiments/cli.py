"""The command line: ``metarl list | train | evaluate | adapt | table | plot | ...``."""

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro

from metarl.checks import (
    COUNT,
    COUNT_OR_ZERO,
    EnvFaultError,
    InputError,
    check_fields,
    unknown,
)
from metarl.experiments.adapt import adapt_command
from metarl.experiments.arguments import parse, plain_console, preset_argument
from metarl.experiments.bench.commands import bench_command
from metarl.experiments.check.command import check_command
from metarl.experiments.evaluate import (
    as_json,
    evaluate,
    load_run,
    print_curves,
    report,
    request_for,
    summaries_of,
)
from metarl.experiments.experiment import Device, Experiment
from metarl.experiments.gallery import gallery_command
from metarl.experiments.group import as_one
from metarl.experiments.listing import list_command
from metarl.experiments.plot import plot_command
from metarl.experiments.progress import DriftError
from metarl.experiments.references import Judged, ceiling_curves, reference_curves
from metarl.experiments.scratch import scratch_command
from metarl.experiments.sweep.command import sweep_command
from metarl.experiments.table import table_command
from metarl.experiments.train import train
from metarl.files import BrokenFileError
from metarl.processes import PeerLostError, Processes, connect
from metarl.runs import Config, RunConflictError, RunLockedError

_HELP = ("-h", "--help")
_EXPLAIN_THEMSELVES = ("evaluate", "adapt", "table", "plot", "check", "gallery", "sweep")
"""Commands whose first argument is no preset: their help is that of their flags."""
_USER_MISTAKE = 2
_PEER_LOST = 75
_STATUSES: Mapping[type[Exception], int] = {
    InputError: _USER_MISTAKE,
    BrokenFileError: _USER_MISTAKE,
    RunConflictError: _USER_MISTAKE,
    RunLockedError: _USER_MISTAKE,
    OSError: 74,
    FloatingPointError: 1,
    DriftError: 1,
    EnvFaultError: 1,
}
"""Errors that end a command with their message alone, and its exit status."""


@dataclass(frozen=True)
class TrainArgs:
    """Meta-train a preset, or go on with the run that the folder holds."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    out: Path | None = None
    """Folder of the run; by default a place under runs/ that follows from the configuration."""


@dataclass(frozen=True, kw_only=True)
class EvaluateArgs:
    """Adaptation curve of a run on held-out tasks, beside its floors."""

    run_dir: tyro.conf.Positional[Path]
    """Folder of the run."""
    adaptations: int | None = None
    """Adaptation steps on each task; left out, 3, or for agents with memory those of training."""
    tasks: int = 40
    """Held-out tasks; all of them where the list is shorter."""
    json: bool = False
    """Print one JSON object, of the agent and what is asked for beside it; write no files."""
    references: tuple[Path, ...] = ()
    """Folders of runs on the same environment, and files of metarl scratch, to show beside it."""
    ceilings: bool = False
    """Show what can be reached too, where the family computes it (docs/ceilings.md)."""
    best: bool = False
    """Take the weights that were best in validation instead of the last ones."""
    device: Device = "cpu"
    """Where to evaluate, wherever the run was trained."""
    threads: int = 0
    """Threads of the physics; 0 takes every core of this process."""

    def __post_init__(self) -> None:
        steps = {} if self.adaptations is None else {"adaptations": COUNT_OR_ZERO}
        check_fields(self, {"tasks": COUNT, "threads": COUNT_OR_ZERO} | steps)


def train_command(arguments: Sequence[str]) -> int:
    """Run ``metarl train PRESET [flags]``, in one process or as one of those of torchrun."""
    with connect() as processes:
        # An error is told before the group is left: the others' end may be the end of this one.
        return _status_of(lambda: _train(arguments, processes))


def _train(arguments: Sequence[str], processes: Processes) -> int:
    with as_one(processes):
        experiment, flags = preset_argument("train", arguments)
        args = parse(TrainArgs, flags, f"train {experiment.preset}", TrainArgs(experiment))
    return train(args.experiment, args.out, plain_console(stderr=True), processes)


def evaluate_command(arguments: Sequence[str]) -> int:
    """Run ``metarl evaluate RUN_DIR [flags]``."""
    args = parse(EvaluateArgs, arguments, "evaluate")
    notes = plain_console(stderr=True)
    machine: Config = {"device": args.device, "threads": args.threads}
    place = "best" if args.best else "checkpoints"
    experiment, parts, checkpoint = load_run(args.run_dir, place, machine, notes)
    request = request_for(experiment, parts, args.adaptations, args.tasks)
    if request.tasks < args.tasks:
        notes.print(f"note: the held-out list ends after {request.tasks} tasks")
    judged = Judged(experiment, parts, request)
    others = reference_curves(judged, args.references, machine, notes)
    if args.ceilings:
        others |= ceiling_curves(judged, notes)
    if args.json:
        tasks = parts.distribution.held_out(request.tasks)
        curve = evaluate(experiment, parts, parts.agent, tasks, request.adaptations)
        shown = {"references": summaries_of(others)} if others else {}
        print(json.dumps(as_json(experiment, checkpoint.iteration, curve) | shown))
        return 0
    curves, picture = report(
        experiment, parts, checkpoint.iteration, request, args.run_dir / "eval", others
    )
    print_curves(curves, parts, plain_console())
    notes.print(f"wrote {picture} and the JSON beside it")
    return 0


class Command(NamedTuple):
    """One row of the table of commands."""

    run: Callable[[Sequence[str]], int]
    usage: str
    summary: str


COMMANDS: Mapping[str, Command] = {
    "list": Command(list_command, "list [envs|agents|presets]", "what there is"),
    "train": Command(train_command, "train PRESET", "meta-train, or resume"),
    "evaluate": Command(evaluate_command, "evaluate RUN_DIR", "adaptation curve on held-out tasks"),
    "table": Command(table_command, "table RUN_DIR...", "final results of runs, side by side"),
    "plot": Command(plot_command, "plot RUN_DIR... --out FILE", "runs in one figure"),
    "adapt": Command(
        adapt_command, "adapt RUN --task JSON --out DIR", "adapt to one task, keep the policy"
    ),
    "sweep": Command(
        sweep_command, "sweep SPEC.yaml", "all runs of a spec; again: what is missing"
    ),
    "scratch": Command(scratch_command, "scratch PRESET", "learn test tasks from nothing, by PPO"),
    "check": Command(check_command, "check MODULE:NAME", "check tasks of your own, rule by rule"),
    "gallery": Command(gallery_command, "gallery --out DIR", "a page for each family of tasks"),
    "bench": Command(bench_command, "bench PRESET|envs|gpu|scaling", "measure speed"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    A user's mistake ends with status 2 and one line for each fault; a run that diverged with 1; a
    disk that cannot be written with 74; the loss of another process with 75; an interruption with
    130.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in _HELP or (
        name in COMMANDS and rest[:1] and rest[0] in _HELP and name not in _EXPLAIN_THEMSELVES
    ):
        _print_usage()
        return 0
    if name == "--version":
        plain_console().print(importlib.metadata.version("metarl-suite"))
        return 0
    if name not in COMMANDS:
        return _complain([unknown("command", name, COMMANDS)], _USER_MISTAKE)
    return _status_of(lambda: COMMANDS[name].run(rest))


def _status_of(work: Callable[[], int]) -> int:
    """Return what ``work`` returns, or the status of the error that it ends with, and tell it."""
    try:
        return work()
    except PeerLostError as error:
        _complain([str(error)], _PEER_LOST)
        # torchrun's report is about the first to end: that should be the one that failed.
        time.sleep(1.0)
        return _PEER_LOST
    except tuple(_STATUSES) as error:
        status = next(code for kind, code in _STATUSES.items() if isinstance(error, kind))
        return _complain(str(error).splitlines(), status)
    except KeyboardInterrupt:
        return _complain(["interrupted"], 130)


def _print_usage() -> None:
    console = plain_console()
    console.print("metarl: meta-reinforcement learning in PyTorch\n")
    for command in COMMANDS.values():
        console.print(f"  metarl {command.usage:34} {command.summary}")
    console.print("\n`metarl train PRESET --help` shows every flag with its default.")


def _complain(lines: Sequence[str], status: int) -> int:
    for line in lines:
        sys.stderr.write(f"metarl: {line}\n")
    return status
