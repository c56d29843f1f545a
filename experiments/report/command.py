"""``metarl report``: finished runs as one HTML page."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import track

from metarl.checkpoint import write_bytes_atomic
from metarl.checks import NON_NEGATIVE, InputError, check_fields
from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.outcomes import read_outcomes
from metarl.experiments.report.folders import Allowance, clips_of
from metarl.experiments.report.page import Page, check_packages, render
from metarl.experiments.report.sections import section
from metarl.experiments.settings import Setting, by_environment


@dataclass(frozen=True, kw_only=True)
class ReportArgs:
    """Finished runs as one HTML page that opens without a network.

    Runs that differ in nothing but the seed are shown together, environments are kept apart, and
    runs that cannot be read are listed with the reason.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs."""
    out: Path = Path("report.html")
    """The page to write."""
    title: str = "Meta-reinforcement learning runs"
    """What it is called."""
    video_mb: float = 2.0
    """Videos of up to so many megabytes go into the page; larger ones are linked."""
    videos_mb: float = 6.0
    """All videos in the page together."""

    def __post_init__(self) -> None:
        html = self.out.suffix == ".html" and not self.out.is_dir()
        fault = None if html else f"--out must be a file that ends in .html, got {self.out}"
        check_fields(self, {"video_mb": NON_NEGATIVE, "videos_mb": NON_NEGATIVE}, fault)


def report_command(arguments: Sequence[str]) -> int:
    """Run ``metarl report RUN_DIR... --out FILE``."""
    args = parse(ReportArgs, arguments, "report")
    check_packages()
    notes = plain_console(stderr=True)
    page = page_of(args, notes)
    for fault in page.left_out:
        notes.print(f"left out: {fault}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(args.out, render(page))
    plain_console().print(f"wrote {args.out}")
    return 0


def page_of(args: ReportArgs, notes: Console) -> Page:
    """Read runs, and say all that there is to say of them.

    Args:
        args: of the command.
        notes: shows the progress, where it is a terminal.

    Raises:
        InputError: no run is left.
    """
    silent = not notes.is_terminal
    runs = track(args.runs, "reading", console=notes, transient=True, disable=silent)
    outcomes, faults = read_outcomes(runs)
    if not outcomes:
        raise InputError(faults or ["which runs? Give their folders"])
    environments = list(by_environment(outcomes).values())
    clips = clips_of(
        _in_turn(environments), args.out, Allowance(each=args.video_mb, total=args.videos_mb)
    )
    places = track(
        range(len(environments)), "summarising", console=notes, transient=True, disable=silent
    )
    return Page(
        title=args.title,
        made=f"{datetime.now(UTC):%F %R} UTC by metarl-suite "
        + importlib.metadata.version("metarl-suite"),
        sections=[
            section(f"environment-{place + 1}", environments[place], clips, args.out)
            for place in places
        ],
        left_out=faults,
    )


def _in_turn(environments: Sequence[Sequence[Setting]]) -> list[Path]:
    """Return the folders of all runs: the first of each setting, then the second of each."""
    settings = [setting.outcomes for environment in environments for setting in environment]
    return [run.folder for row in zip_longest(*settings) for run in row if run is not None]
