"""The command line: ``metarl list | train | evaluate | bench``."""

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro
from rich.console import Console

from metarl import agents, envs
from metarl.checkpoint import CheckpointError, write_json
from metarl.checks import InputError, unknown
from metarl.experiments.arguments import parse, plain_console, preset_argument
from metarl.experiments.bench import BenchRequest, bench
from metarl.experiments.bench_gpu import GpuRequest, bench_gpu
from metarl.experiments.bench_scaling import (
    ScalingRequest,
    bench_scaling,
    panels_of,
    read_cells,
)
from metarl.experiments.bench_tables import print_benchmark, print_scaling, print_targets
from metarl.experiments.evaluate import (
    EvaluationRequest,
    as_json,
    capped,
    evaluate,
    load_run,
    print_curves,
    report,
)
from metarl.experiments.experiment import Device, Experiment
from metarl.experiments.figures import scaling_figure
from metarl.experiments.group import as_one
from metarl.experiments.presets import PRESETS
from metarl.experiments.progress import DriftError
from metarl.experiments.train import train
from metarl.processes import PeerLostError, Processes, connect
from metarl.runs import Config, RunConflictError, RunLockedError

_HELP = ("-h", "--help")
_USER_MISTAKE = 2
_PEER_LOST = 75
_STATUSES: Mapping[type[Exception], int] = {
    InputError: _USER_MISTAKE,
    CheckpointError: _USER_MISTAKE,
    RunConflictError: _USER_MISTAKE,
    RunLockedError: _USER_MISTAKE,
    OSError: 74,
    FloatingPointError: 1,
    DriftError: 1,
}
"""Errors that end a command with their message alone, and its exit status."""


@dataclass(frozen=True)
class TrainArgs:
    """Meta-train a preset, or go on with the run that the folder holds."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    out: Path | None = None
    """Folder of the run; by default a place under runs/ that follows from the configuration."""


@dataclass(frozen=True, kw_only=True)
class EvaluateArgs(EvaluationRequest):
    """Adaptation curve of a run on held-out tasks, beside its floors."""

    run_dir: tyro.conf.Positional[Path]
    """Folder of the run."""
    json: bool = False
    """Print one JSON object, of the agent alone, and nothing else; write no files."""
    best: bool = False
    """Take the weights that were best in validation instead of the last ones."""
    device: Device = "cpu"
    """Where to evaluate, wherever the run was trained."""
    threads: int = 0
    """Threads of the physics; 0 takes every core of this process."""


@dataclass(frozen=True, kw_only=True)
class ResultArgs:
    """Where a benchmark's result goes."""

    out: Path | None = None
    """Where to write the JSON, besides what is printed."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        # Before minutes are spent on what is to be written there.
        if self.out is not None and (self.out.is_dir() or not self.out.parent.is_dir()):
            raise InputError([f"--out must be a file in a folder that exists, got {self.out}"])


@dataclass(frozen=True, kw_only=True)
class BenchArgs(BenchRequest, ResultArgs):
    """Measure an experiment's speed: medians and spreads of repeated rounds."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]

    def __post_init__(self) -> None:
        BenchRequest.__post_init__(self)
        ResultArgs.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class GpuArgs(GpuRequest, ResultArgs):
    """Measure what a machine with a GPU must reach, and say whether it does."""

    def __post_init__(self) -> None:
        GpuRequest.__post_init__(self)
        ResultArgs.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class ScalingArgs(ScalingRequest, ResultArgs):
    """Measure one meta-iteration for growing numbers of tasks; --out also draws a figure."""

    def __post_init__(self) -> None:
        ScalingRequest.__post_init__(self)
        ResultArgs.__post_init__(self)
        if self.out is not None and self.out.suffix == ".png":
            raise InputError(
                [f"--out must be the JSON, beside which the figure goes; got {self.out}"]
            )


