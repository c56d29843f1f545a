"""Evaluation of a run on held-out tasks, beside the floors that it must clear."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from metarl import agents
from metarl.agents.references import RandomConfig
from metarl.checkpoint import Checkpoint, latest_checkpoint, write_json
from metarl.checks import COUNT, COUNT_OR_ZERO, InputError, check_fields
from metarl.evaluation import EvaluationConfig, adaptation_curve
from metarl.experiments.experiment import Experiment, Parts, build, from_dict
from metarl.experiments.figures import adaptation_figure
from metarl.protocols import Algorithm, HasMemory
from metarl.runs import Config, read_config, system_facts
from metarl.seeding import Streams
from metarl.statistics import CurveSummary, FloatArray, summarise_curve
from metarl.types import Tasks

EVALUATION_STREAMS = Streams(seed=0, path=("evaluation",))
"""The same for every run, so that agents meet the same starts and the same noise."""

TOTAL = "total reward of a round"
"""The label of scores that add up the episodes of a round."""
_ADAPTATIONS = 3


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """How much of the held-out tasks, and how far."""

    adaptations: int
    """Adaptation steps on each task."""
    tasks: int = 40
    """Held-out tasks; all of them where the list is shorter."""

    def __post_init__(self) -> None:
        check_fields(self, {"adaptations": COUNT_OR_ZERO, "tasks": COUNT})


class Curve(NamedTuple):
    """Scores of one agent on every task after every adaptation, and their summary."""

    per_task: Tensor
    """[K, N + 1]."""
    summary: CurveSummary


def load_run(
    folder: Path, place: str, machine: Config, warn: Console
) -> tuple[Experiment, Parts, Checkpoint]:
    """Rebuild a run's experiment and its agent from the newest good checkpoint.

    Args:
        folder: of the run.
        place: ``checkpoints``, or ``best`` for the best weights in validation.
        machine: fields of the experiment that follow from where it is evaluated.
        warn: told of every broken checkpoint on the way.

    Raises:
        ValueError: the folder holds no run, or no good checkpoint.
    """
    experiment = from_dict(read_config(folder) | machine, folder / "config.yaml")
    checkpoint = latest_checkpoint(folder / place, lambda text: warn.print(f"warning: {text}"))
    if checkpoint is None:
        raise InputError([f"{folder} holds no weights in {place}/"])
    parts = build(experiment)
    parts.agent.load_state_dict(checkpoint.tensors)
    return experiment, parts, checkpoint


def evaluate(
    experiment: Experiment, parts: Parts, agent: Algorithm, tasks: Tasks, adaptations: int
) -> Curve:
    """Score any agent on given tasks, with an experiment's number of episodes."""
    config = EvaluationConfig(
        episodes=experiment.episodes,
        adaptations=adaptations,
        tasks_at_once=max(1, 20_000 // experiment.episodes),
        # Floors without memory are scored as what stands above them.
        separate_trials=isinstance(parts.agent, HasMemory),
    )
    streams = EVALUATION_STREAMS._replace(device=experiment.device)
    return curve_of(adaptation_curve(agent, parts.env, tasks, config, streams))


def curve_of(per_task: Tensor) -> Curve:
    """Summarise scores [K, N + 1]."""
    summary = summarise_curve(per_task.double().numpy()[None], np.random.default_rng(0))
    return Curve(per_task, summary)


def evaluate_beside_floors(
    experiment: Experiment, parts: Parts, request: EvaluationRequest
) -> dict[str, Curve]:
    """Score an agent and what learned nothing on the held-out tasks.

    The floors are random actions, and fresh weights under the same adaptation.
    """
    spec, device = parts.env.spec, experiment.device
    competitors = {
        experiment.preset: parts.agent,
        "random policy": agents.build("random", spec, RandomConfig(), device=device),
        "untrained, adapted": agents.build(
            agents.name_of(experiment.agent),
            spec,
            experiment.agent,
            seed=experiment.seed,
            device=device,
        ),
    }
    tasks = parts.distribution.held_out(request.tasks)
    return {
        name: evaluate(experiment, parts, agent, tasks, request.adaptations)
        for name, agent in competitors.items()
    }


def as_json(experiment: Experiment, iteration: int, curve: Curve) -> dict[str, object]:
    """Return a curve as the object that ``metarl evaluate --json`` prints."""
    summary = curve.summary
    return {
        "preset": experiment.preset,
        "iteration": iteration,
        "adaptations": list(range(curve.per_task.shape[1])),
        "mean": list(summary.mean),
        "iqm": list(summary.iqm),
        "ci_low": list(summary.ci_low),
        "ci_high": list(summary.ci_high),
        "per_task": curve.per_task.tolist(),
    }


def report(
    experiment: Experiment,
    parts: Parts,
    iteration: int,
    request: EvaluationRequest,
    folder: Path,
    references: dict[str, Curve],
) -> tuple[dict[str, Curve], Path]:
    """Evaluate an agent beside its floors and given references; leave JSON and a PNG in a folder.

    Returns:
        All curves, that of the agent first; and the place of the PNG.
    """
    curves = evaluate_beside_floors(experiment, parts, request) | references
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{iteration:06d}_tasks{request.tasks}_adaptations{request.adaptations}"
    content = as_json(experiment, iteration, curves[experiment.preset]) | {
        "episodes": experiment.episodes,
        "score": score_label(parts),
        "interval": "95% bootstrap of the IQM over tasks, each with episodes of its own",
        "distinct_tasks": distinct_tasks(parts.distribution.held_out(request.tasks)),
        "system": system_facts(),
        "references": summaries_of(curves, experiment.preset),
    }
    write_json(stem.with_suffix(".json"), content)
    picture = stem.with_suffix(".png")
    title = f"{experiment.preset}, {iteration} meta-iterations, {request.tasks} held-out tasks"
    summaries = {name: curve.summary for name, curve in curves.items()}
    adaptation_figure(picture, title, summaries, score_label(parts))
    return curves, picture


def summaries_of(curves: Mapping[str, Curve], but: str = "") -> dict[str, object]:
    """Return what is kept as JSON of curves by name, all but one."""
    return {name: curve.summary._asdict() for name, curve in curves.items() if name != but}


def print_curves(curves: dict[str, Curve], parts: Parts, console: Console) -> None:
    """Print adaptation curves as a table: mean, and IQM with its interval."""
    table = Table(title=f"{score_label(parts)} on held-out tasks, after n adaptation steps")
    table.add_column("agent")
    table.add_column("n", justify="right")
    table.add_column("mean", justify="right")
    table.add_column("IQM [95% interval over tasks]", justify="right")
    for name, curve in curves.items():
        rows = zip(*curve.summary, strict=True)
        for number, (mean, iqm, low, high) in enumerate(rows):
            label = name if number == 0 else ""
            table.add_row(label, str(number), f"{mean:.2f}", f"{iqm:.2f} [{low:.2f}, {high:.2f}]")
        table.add_section()
    console.print(table)


def score_table(rows: Sequence[Sequence[float]]) -> FloatArray:
    """Return stored scores as an array [K, N + 1].

    Raises:
        InputError: there is none, or rows differ in length.
    """
    try:
        table = np.array(rows, dtype=np.float64)
    except (ValueError, OverflowError) as error:
        raise InputError([f"scores make no table: {error}"]) from None
    if table.ndim != 2 or not table.size:
        raise InputError(["no scores"])
    return table


def distinct_tasks(tasks: Tasks) -> int:
    """Count the tasks that differ: a list may hold one again, with episodes of its own."""
    rows = [leaf.reshape(len(leaf), -1) for leaf in tasks.parameter.values()]
    return len(torch.unique(torch.cat(rows, 1), dim=0))


def score_label(parts: Parts) -> str:
    """Say what a score is."""
    total = parts.env.spec.score_is_total and not isinstance(parts.agent, HasMemory)
    return TOTAL if total else "mean return of an episode"


def request_for(
    experiment: Experiment, parts: Parts, adaptations: int | None = None, tasks: int | None = None
) -> EvaluationRequest:
    """Ask for no more tasks than the held-out list has, and as far as is not said otherwise.

    An agent with memory goes through the trial that it was trained for; others adapt three times.
    """
    usual = experiment.adaptations if isinstance(parts.agent, HasMemory) else _ADAPTATIONS
    request = EvaluationRequest(adaptations=usual if adaptations is None else adaptations)
    asked = request.tasks if tasks is None else tasks
    available = parts.distribution.held_out_lists["test"]
    return replace(request, tasks=asked if available is None else min(asked, available))
