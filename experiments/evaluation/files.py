"""What an evaluation leaves in ``RUN/eval``: JSON, the same as CSV, and a figure."""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

from torch import Tensor

from metarl.checkpoint import write_bytes_atomic, write_json
from metarl.evaluation import AdaptationCurve
from metarl.experiments.evaluation.figure import (
    EPISODES,
    by_episodes,
    by_rounds,
    curves_figure,
)
from metarl.experiments.evaluation.scoring import (
    Curve,
    EvaluationRequest,
    Judged,
    distinct_tasks,
    evaluate_beside_floors,
    score_label,
)
from metarl.experiments.experiment import Experiment, Parts
from metarl.experiments.figures import STEPS, adaptation_figure
from metarl.protocols import Adapter, HasMemory
from metarl.runs import system_facts
from metarl.statistics import CurveSummary
from metarl.types import Tasks

_STANDARD = re.compile(r"\d+_tasks\d+_adaptations\d+\.json")
_WIDEST = 64
"""Numbers of a task parameter that have columns of their own; walls of mazes are left out."""


def standard_evaluations(folder: Path, iteration: int) -> list[Path]:
    """Return the JSON files in ``RUN/eval`` of the standard protocol after a meta-iteration."""
    files = folder.glob(f"{iteration:06d}_*.json")
    return sorted(file for file in files if _STANDARD.fullmatch(file.name))


def standard_stem(iteration: int, tasks: int, adaptations: int) -> str:
    """Return the name of what the standard protocol leaves, without suffix."""
    return f"{iteration:06d}_tasks{tasks}_adaptations{adaptations}"


def title_of(preset: str, iteration: int, tasks: str) -> str:
    """Say in a figure whose evaluation it is; ``tasks`` is how many, and of what kind."""
    return f"{preset}, {iteration} meta-iterations, {tasks} tasks"


def as_json(judged: Judged, iteration: int, curve: Curve) -> dict[str, object]:
    """Return a curve that was played as the object that ``metarl evaluate --json`` prints."""
    assert curve.played is not None
    request, played = judged.request, curve.played
    return {
        "preset": judged.experiment.preset,
        "iteration": iteration,
        "protocol": request.protocol,
        "split": request.split,
        "adaptations": list(range(curve.per_task.shape[1])),
        "episodes_scored": list(judged.config(judged.parts.agent).rounds),
        **_summary(curve),
        "per_task": curve.per_task.tolist(),
        "success_per_task": None if _no_goal(played) else played.success.tolist(),
        "faulty_episodes": int(played.faulty.sum()),
    }


def summaries_of(curves: Mapping[str, Curve], but: str = "") -> dict[str, object]:
    """Return what is kept as JSON of curves by name, all but one."""
    return {name: _summary(curve) for name, curve in curves.items() if name != but}


def _summary(curve: Curve) -> dict[str, object]:
    """Return a curve's statistics, and the means over tasks of what was counted."""
    told: dict[str, object] = {**curve.summary._asdict(), "episodes_spent": list(curve.episodes)}
    played = curve.played
    if played is None:
        return told
    success = None if _no_goal(played) else played.success.mean(0).tolist()
    return told | {"env_steps": played.env_steps.mean(0).tolist(), "success": success}


def _no_goal(played: AdaptationCurve) -> bool:
    return bool(played.success.isnan().all())


def report(
    experiment: Experiment,
    parts: Parts,
    iteration: int,
    request: EvaluationRequest,
    folder: Path,
    references: dict[str, Curve],
) -> tuple[dict[str, Curve], Path]:
    """Evaluate an agent beside its floors and given references; leave JSON, CSV and a PNG.

    Returns:
        All curves, that of the agent first; and the place of the PNG.
    """
    curves = evaluate_beside_floors(experiment, parts, request) | references
    judged, mine = Judged(experiment, parts, request), curves[experiment.preset]
    folder.mkdir(parents=True, exist_ok=True)
    stem = _stem(request, iteration) + request.suffix
    config = judged.config(parts.agent)
    content = as_json(judged, iteration, mine) | {
        "episodes": config.episodes,
        "score": score_label(parts, request),
        "interval": "95% bootstrap of the IQM over tasks, each with episodes of its own",
        "distinct_tasks": distinct_tasks(judged.tasks()),
        "system": system_facts(),
        "references": summaries_of(curves, experiment.preset),
    }
    write_json(folder / f"{stem}.json", content)
    write_bytes_atomic(folder / f"{stem}.csv", table_of(judged.tasks(), mine).encode())
    picture = folder / f"{stem}.png"
    _draw(picture, judged, iteration, curves)
    return curves, picture


