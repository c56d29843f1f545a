"""``metarl evaluate``: which protocol, on which tasks, beside what."""

import json
import re
import reprlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from rich.console import Console

from metarl.checks import COUNT, COUNT_OR_ZERO, InputError, check_fields
from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.evaluation.files import as_json, draw_shots, report, summaries_of
from metarl.experiments.evaluation.scoring import (
    Curve,
    Judged,
    Protocol,
    load_run,
    request_for,
)
from metarl.experiments.evaluation.table import print_curves
from metarl.experiments.experiment import Device
from metarl.experiments.references import ceiling_curves, reference_curves
from metarl.protocols import HasMemory
from metarl.runs import Config

_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True)
class EvaluateArgs:
    """Adaptation curve of a run on held-out tasks, beside its floors."""

    run_dir: tyro.conf.Positional[Path]
    """Folder of the run."""
    adaptations: int | None = None
    """Adaptation steps on each task; left out, 3, or for agents with memory those of training."""
    tasks: int = 40
    """Held-out tasks; all of them where the list is shorter."""
    split: str = "test"
    """Held-out list: test, or shifted, outside of what training draws from, where there is one."""
    shots: str = ""
    """Episodes for each adaptation instead of those of training: a curve for each, as in 1,5,20."""
    protocol: Protocol = "standard"
    """meta-world: one adaptation to 10 episodes (or 10 of a trial), then 3 that are scored."""
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
        fixed = self.protocol != "standard" and (self.adaptations is not None or self.shots)
        check_fields(
            self,
            {"tasks": COUNT, "threads": COUNT_OR_ZERO} | steps,
            f"--protocol {self.protocol} says itself how many episodes and adaptations;"
            " leave out --adaptations and --shots"
            if fixed
            else None,
        )
        self.numbers_of_shots()

    def numbers_of_shots(self) -> tuple[int, ...]:
        """Return E of each curve that is asked for; none for that of training.

        Raises:
            InputError: they are no whole numbers, or one comes twice.
        """
        words = [word.strip() for word in self.shots.split(",")] if self.shots else []
        numbers = tuple(int(word) for word in words if _NUMBER.fullmatch(word))
        right = len(numbers) == len(words) == len(set(numbers)) and all(map(COUNT.accepts, numbers))
        if not right:
            allowed = "different whole numbers from 1, such as 1,5,20"
            raise InputError([f"--shots must be {allowed}; got {reprlib.repr(self.shots)}"])
        return numbers


def evaluate_command(arguments: Sequence[str]) -> int:
    """Run ``metarl evaluate RUN_DIR [flags]``."""
    args = parse(EvaluateArgs, arguments, "evaluate")
    notes = plain_console(stderr=True)
    judged, iteration = _judged(args, notes)
    numbers = args.numbers_of_shots()
    if numbers and isinstance(judged.parts.agent, HasMemory):
        name = type(judged.parts.agent).__name__
        raise InputError(
            [f"--shots: {name} learns from each episode as it goes; ask for --adaptations instead"]
        )
    each = [judged._replace(request=replace(judged.request, shots=k)) for k in numbers] or [judged]
    if args.json:
        told = [_as_json(one, iteration, args, notes) for one in each]
        content = {"shots": dict(zip(numbers, told, strict=True))} if numbers else told[0]
        sys.stdout.write(json.dumps(content) + "\n")
        return 0
    folder, by_shots = args.run_dir / "eval", dict[int, dict[str, Curve]]()
    for one in each:
        beside = _beside(one, args, notes)
        curves, picture = report(*one[:2], iteration, one.request, folder, beside)
        print_curves(curves, one.parts, plain_console(), one.request)
        notes.print(f"wrote {picture}, and JSON and CSV beside it")
        by_shots[one.request.shots or 0] = curves
    if len(each) > 1:
        notes.print(f"wrote {draw_shots(folder, each[0], iteration, by_shots)}")
    return 0


def _judged(args: EvaluateArgs, notes: Console) -> tuple[Judged, int]:
    """Return what is evaluated, and after how many meta-iterations it is."""
    place = "best" if args.best else "checkpoints"
    experiment, parts, checkpoint = load_run(args.run_dir, place, _machine(args), notes)
    asked = (args.adaptations, args.tasks, args.split, args.protocol)
    request = request_for(experiment, parts, *asked)
    if request.tasks < args.tasks:
        notes.print(f"note: the {args.split} list ends after {request.tasks} tasks")
    return Judged(experiment, parts, request), checkpoint.iteration


def _machine(args: EvaluateArgs) -> Config:
    return {"device": args.device, "threads": args.threads}


def _beside(judged: Judged, args: EvaluateArgs, notes: Console) -> dict[str, Curve]:
    """Return the curves that are asked for beside that of the run."""
    curves = reference_curves(judged, args.references, _machine(args), notes)
    return curves | ceiling_curves(judged, notes) if args.ceilings else curves


def _as_json(
    judged: Judged, iteration: int, args: EvaluateArgs, notes: Console
) -> dict[str, object]:
    agent, others = judged.parts.agent, _beside(judged, args, notes)
    curve = judged.score(agent, judged.config(agent))
    shown = {"references": summaries_of(others)} if others else {}
    return as_json(judged, iteration, curve) | shown
