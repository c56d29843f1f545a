"""Reading a command's arguments: presets by name, flags into dataclasses, one line per fault."""

import contextlib
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import tyro
from rich.console import Console

from metarl.checks import InputError
from metarl.experiments.experiment import Experiment
from metarl.experiments.presets import PRESETS, preset

_ArgsT = TypeVar("_ArgsT")


@dataclass(frozen=True, kw_only=True)
class ResultArgs:
    """Where a command's result goes."""

    out: Path | None = None
    """Where to write the JSON, besides what is printed."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        refuse_bad_out(self.out)


def refuse_bad_out(out: Path | None) -> None:
    """Refuse a file that cannot be written, before minutes are spent on what is to go there.

    Raises:
        InputError: it is a folder, or lies in none.
    """
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise InputError([f"--out must be a file in a folder that exists, got {out}"])


def parse(
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


def preset_argument(command: str, arguments: Sequence[str]) -> tuple[Experiment, list[str]]:
    """Return the preset that a command's first argument names, and the flags after it.

    Raises:
        InputError: there is no such preset, or no argument at all.
    """
    if not arguments or arguments[0].startswith("-"):
        raise InputError(
            [
                f"usage: metarl {command} PRESET [flags]",
                f"presets: {', '.join(PRESETS)}",
                "on another environment: PRESET+ENV or PRESET+ENV@SETTING, as `metarl list envs`",
                f"flags of a preset: metarl {command} PRESET --help",
            ]
        )
    return preset(arguments[0]), list(arguments[1:])


def plain_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console that prints what it is given: paths may look like markup."""
    return Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True, quiet=quiet)
