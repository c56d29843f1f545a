"""``metarl reproduce``: a published experiment from end to end.

Every step is a command that a person could type, and is shown as it begins: a sweep over seeds, an
evaluation of each run, a report. What is there already is not done again.
"""

import math
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
import yaml
from rich.console import Console

from metarl.checkpoint import write_bytes_atomic, write_json
from metarl.checks import COUNT_OR_ZERO, InputError, check_fields, unknown
from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.evaluation.command import evaluate_command
from metarl.experiments.outcomes import read_outcomes
from metarl.experiments.report.command import report_command
from metarl.experiments.reproduce.published import PUBLICATIONS, Protocol, Publication
from metarl.experiments.reproduce.verdict import Verdict, judge
from metarl.experiments.sweep.command import sweep_command
from metarl.experiments.sweep.plan import Job, plan
from metarl.experiments.sweep.spec import SweepSpec

_QUICK_TASKS = 1000
_SWEEP = "sweep"


@dataclass(frozen=True, kw_only=True)
class ReproduceArgs:
    """Run a published experiment again, and say of each of its numbers whether it was reproduced.

    The exit status is 1 where one was not, but for quick runs, which are not meant to.
    """

    name: tyro.conf.Positional[str]
    """Which one: maml-2017-point, maml-2017-cheetah-dir, rl2-2016-bandits or
    promp-2019-cheetah-dir."""
    out: Path | None = None
    """Folder of everything; by default reproductions/ and its name."""
    quick: bool = False
    """One seed and few meta-iterations: does it run here, and does it learn at all."""
    jobs: int = 0
    """Runs at a time; 0 for as many as the cores allow."""
    threads: int = 0
    """Threads of each run; 0 shares the cores among the runs at a time."""

    def __post_init__(self) -> None:
        fault = None if self.name in PUBLICATIONS else unknown("name", self.name, PUBLICATIONS)
        check_fields(self, dict.fromkeys(("jobs", "threads"), COUNT_OR_ZERO), fault)


def reproduce_command(arguments: Sequence[str]) -> int:
    """Run ``metarl reproduce NAME [--quick]``."""
    args = parse(ReproduceArgs, arguments, "reproduce")
    name = f"{args.name}-quick" if args.quick else args.name
    out = Path("reproductions", name) if args.out is None else args.out
    return reproduce(name, PUBLICATIONS[args.name], args, out)


def reproduce(name: str, publication: Publication, args: ReproduceArgs, out: Path) -> int:
    """Train, evaluate, report and judge what is missing of that in ``out``; return the status.

    Raises:
        InputError: a run cannot be read.
    """
    notes = plain_console(stderr=True)
    spec = spec_of(name, publication, quick=args.quick)
    if status := _sweep(spec, out, args, notes):
        return status
    jobs = plan(spec, out / _SWEEP)
    for job in jobs:
        _evaluate(job, _protocol(publication.protocol, quick=args.quick), notes)
    folders = [str(job.folder) for job in jobs]
    _step(report_command, "report", [*folders, "--out", str(out / "report.html")], notes)
    outcomes, faults = read_outcomes(job.folder for job in jobs)
    if faults:
        raise InputError(faults)
    verdicts = [judge(claim, outcomes) for claim in publication.claims]
    content = {"name": name, "quick": args.quick, "notes": list(publication.notes)}
    write_json(out / "verdicts.json", content | {"rows": [_row(verdict) for verdict in verdicts]})
    _print(publication, verdicts, args, plain_console())
    missed = any(verdict.word != "reproduced" for verdict in verdicts)
    return int(missed and not args.quick)


def spec_of(name: str, publication: Publication, *, quick: bool) -> SweepSpec:
    """Return the sweep of a publication: all of its seeds, or one for few meta-iterations."""
    return SweepSpec(
        name=name,
        presets=publication.presets,
        seeds=publication.seeds[:1] if quick else publication.seeds,
        set={"evaluate_every": 0} | ({"iterations": publication.quick_iterations} if quick else {}),
    )


def _protocol(protocol: Protocol, *, quick: bool) -> Protocol:
    return protocol._replace(tasks=min(protocol.tasks, _QUICK_TASKS)) if quick else protocol


def _sweep(spec: SweepSpec, out: Path, args: ReproduceArgs, notes: Console) -> int:
    """Write the spec into its folder and train what is missing of it; return the exit status."""
    file = out / "sweep.yaml"
    written = {
        "name": spec.name,
        "presets": list(spec.presets),
        "seeds": list(spec.seeds),
        "set": dict(spec.set),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(file, yaml.safe_dump(written, sort_keys=False).encode())
    share = ["--jobs", str(args.jobs), "--threads", str(args.threads)]
    return _step(sweep_command, "sweep", [str(file), "--out", str(out / _SWEEP), *share], notes)


def _evaluate(job: Job, protocol: Protocol, notes: Console) -> None:
    """Evaluate a run as its publication asks, unless that lies there already."""
    flags = ["--tasks", str(protocol.tasks)]
    if protocol.adaptations is not None:
        flags += ["--adaptations", str(protocol.adaptations)]
    if protocol.ceilings:
        flags.append("--ceilings")
    steps = r"\d+" if protocol.adaptations is None else str(protocol.adaptations)
    asked = re.compile(rf"\d+_tasks{protocol.tasks}_adaptations{steps}\.json")
    if not any(asked.fullmatch(file.name) for file in (job.folder / "eval").iterdir()):
        _step(evaluate_command, "evaluate", [str(job.folder), *flags], notes)


def _step(
    command: Callable[[Sequence[str]], int], name: str, arguments: Sequence[str], notes: Console
) -> int:
    """Show a command of metarl, and run it."""
    notes.print(f"$ metarl {name} {shlex.join(arguments)}")
    return command(arguments)


def _row(verdict: Verdict) -> dict[str, object]:
    """Return a verdict as plain data; what was not measured is null."""
    numbers = {"mean": verdict.mean, "low": verdict.low, "high": verdict.high}
    return (
        verdict.claim._asdict()
        | {"verdict": verdict.word, "seeds": verdict.seeds}
        | {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    )


def _print(
    publication: Publication, verdicts: Sequence[Verdict], args: ReproduceArgs, console: Console
) -> None:
    length = f", quick: {publication.quick_iterations} meta-iterations" if args.quick else ""
    console.print(f"{publication.title}{length}")
    head = ("adaptations", "published", "ours", "95% interval", "seeds", "")
    rows = [head, *(_cells(verdict) for verdict in verdicts)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    shown = ["  " + "  ".join(map(str.rjust, row, widths)) for row in rows]
    console.print(shown[0])
    preset = None
    for verdict, line in zip(verdicts, shown[1:], strict=True):
        if verdict.claim.preset != preset:
            preset = verdict.claim.preset
            console.print(preset)
        console.print(line)
    for source in dict.fromkeys(claim.source for claim in publication.claims):
        console.print(f"published: {source}")
    for note in publication.notes:
        console.print(f"note: {note}")


def _cells(verdict: Verdict) -> tuple[str, ...]:
    claim, word, seeds, mean, low, high = verdict
    published = f"{claim.published:g}" + (f" +- {claim.error:g}" if claim.error else "")
    ours = (f"{mean:.2f}", f"[{low:.2f}, {high:.2f}]") if seeds else ("", "")
    return (str(claim.adaptations), published, *ours, str(seeds), word)
