"""The command line: ``metarl list | train | evaluate | bench``."""

import contextlib
import importlib.metadata
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import tyro
from rich.console import Console

from metarl import agents, envs
from metarl.checkpoint import CheckpointError
from metarl.checks import InputError, unknown
from metarl.experiments.bench import BENCHMARKS
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
from metarl.experiments.presets import PRESETS, preset
from metarl.experiments.train import train
from metarl.runs import Config, RunConflictError, RunLockedError

_HELP = ("-h", "--help")
_USER_MISTAKE = 2
_STATUSES: Mapping[type[Exception], int] = {
    InputError: _USER_MISTAKE,
    CheckpointError: _USER_MISTAKE,
    RunConflictError: _USER_MISTAKE,
    RunLockedError: _USER_MISTAKE,
    OSError: 74,
    FloatingPointError: 1,
}
"""Errors that end a command with their message alone, and its exit status."""

_ArgsT = TypeVar("_ArgsT")


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


@dataclass(frozen=True)
class BenchArgs:
    """Measure an experiment's speed; medians after a warm-up."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    json: bool = False
    """Print one JSON object and nothing else."""


def list_command(arguments: Sequence[str]) -> int:
    """Print every environment, agent and preset, one line each."""
    if arguments:
        raise InputError([f"metarl list takes no arguments, got {' '.join(arguments)}"])
    console = _console()
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
    """Run ``metarl train PRESET [flags]``."""
    experiment, flags = _preset_argument("train", arguments)
    args = _parse(TrainArgs, flags, f"train {experiment.preset}", TrainArgs(experiment))
    return train(args.experiment, args.out, _console(stderr=True))


def evaluate_command(arguments: Sequence[str]) -> int:
    """Run ``metarl evaluate RUN_DIR [flags]``."""
    args = _parse(EvaluateArgs, arguments, "evaluate")
    notes = _console(stderr=True)
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
    print_curves(curves, parts.env.spec, _console())
    notes.print(f"wrote {picture} and the JSON beside it")
    return 0


def bench_command(arguments: Sequence[str]) -> int:
    """Run ``metarl bench sampling|iteration PRESET [flags]``."""
    kinds = ", ".join(BENCHMARKS)
    if not arguments or arguments[0].startswith("-"):
        raise InputError([f"usage: metarl bench KIND PRESET [flags]; kinds: {kinds}"])
    kind, *rest = arguments
    if kind not in BENCHMARKS:
        raise InputError([unknown("benchmark", kind, BENCHMARKS)])
    experiment, flags = _preset_argument(f"bench {kind}", rest)
    prog = f"bench {kind} {experiment.preset}"
    args = _parse(BenchArgs, flags, prog, BenchArgs(experiment))
    result = BENCHMARKS[kind](args.experiment)
    console = _console()
    if args.json:
        print(json.dumps(result))
        return 0
    for name, value in result.items():
        console.print(f"{name:26} {value:,.4g}")
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
    "bench": Command(bench_command, "bench KIND PRESET", "measure sampling or an iteration"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    A user's mistake ends with status 2 and one line for each fault; a run that diverged with 1; a
    disk that cannot be written with 74; an interruption with 130.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in _HELP or (name in COMMANDS and rest[:1] and rest[0] in _HELP and name != "evaluate"):
        _print_usage()
        return 0
    if name == "--version":
        _console().print(importlib.metadata.version("metarl-suite"))
        return 0
    if name not in COMMANDS:
        return _complain([unknown("command", name, COMMANDS)], _USER_MISTAKE)
    try:
        return COMMANDS[name].run(rest)
    except tuple(_STATUSES) as error:
        status = next(code for kind, code in _STATUSES.items() if isinstance(error, kind))
        return _complain(str(error).splitlines(), status)
    except KeyboardInterrupt:
        return _complain(["interrupted"], 130)


def _parse(
    kind: type[_ArgsT], flags: Sequence[str], command: str, default: _ArgsT | None = None
) -> _ArgsT:
    """Parse flags into a dataclass.

    Raises:
        InputError: the flags are well-formed, and a config refused its values.
        SystemExit: with tyro's own explanation, for help and for malformed flags.
    """
    said = io.StringIO()
    prog, config = f"metarl {command}", (tyro.conf.AvoidSubcommands,)
    try:
        with contextlib.redirect_stderr(said):
            if default is None:
                return tyro.cli(kind, prog=prog, args=flags, config=config)
            return tyro.cli(kind, prog=prog, args=flags, config=config, default=default)
    except SystemExit as leaving:
        # tyro wraps a config's complaint into a box of 80 columns; we print it line by line.
        cause: BaseException | None = leaving
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__ or cause.__context__
        if isinstance(cause, InputError):
            raise InputError(cause.lines) from None
        sys.stderr.write(said.getvalue())
        raise


def _preset_argument(command: str, arguments: Sequence[str]) -> tuple[Experiment, list[str]]:
    if not arguments or arguments[0].startswith("-"):
        raise InputError(
            [
                f"usage: metarl {command} PRESET [flags]",
                f"presets: {', '.join(PRESETS)}",
                f"flags of a preset: metarl {command} PRESET --help",
            ]
        )
    return preset(arguments[0]), list(arguments[1:])


def _console(*, stderr: bool = False) -> Console:
    """Return a console that prints what it is given: paths may look like markup."""
    return Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True)


def _print_usage() -> None:
    console = _console()
    console.print("metarl: meta-reinforcement learning in PyTorch\n")
    for command in COMMANDS.values():
        console.print(f"  metarl {command.usage:20} {command.summary}")
    console.print("\n`metarl train PRESET --help` shows every flag with its default.")


def _complain(lines: Sequence[str], status: int) -> int:
    for line in lines:
        sys.stderr.write(f"metarl: {line}\n")
    return status
