"""``metarl check MODULE:NAME``: a user's own tasks against the contract, rule by rule.

The module is imported because the user names it on the command line, as ``python MODULE`` would be;
nothing is ever imported by a name that a configuration or a checkpoint holds.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import tyro
from rich.console import Console

from metarl import envs
from metarl.checks import COUNT, POSITIVE, EnvFaultError, InputError, check_fields, told, unknown
from metarl.envs import Family
from metarl.envs.own import CanHurry, FromTensors, OwnTasks
from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.check.contract import Finding, check
from metarl.experiments.check.play import Subject
from metarl.protocols import CanClose, TaskDistribution, VectorTaskEnv


@dataclass(frozen=True, kw_only=True)
class CheckArgs:
    """Check tasks and their environment against the contract, rule by rule.

    MODULE is a module that can be imported, or a file; NAME an attribute of it: a FromMjcf, a
    FromGymnasium, a FromTensors, or a function (device, threads) that returns a distribution and an
    environment. The name of an environment of the suite stands for itself.
    """

    what: tyro.conf.Positional[str]
    """MODULE:NAME, or the name of an environment of the suite."""
    preset: str | None = None
    """Preset of an environment of the suite; its first where left out."""
    threads: int = 1
    """Threads of the physics, or worker processes of a Gymnasium environment."""
    timeout: float = 20.0
    """Seconds that a Gymnasium environment may take over one step or reset, at most."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        check_fields(self, {"threads": COUNT, "timeout": POSITIVE})


_MEMBERS: Mapping[type, tuple[str, ...]] = {
    TaskDistribution: ("parameters", "held_out_lists", "sample", "held_out"),
    VectorTaskEnv: ("spec", "threads", "reset", "step"),
}


class Report(NamedTuple):
    """What came of a check."""

    name: str
    findings: list[Finding]

    @property
    def holds(self) -> bool:
        """Whether every rule holds."""
        return all(finding.checked and finding.problem is None for finding in self.findings)


def check_command(arguments: Sequence[str]) -> int:
    """Run ``metarl check MODULE:NAME [flags]``; return 0 where every rule holds, else 1."""
    args = parse(CheckArgs, arguments, "check")
    report = check_named(args.what, args.preset, args.threads, args.timeout)
    if args.json:
        rules = [finding._asdict() for finding in report.findings]
        sys.stdout.write(
            json.dumps({"name": report.name, "holds": report.holds, "rules": rules}) + "\n"
        )
    else:
        print_report(report, plain_console())
    return 0 if report.holds else 1


def check_named(
    what: str, preset: str | None = None, threads: int = 1, timeout: float = 20.0
) -> Report:
    """Build what a user named and run every rule on it.

    Raises:
        InputError: there is no such module, attribute or environment, or it cannot be built.
    """
    own = _own_tasks(what, preset)
    if isinstance(own, CanHurry):
        own = own.within(timeout)
    with _blaming(what, "build"):
        built: object = own.build("cpu", threads)
    distribution, env = _pair(what, built)
    try:
        return Report(own.name, check(Subject(distribution, env, own.shows)))
    finally:
        if isinstance(env, CanClose):
            env.close()


def _pair(what: str, built: object) -> tuple[TaskDistribution, VectorTaskEnv]:
    """Refuse what is no distribution with its environment."""
    if not isinstance(built, tuple) or len(built) != 2:
        kind = type(built).__name__
        raise InputError([f"{what} must return (distribution, env), got {kind}: {built!r:.60}"])
    for value, protocol in zip(built, (TaskDistribution, VectorTaskEnv), strict=True):
        if not isinstance(value, protocol):
            lacking = [name for name in _MEMBERS[protocol] if not hasattr(value, name)]
            raise InputError(
                [
                    f"{what} must return (distribution, env); {type(value).__name__} is no"
                    f" {protocol.__name__} (metarl/protocols.py): it has no {', '.join(lacking)}"
                ]
            )
    distribution, env = built
    return distribution, env


def load(what: str) -> OwnTasks:
    """Import MODULE and return its NAME.

    Raises:
        InputError: there is no such module or attribute, or it is nothing that can be checked.
    """
    source, _, name = what.rpartition(":")
    module = _imported(source or name)
    known = [key for key, value in vars(module).items() if isinstance(value, OwnTasks)]
    known = [key for key in known if not isinstance(vars(module)[key], type)]
    if not source:
        raise InputError([f"say what of {name} to check: {name}:NAME; it has {_list(known)}"])
    if name not in vars(module):
        raise InputError([unknown(f"attribute of {source}", name, known or vars(module))])
    value: Any = vars(module)[name]
    if isinstance(value, OwnTasks) and not isinstance(value, type):
        return value
    if callable(value) and not isinstance(value, type):
        return FromTensors(what, value)
    raise InputError(
        [
            f"{what} is a {type(value).__name__}; it must be a FromMjcf, FromGymnasium or"
            f" FromTensors, or a function of (device, threads); {source} has {_list(known)}"
        ]
    )


def _own_tasks(what: str, preset: str | None) -> OwnTasks:
    """Return what a name on the command line stands for."""
    if ":" not in what and not what.endswith(".py"):
        config = envs.preset(what, preset)
        family: Family = envs.ENVS[what]
        return FromTensors(
            what, lambda device, threads: family.build(what, config, device, threads), family.shows
        )
    if preset is not None:
        raise InputError([f"--preset is for environments of the suite, not for {what}"])
    return load(what)


def _imported(source: str) -> ModuleType:
    """Import a module by name or file, as ``python`` would: its folder comes first on the path."""
    path = Path(source)
    is_file = source.endswith(".py")
    if is_file and not path.is_file():
        near = [str(other) for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise InputError([unknown("file", source, near)])
    folder, name = (str(path.resolve().parent), path.stem) if is_file else (os.getcwd(), source)
    # Worker processes are given this path too, and find the module by its name.
    if folder not in sys.path:
        sys.path.insert(0, folder)
    with _blaming(source, "import"):
        module = importlib.import_module(name)
    if is_file and Path(str(module.__file__)).resolve() != path.resolve():
        raise InputError([f"{source} is hidden by another module {name!r}, {module.__file__}"])
    return module


@contextlib.contextmanager
def _blaming(what: str, doing: str) -> Iterator[None]:
    """Turn whatever a user's module raises into one line that says where."""
    try:
        yield
    except (InputError, EnvFaultError):
        raise
    except Exception as error:
        text = f"{what}: {doing} raised {told(error)}"
        raise InputError(text.splitlines()) from error


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing that can be checked"


def print_report(report: Report, console: Console) -> None:
    """Print one line for each rule, and more where it does not hold."""
    console.print(report.name)
    for finding in report.findings:
        if not finding.checked:
            console.print(f"  not checked  {finding.rule}")
        elif finding.note is not None:
            console.print(f"  note         {finding.rule}: {finding.note}")
        elif finding.problem is None:
            console.print(f"  ok           {finding.rule}")
        else:
            first, *more = finding.problem.splitlines()
            console.print(f"  FAILED       {finding.rule}: {first}")
            for line in more:
                console.print(f"               {line}")
