"""A run as a folder to give to others: complete, readable as a run, no code, no private paths."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from rich.console import Console

from metarl.checkpoint import save_checkpoint, write_bytes_atomic, write_json
from metarl.checks import InputError
from metarl.experiments.evaluation.files import (
    draw_standard,
    standard_evaluations,
    standard_stem,
    title_of,
)
from metarl.experiments.evaluation.scoring import load_run
from metarl.experiments.experiment import Experiment, Parts
from metarl.experiments.outcomes import Outcome, read_outcome
from metarl.experiments.settings import Setting
from metarl.experiments.share.card import Sharing, card_text
from metarl.experiments.share.folder import (
    CARD,
    foreign_names,
    refuse_foreign,
    replacing,
    write_manifest,
)
from metarl.experiments.train import draw_learning
from metarl.files import parse_json, refuse
from metarl.logger import read_metrics
from metarl.protocols import HasMemory
from metarl.statistics import CurveSummary

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_INTERVAL = "95% bootstrap of the IQM over tasks, for this one trained agent"


class Choices(NamedTuple):
    """What the user decides of an export."""

    best: bool
    """The weights that were best in validation instead of the last ones."""
    license: str | None
    """By its identifier on the hub, such as ``mit``."""


def export_run(run: Path, out: Path, choices: Choices, notes: Console) -> None:
    """Write a finished run, as it stood when the chosen weights were saved, into ``out``.

    What it says of their score is read from the run's standard evaluation of these weights.

    Raises:
        InputError: the run is unfinished, its weights have not been evaluated, a file of it has a
            name that no export holds, or ``out`` is taken.
        BrokenFileError, RunConflictError: something in it cannot be read.
    """
    license_id = choices.license
    if license_id is not None and not _LICENSE.fullmatch(license_id):
        raise InputError([f"--license must be an identifier such as 'mit', got {license_id!r}"])
    place = "best" if choices.best else "checkpoints"
    experiment, parts, checkpoint = load_run(run, place, {"device": "cpu", "threads": 1}, notes)
    if not (run / "DONE").exists():
        raise InputError([f"{run} has not finished: its folder holds no DONE"])
    with replacing(out) as new:
        _copy_config(run, new)
        save_checkpoint(new / "checkpoints", checkpoint, keep=1)
        _copy_metrics(run, new, checkpoint.iteration)
        _copy_evaluations(run, new, checkpoint.iteration, choices.best)
        _copy_videos(run, new)
        outcome = _outcome_of(run, new)
        sharing = Sharing(outcome, _curve(outcome), _stem(outcome), choices.license, choices.best)
        _draw(new, sharing, experiment, parts)
        write_json(new / "results.json", _results(sharing))
        card = card_text(sharing, parts, new)
        write_bytes_atomic(new / CARD, card.encode())
        write_manifest(new)


def _copy_config(run: Path, new: Path) -> None:
    _copy(run / "config.yaml", new / "config.yaml")
    if (run / "system.json").exists():
        _copy_json(run / "system.json", new / "system.json")


def _copy_metrics(run: Path, new: Path, iteration: int) -> None:
    """Copy what was measured up to a meta-iteration, and say that the run ends there."""
    file = run / "metrics.jsonl"
    rows = [row for row in read_metrics(file) if row["iteration"] <= iteration]
    if not rows:
        refuse(file, f"holds nothing up to meta-iteration {iteration}")
    lines = file.read_bytes().split(b"\n")[: len(rows)]
    write_bytes_atomic(new / file.name, b"\n".join(lines) + b"\n")
    reached = {"iteration": iteration, "env_steps": int(rows[-1]["env_steps"])}
    write_json(new / "DONE", reached)


def _copy_evaluations(run: Path, new: Path, iteration: int, best: bool) -> None:
    """Copy the evaluations of a meta-iteration, of whatever protocol; a standard one is needed."""
    (new / "eval").mkdir()
    found = sorted((run / "eval").glob(f"{iteration:06d}_*"))
    if not standard_evaluations(run / "eval", iteration):
        flag = " --best" if best else ""
        raise InputError(
            [
                f"{run / 'eval'} holds no standard evaluation of these weights (meta-iteration"
                f" {iteration}): metarl evaluate {run}{flag} makes one"
            ]
        )
    for file in found:
        if not foreign_names([f"eval/{file.name}"]):
            copy = _copy_json if file.suffix == ".json" else _copy
            copy(file, new / "eval" / file.name)


def _copy_videos(run: Path, new: Path) -> None:
    videos = sorted((run / "videos").glob("*"))
    refuse_foreign(run, [f"videos/{file.name}" for file in videos])
    for file in videos:
        (new / "videos").mkdir(exist_ok=True)
        _copy(file, new / "videos" / file.name)


def _copy(file: Path, target: Path) -> None:
    if file.is_symlink() or not file.is_file():
        refuse(file, "not a regular file")
    shutil.copyfile(file, target)


def _copy_json(file: Path, target: Path) -> None:
    """Copy a JSON file with its commands as they would be typed anywhere."""
    if file.is_symlink() or not file.is_file():
        refuse(file, "not a regular file")
    write_json(target, _without_paths(parse_json(file, file.read_bytes())))


def _without_paths(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_paths(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _typed(entry)
        if key == "command" and isinstance(entry, list)
        else _without_paths(entry)
        for key, entry in value.items()
    }


def _typed(command: Sequence[object]) -> list[str]:
    """Return a command without where it wrote to, and without folders of its machine."""
    words, typed = [str(word) for word in command[1:]], ["metarl"]
    for before, word in zip(["", *words], words, strict=False):
        flag, equals, path = word.rpartition("=")
        if "--out" not in (before, word, flag):
            typed.append(flag + equals + (PurePath(path).name if path.startswith("/") else path))
    return typed


def _outcome_of(run: Path, new: Path) -> Outcome:
    try:
        return read_outcome(new)
    except InputError as error:
        raise InputError(line.replace(str(new), str(run)) for line in error.lines) from None


def _curve(outcome: Outcome) -> CurveSummary:
    return Setting(outcome.preset, [outcome]).curve()


def _stem(outcome: Outcome) -> str:
    """Name the evaluation that an outcome was read from."""
    tasks, rounds = outcome.per_task.shape
    return standard_stem(outcome.iteration, tasks, rounds - 1)


def _draw(new: Path, sharing: Sharing, experiment: Experiment, parts: Parts) -> None:
    outcome = sharing.outcome
    rows = read_metrics(new / "metrics.jsonl")
    draw_learning(
        new / "eval" / "learning.png", experiment, isinstance(parts.agent, HasMemory), rows
    )
    title = title_of(outcome.preset, outcome.iteration, f"{len(outcome.per_task)} held-out")
    curves = {outcome.preset: sharing.curve} | outcome.floors
    picture = new / "eval" / f"{sharing.evaluation}.png"
    draw_standard(picture, title, curves, outcome.score, parts.agent)


def _results(sharing: Sharing) -> dict[str, object]:
    outcome = sharing.outcome
    return {
        "preset": outcome.preset,
        "environment": outcome.environment,
        "iteration": outcome.iteration,
        "best_in_validation": sharing.best,
        "env_steps": int(outcome.learning[0, -1]),
        "wall_s": round(outcome.wall_s, 1),
        "score": outcome.score,
        "held_out_tasks": len(outcome.per_task),
        "adaptations": list(range(len(sharing.curve.mean))),
        **sharing.curve._asdict(),
        "interval": _INTERVAL,
        "references": {name: curve._asdict() for name, curve in outcome.floors.items()},
        "commits": sorted(outcome.commits),
    }