def table_of(tasks: Tasks, curve: Curve) -> str:
    """Return a played curve as CSV: a row for each task and number of adaptations.

    The columns are the task's place in its list, its parameters, the adaptations, the steps of the
    environment before, the score, and the share of successful episodes, empty where there is no
    goal. A parameter of more than 64 numbers is left out.
    """
    assert curve.played is not None
    columns = dict(_flat(tasks.parameter))
    file = io.StringIO()
    write = csv.writer(file, lineterminator="\n").writerow
    write(["task", *columns, "adaptations", "env_steps", "return", "success"])
    counted = (curve.played.env_steps, curve.per_task, curve.played.success)
    for task in range(len(curve.per_task)):
        about = [_number(column[task]) for column in columns.values()]
        numbers = zip(*(leaf[task].tolist() for leaf in counted), strict=True)
        for adaptations, row in enumerate(numbers):
            write([task, *about, adaptations, *map(_number, row)])
    return file.getvalue()


def _flat(parameter: Mapping[str, Tensor]) -> Iterator[tuple[str, list[float]]]:
    """Walk through the numbers of all parameters: ``goal[0]``, ``goal[1]``, ..."""
    for name, leaf in parameter.items():
        shape = leaf.shape[1:]
        if shape.numel() > _WIDEST:
            continue
        numbers = leaf.reshape(len(leaf), -1).T.tolist()
        for place, column in zip(product(*map(range, shape)), numbers, strict=True):
            yield name + "".join(f"[{number}]" for number in place), column


def _number(value: float) -> str:
    """Write a number so that its float32 can be read back; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.9g}"


def _draw(path: Path, judged: Judged, iteration: int, curves: Mapping[str, Curve]) -> None:
    _, parts, request = judged
    title, label = _title(judged, iteration), score_label(parts, request)
    if request.protocol == "standard":
        summaries = {name: curve.summary for name, curve in curves.items()}
        draw_standard(path, title, summaries, label, parts.agent)
    else:
        title = f"{title}, {request.protocol}"
        curves_figure(path, title, {EPISODES: by_episodes(curves)}, label)


def draw_standard(
    path: Path, title: str, curves: Mapping[str, CurveSummary], label: str, agent: Adapter
) -> None:
    """Draw an evaluation by the standard protocol, that of the agent first."""
    steps = "episodes of the trial before" if isinstance(agent, HasMemory) else STEPS
    adaptation_figure(path, title, curves, label, steps)


def draw_shots(
    folder: Path, judged: Judged, iteration: int, by_shots: Mapping[int, Mapping[str, Curve]]
) -> Path:
    """Draw an agent with several numbers of episodes for each adaptation, and the random floor.

    Returns:
        The place of the PNG, which is named by all these numbers.
    """
    experiment, parts, request = judged
    curves = {f"{k}-shot": found[experiment.preset] for k, found in by_shots.items()}
    # Actions at random are the same for any number; the largest tells most about them.
    curves["random policy"] = by_shots[max(by_shots)]["random policy"]
    panels = {STEPS: by_rounds(curves), EPISODES: by_episodes(curves)}
    suffix = f"{replace(request, shots=None).suffix}_shots{'-'.join(map(str, by_shots))}"
    path = folder / f"{_stem(request, iteration)}{suffix}.png"
    curves_figure(path, _title(judged, iteration), panels, score_label(parts, request))
    return path


def _stem(request: EvaluationRequest, iteration: int) -> str:
    return standard_stem(iteration, request.tasks, request.adaptations)


def _title(judged: Judged, iteration: int) -> str:
    request = judged.request
    kind = "held-out" if request.split == "test" else request.split
    return title_of(judged.experiment.preset, iteration, f"{request.tasks} {kind}")
