"""The command line: ``metarl list | train | evaluate | adapt | table | plot | ...``."""

import importlib.metadata
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro

from metarl.checks import (
    COUNT_OR_ZERO,
    NON_NEGATIVE,
    CannotDrawError,
    EnvFaultError,
    InputError,
    check_fields,
    unknown,
)
from metarl.experiments.adapt import adapt_command
from metarl.experiments.arguments import parse, plain_console, preset_argument
from metarl.experiments.bench.commands import bench_command
from metarl.experiments.callbacks import Callback, EarlyStop, StopAtReturn
from metarl.experiments.check.command import check_command
from metarl.experiments.evaluation.command import evaluate_command
from metarl.experiments.experiment import Experiment
from metarl.experiments.gallery import gallery_command
from metarl.experiments.group import as_one
from metarl.experiments.listing import list_command
from metarl.experiments.plot import plot_command
from metarl.experiments.progress import DriftError
from metarl.experiments.record import Sitting
from metarl.experiments.report.command import report_command
from metarl.experiments.reproduce.command import reproduce_command
from metarl.experiments.scratch import scratch_command
from metarl.experiments.share.commands import export_command, pull_command, push_command
from metarl.experiments.sweep.command import sweep_command
from metarl.experiments.sweep.search import search_command
from metarl.experiments.table import table_command
from metarl.experiments.tracking import Service
from metarl.experiments.train import train
from metarl.experiments.video.command import video_command
from metarl.experiments.video.play import play_command
from metarl.files import BrokenFileError
from metarl.locks import RunLockedError
from metarl.processes import PeerLostError, Processes, connect
from metarl.runs import RunConflictError

_HELP = ("-h", "--help")
_SHOW_USAGE = ("list", "train", "scratch", "bench")
"""Commands whose flags depend on their first argument: help before it is that of all commands."""
_USER_MISTAKE = 2
_PEER_LOST = 75
_STATUSES: Mapping[type[Exception], int] = {
    InputError: _USER_MISTAKE,
    CannotDrawError: _USER_MISTAKE,
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
    track: tyro.conf.UseAppendAction[tuple[Service, ...]] = ()
    """A service that is sent the metrics, besides TensorBoard; may be given again for another."""
    stop_patience: int = 0
    """Stop after so many validations in a row without a better one; 0 for never."""
    stop_min_delta: float = 0.0
    """By how much a validation must be better to count as such."""
    stop_at: float | None = None
    """Stop when a validation reaches this return after adaptation."""
    go_on: bool = False
    """Train on where a run was stopped early."""

    def __post_init__(self) -> None:
        stops = self.stop_patience > 0 or self.stop_at is not None
        check_fields(
            self,
            {"stop_patience": COUNT_OR_ZERO, "stop_min_delta": NON_NEGATIVE},
            "TrainArgs.stop_patience and stop_at need validations, got --evaluate-every 0"
            if stops and not self.experiment.evaluate_every
            else None,
        )

    def sitting(self) -> Sitting:
        """Return what these flags say of this sitting."""
        rules: list[Callback] = []
        if self.stop_patience:
            rules.append(EarlyStop(patience=self.stop_patience, min_delta=self.stop_min_delta))
        if self.stop_at is not None:
            rules.append(StopAtReturn(value=self.stop_at))
        return Sitting(callbacks=rules, track=tuple(dict.fromkeys(self.track)), go_on=self.go_on)


def train_command(arguments: Sequence[str]) -> int:
    """Run ``metarl train PRESET [flags]``, in one process or as one of those of torchrun."""
    with connect() as processes:
        # An error is told before the group is left: the others' end may be the end of this one.
        return _status_of(lambda: _train(arguments, processes))


def _train(arguments: Sequence[str], processes: Processes) -> int:
    with as_one(processes):
        experiment, flags = preset_argument("train", arguments)
        args = parse(TrainArgs, flags, f"train {experiment.preset}", TrainArgs(experiment))
        sitting = args.sitting()
    return train(args.experiment, args.out, plain_console(stderr=True), processes, sitting)


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
    "report": Command(report_command, "report RUN_DIR... --out FILE", "runs as one HTML page"),
    "adapt": Command(
        adapt_command, "adapt RUN --task JSON --out DIR", "adapt to one task, keep the policy"
    ),
    "video": Command(video_command, "video RUN", "a task before and after adaptation, filmed"),
    "play": Command(play_command, "play RUN", "the same in a window"),
    "sweep": Command(
        sweep_command, "sweep SPEC.yaml", "all runs of a spec; again: what is missing"
    ),
    "search": Command(
        search_command, "search SPEC.yaml", "values that learn best within ranges, by Optuna"
    ),
    "reproduce": Command(
        reproduce_command, "reproduce NAME", "a published experiment, run again and judged"
    ),
    "scratch": Command(scratch_command, "scratch PRESET", "learn test tasks from nothing, by PPO"),
    "check": Command(check_command, "check MODULE:NAME", "check tasks of your own, rule by rule"),
    "export": Command(export_command, "export RUN_DIR --out DIR", "a run as a folder to share"),
    "push": Command(push_command, "push RUN_DIR USER/NAME", "a run to the Hugging Face hub"),
    "pull": Command(pull_command, "pull USER/NAME --out DIR", "a run from the Hugging Face hub"),
    "gallery": Command(gallery_command, "gallery --out DIR", "a page for each family of tasks"),
    "bench": Command(bench_command, "bench PRESET|envs|gpu|scaling", "measure speed"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    A user's mistake ends with status 2 and one line for each fault; a run that diverged with 1; a
    disk that cannot be written, or a hub that cannot be reached, with 74; the loss of another
    process with 75; an interruption with 130.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in _HELP or (name in _SHOW_USAGE and rest[:1] and rest[0] in _HELP):
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