def list_command(arguments: Sequence[str]) -> int:
    """Print every environment, agent and preset, one line each."""
    if arguments:
        raise InputError([f"metarl list takes no arguments, got {' '.join(arguments)}"])
    console = plain_console()
    console.print("environments")
    for name, family in envs.ENVS.items():
        console.print(f"  {name:28} {family.summary} (presets: {', '.join(family.presets)})")
    console.print("agents")
    for name, entry in agents.AGENTS.items():
        console.print(f"  {name:28} {entry.summary}")
    console.print("presets")
    for name, make in PRESETS.items():
        console.print(f"  {name:38} {(make.__doc__ or '').strip().splitlines()[0]}")
    return 0


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
    asked = EvaluationRequest(adaptations=args.adaptations, tasks=args.tasks)
    request = capped(asked, parts)
    if request != asked:
        notes.print(f"note: the held-out list ends after {request.tasks} tasks")
    if args.json:
        tasks = parts.distribution.held_out(request.tasks)
        curve = evaluate(experiment, parts, parts.agent, tasks, request.adaptations)
        print(json.dumps(as_json(experiment, checkpoint.iteration, curve)))
        return 0
    curves, picture = report(
        experiment, parts, checkpoint.iteration, request, args.run_dir / "eval"
    )
    print_curves(curves, parts.env.spec, plain_console())
    notes.print(f"wrote {picture} and the JSON beside it")
    return 0


def bench_command(arguments: Sequence[str]) -> int:
    """Run ``metarl bench PRESET|gpu|scaling PRESET [flags]``."""
    if arguments[:1] == ["gpu"]:
        return _bench_gpu(arguments[1:])
    if arguments[:1] == ["scaling"]:
        return _bench_scaling(arguments[1:])
    with connect() as processes:
        with as_one(processes):
            experiment, flags = preset_argument("bench", arguments)
            default = BenchArgs(experiment=experiment)
            args = parse(BenchArgs, flags, f"bench {experiment.preset}", default)
        notes = plain_console(stderr=True, quiet=not processes.leads)
        result = bench(args.experiment, args, notes, processes)
        return _deliver(result, args, print_benchmark) if processes.leads else 0


def _bench_gpu(flags: Sequence[str]) -> int:
    args = parse(GpuArgs, flags, "bench gpu")
    result = bench_gpu(args, plain_console(stderr=True))
    return _deliver(result, args, print_targets)


def _bench_scaling(arguments: Sequence[str]) -> int:
    """Run ``metarl bench scaling PRESET [flags] [-- flags of metarl bench]``."""
    experiment, flags = preset_argument("bench scaling", arguments)
    cut = flags.index("--") if "--" in flags else len(flags)
    args = parse(ScalingArgs, flags[:cut], f"bench scaling {experiment.preset}")
    console = plain_console(stderr=True)
    result = bench_scaling(experiment.preset, flags[cut + 1 :], args, console)
    if args.out is not None:
        picture = args.out.with_suffix(".png")
        title = f"{experiment.preset}: one meta-iteration"
        scaling_figure(picture, title, panels_of(read_cells(result)), args.tasks)
    return _deliver(result, args, print_scaling)


def _deliver(
    result: Config, args: ResultArgs, print_tables: Callable[[Config, Console], None]
) -> int:
    if args.out is not None:
        write_json(args.out, result)
    if args.json:
        print(json.dumps(result))
    else:
        print_tables(result, plain_console())
    return 0


class Command(NamedTuple):
    """One row of the table of commands."""

    run: Callable[[Sequence[str]], int]
    usage: str
    summary: str


COMMANDS: Mapping[str, Command] = {
    "list": Command(list_command, "list", "environments, agents and presets"),
    "train": Command(train_command, "train PRESET", "meta-train, or resume"),
    "evaluate": Command(evaluate_command, "evaluate RUN_DIR", "adaptation curve on held-out tasks"),
    "bench": Command(bench_command, "bench PRESET|gpu|scaling", "measure speed, phase by phase"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    A user's mistake ends with status 2 and one line for each fault; a run that diverged with 1; a
    disk that cannot be written with 74; the loss of another process with 75; an interruption with
    130.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in _HELP or (name in COMMANDS and rest[:1] and rest[0] in _HELP and name != "evaluate"):
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
        console.print(f"  metarl {command.usage:25} {command.summary}")
    console.print("\n`metarl train PRESET --help` shows every flag with its default.")


def _complain(lines: Sequence[str], status: int) -> int:
    for line in lines:
        sys.stderr.write(f"metarl: {line}\n")
    return status
