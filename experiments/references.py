"""What stands beside a run's curve: other runs, learning from scratch, and what can be reached.

Another run, of whatever agent, is scored as this one is: on the same tasks, with as many episodes,
adaptations, starts and noise. Only whether tasks are told may differ.
"""

import itertools
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from rich.console import Console

from metarl import envs
from metarl.checks import InputError
from metarl.experiments.evaluation.scoring import (
    EVALUATION_STREAMS,
    Curve,
    Judged,
    curve_of,
    learned_from,
    load_run,
    score_label,
)
from metarl.experiments.experiment import Experiment, to_dict
from metarl.experiments.scratch_file import read_learned
from metarl.runs import Config, differences


def reference_curves(
    judged: Judged, places: Sequence[Path], machine: Config, notes: Console
) -> dict[str, Curve]:
    """Return the curves of references, by what they are called in tables.

    Args:
        judged: the run that they stand beside.
        places: folders of runs, or files of ``metarl scratch``.
        machine: fields of their experiments that follow from where they are evaluated.
        notes: told of broken checkpoints.

    Raises:
        InputError: a place holds no reference, or one of another environment or split.
    """
    curves: dict[str, Curve] = {}
    taken = {judged.experiment.preset}
    for place in places:
        found = (
            _of_run(judged, place, machine, notes) if place.is_dir() else _of_file(judged, place)
        )
        for name, curve in found.items():
            label = _free_name(name, place, taken)
            taken.add(label)
            curves[label] = curve
    return curves


def _free_name(name: str, place: Path, taken: Collection[str]) -> str:
    """Tell a name from those that are taken by where it lies, without the folders above.

    It is stored, and given away with the run.
    """
    told = f"{name} ({place.resolve().name}"
    numbered = (f"{told}, {number})" for number in itertools.count(2))
    candidates = itertools.chain((name, f"{told})"), numbered)
    return next(label for label in candidates if label not in taken)


def ceiling_curves(judged: Judged, notes: Console) -> dict[str, Curve]:
    """Return what can be reached, where the family computes it (``Family.ceilings``).

    A reference that learns plays the rounds of an agent one after the other, as one trial.

    Args:
        judged: the run that they stand beside.
        notes: told of what cannot be computed.
    """
    experiment, parts, _ = judged
    family, config = envs.ENVS[envs.name_of(experiment.env)], judged.config(parts.agent)
    if not family.ceilings:
        notes.print(f"note: nothing can be computed for {parts.env.spec.name}")
    tasks, rounds = judged.tasks(), config.in_sight
    total = parts.env.spec.score_is_total and not config.score_is_mean
    curves = {}
    for name, ceiling in family.ceilings.items():
        try:
            returns = ceiling(experiment.env, tasks, sum(rounds), EVALUATION_STREAMS.at(name))
        except InputError as error:
            notes.print(f"note: no curve for {name}: {error}")
            continue
        by_round = torch.split(returns.cpu(), list(rounds), 1)
        scores = [part.sum(-1) if total else part.mean(-1) for part in by_round]
        curves[name] = curve_of(torch.stack(scores, 1), learned_from(config))
    return curves


def _of_run(judged: Judged, folder: Path, machine: Config, notes: Console) -> dict[str, Curve]:
    other, parts, _ = load_run(folder, "checkpoints", machine, notes)
    _refuse_other_tasks(judged.experiment, to_dict(other)["env"], folder)
    # In rounds of a protocol with numbers of its own each agent is judged as one of its kind.
    like = judged.parts.agent if judged.request.protocol == "standard" else parts.agent
    there = judged._replace(parts=judged.parts._replace(env=parts.env))
    return {other.preset: there.score(parts.agent, judged.config(like))}


def _of_file(judged: Judged, file: Path) -> dict[str, Curve]:
    """Return two curves: after as many rounds as an agent has seen, and the large budget's."""
    learned, request = read_learned(file), judged.request
    _refuse_other_tasks(judged.experiment, learned.env, file)
    if request.protocol != "standard":
        raise InputError([f"{file}: learning from scratch has no {request.protocol} protocol"])
    told = {
        "split": request.split,
        "episodes": judged.config(judged.parts.agent).episodes,
        "score": score_label(judged.parts, request),
    }
    stored = learned._asdict()
    lines = [
        f"{file}: {name} is {stored[name]!r}, and {value!r} in this evaluation"
        for name, value in told.items()
        if stored[name] != value
    ]
    if lines:
        raise InputError(lines)
    scores = torch.tensor(learned.per_task, dtype=torch.float64)[: request.tasks]
    early = [place for place, n in enumerate(learned.rounds) if n == place <= request.adaptations]
    number = f"{len(scores)} task{'s' if len(scores) > 1 else ''}"
    episodes, last = [learned.episodes * n for n in learned.rounds], request.adaptations + 1
    return {
        f"from scratch, {number}": curve_of(scores[:, early], episodes[: len(early)]),
        f"from scratch, {learned.env_steps[-1]:,} steps, {number}": curve_of(
            scores[:, -1:].expand(-1, last), episodes[-1:] * last
        ),
    }


def _refuse_other_tasks(mine: Experiment, env: object, place: Path) -> None:
    """Refuse a reference whose environment is another, or the same with other settings."""
    lines = differences({"env": to_dict(mine)["env"]}, {"env": env}, ())
    if lines:
        shown = [line.replace("asked for", "the reference") for line in lines]
        raise InputError([f"{place} is no reference for {mine.preset}, its tasks differ:", *shown])
