"""Scoring a run on held-out tasks, beside the floors that it must clear: docs/evaluation.md."""

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from metarl import agents
from metarl.agents.references import RandomConfig
from metarl.checkpoint import Checkpoint, latest_checkpoint
from metarl.checks import (
    COUNT,
    COUNT_OR_ZERO,
    InputError,
    check_fields,
    fault_in_choice,
    unknown,
)
from metarl.evaluation import AdaptationCurve, EvaluationConfig, adaptation_curve
from metarl.experiments.experiment import Experiment, Parts, build, from_dict
from metarl.protocols import Adapter, Algorithm, HasMemory, VectorTaskEnv
from metarl.runs import Config, read_config
from metarl.seeding import Streams
from metarl.statistics import CurveSummary, FloatArray, summarise_curve
from metarl.types import Tasks

EVALUATION_STREAMS = Streams(seed=0, path=("evaluation",))
"""The same for every run, so that agents meet the same starts and the same noise."""

TOTAL = "total reward of a round"
"""The label of scores that add up the episodes of a round."""
MEAN = "mean return of an episode"
"""The label of all others."""
_ADAPTATIONS = 3
_COPIES_AT_ONCE = 20_000

Protocol: TypeAlias = Literal["standard", "meta-world"]
_EXPLORED, _SCORED = 10, 3
"""Meta-World: episodes of a task before the agent is judged, and those that it is judged by."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """Which held-out tasks, how many, and how they are explored."""

    adaptations: int
    """Adaptation steps on each task."""
    tasks: int = 40
    """Held-out tasks; all of them where the list is shorter."""
    split: str = "test"
    """Name of the held-out list."""
    shots: int | None = None
    """Episodes for each adaptation; None for as many as in training."""
    protocol: Protocol = "standard"
    """What is explored, and what is scored."""

    def __post_init__(self) -> None:
        shots = {} if self.shots is None else {"shots": COUNT}
        check_fields(
            self,
            {"adaptations": COUNT_OR_ZERO, "tasks": COUNT} | shots,
            fault_in_choice(self, "protocol", typing.get_args(Protocol)),
        )

    @property
    def suffix(self) -> str:
        """What tells its files from those of the standard protocol; nothing for that one."""
        apart = {
            self.split: self.split != "test",
            f"shots{self.shots}": self.shots is not None,
            self.protocol: self.protocol != "standard",
        }
        return "".join(f"_{name}" for name, differs in apart.items() if differs)


class Curve(NamedTuple):
    """Scores of one agent on every task after every adaptation, and their summary."""

    per_task: Tensor
    """[K, N + 1]."""
    summary: CurveSummary
    episodes: tuple[int, ...]
    """[N + 1]: episodes of a task that the agent has learned from before each round."""
    played: AdaptationCurve | None = None
    """All that was counted, where the evaluator has played it."""


class Judged(NamedTuple):
    """A run that is evaluated, and how."""

    experiment: Experiment
    parts: Parts
    request: EvaluationRequest

    def tasks(self) -> Tasks:
        """Return the tasks that it is evaluated on."""
        return self.parts.distribution.held_out(self.request.tasks, self.request.split)

    def config(self, like: Adapter) -> EvaluationConfig:
        """Return how agents are evaluated that have a memory, or none, as ``like`` has."""
        return _config(self.experiment, self.request, isinstance(like, HasMemory))

    def score(self, agent: Adapter, config: EvaluationConfig) -> Curve:
        """Score an agent on these tasks."""
        return _play(agent, self.parts.env, self.tasks(), config, self.experiment.device)


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
    """Score any agent on given tasks by the standard protocol.

    Floors without memory are scored as what stands above them, the agent in ``parts``.
    """
    judged = Judged(experiment, parts, EvaluationRequest(adaptations=adaptations))
    config = judged.config(parts.agent)
    return _play(agent, parts.env, tasks, config, experiment.device)


def _config(experiment: Experiment, request: EvaluationRequest, memory: bool) -> EvaluationConfig:
    episodes = request.shots or experiment.episodes
    if request.protocol == "standard":
        return EvaluationConfig(
            episodes=episodes,
            adaptations=request.adaptations,
            tasks_at_once=max(1, _COPIES_AT_ONCE // episodes),
            separate_trials=memory,
            # Those of several numbers of shots stand in one figure.
            score_is_mean=request.shots is not None,
        )
    if memory:
        # Each copy is a trial: ten episodes, and the one that follows is scored.
        return EvaluationConfig(
            episodes=_SCORED,
            adaptations=_EXPLORED,
            tasks_at_once=_COPIES_AT_ONCE // _SCORED,
            separate_trials=True,
        )
    return EvaluationConfig(
        episodes=_EXPLORED,
        adaptations=1,
        last_episodes=_SCORED,
        tasks_at_once=_COPIES_AT_ONCE // _EXPLORED,
        score_is_mean=True,
    )


def _play(
    agent: Adapter, env: VectorTaskEnv, tasks: Tasks, config: EvaluationConfig, device: str
) -> Curve:
    streams = EVALUATION_STREAMS._replace(device=device)
    played = adaptation_curve(agent, env, tasks, config, streams)
    return curve_of(played.score, learned_from(config))._replace(played=played)


def curve_of(per_task: Tensor, episodes: Sequence[int]) -> Curve:
    """Summarise scores [K, N + 1], before each of which so many ``episodes`` were learned from."""
    summary = summarise_curve(per_task.double().numpy()[None], np.random.default_rng(0))
    return Curve(per_task, summary, tuple(episodes))


def learned_from(config: EvaluationConfig) -> tuple[int, ...]:
    """Return how many episodes of a task an agent has learned from before each round [N + 1]."""
    return tuple(accumulate((0, *config.in_sight)))[:-1]


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
    judged = Judged(experiment, parts, request)
    config = judged.config(parts.agent)
    return {name: judged.score(agent, config) for name, agent in competitors.items()}


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


def score_label(parts: Parts, request: EvaluationRequest | None = None) -> str:
    """Say what a score is; by the standard protocol where no other is given."""
    as_trained = request is None or (request.protocol == "standard" and request.shots is None)
    total = parts.env.spec.score_is_total and not isinstance(parts.agent, HasMemory)
    return TOTAL if total and as_trained else MEAN


def request_for(
    experiment: Experiment,
    parts: Parts,
    adaptations: int | None = None,
    tasks: int | None = None,
    split: str = "test",
    protocol: Protocol = "standard",
) -> EvaluationRequest:
    """Ask for no more tasks than the held-out list has, and as far as is not said otherwise.

    An agent with memory goes through the trial that it was trained for; others adapt three times.
    Meta-World's protocol says itself how far.

    Raises:
        InputError: there is no such list.
    """
    lists = parts.distribution.held_out_lists
    if split not in lists:
        raise InputError([unknown(f"held-out tasks of {parts.env.spec.name}", split, lists)])
    memory = isinstance(parts.agent, HasMemory)
    if protocol == "meta-world":
        adaptations = _EXPLORED if memory else 1
    elif adaptations is None:
        adaptations = experiment.adaptations if memory else _ADAPTATIONS
    asked, available = EvaluationRequest.tasks if tasks is None else tasks, lists[split]
    return EvaluationRequest(
        adaptations=adaptations,
        tasks=asked if available is None else min(asked, available),
        split=split,
        protocol=protocol,
    )
