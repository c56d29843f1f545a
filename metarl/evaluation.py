"""Adaptation curves on held-out tasks: the one evaluator of every agent."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.checks import COUNT, COUNT_OR_ZERO, check_fields
from metarl.protocols import Adapter, VectorTaskEnv
from metarl.sampler import adaptation_rounds, scores
from metarl.seeding import Streams
from metarl.trials import previous
from metarl.types import EnvSpec, Tasks, Trajectories


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How each held-out task is explored."""

    episodes: int
    """E, episodes of each task in each round."""
    adaptations: int
    """N, adaptation steps."""
    last_episodes: int | None = None
    """E of the last round, after the last adaptation, where it is another."""
    tasks_at_once: int = 40
    """Blocks of this many tasks bound the memory; results do not depend on it."""
    separate_trials: bool = False
    """Whether a task's E episodes are those of separate trials (``HasMemory``)."""
    score_is_mean: bool = False
    """Whether a round scores by the mean return of its episodes also where the field adds them up:
    for rounds of different numbers of episodes."""

    def __post_init__(self) -> None:
        last = {} if self.last_episodes is None else {"last_episodes": COUNT}
        check_fields(
            self,
            {"episodes": COUNT, "adaptations": COUNT_OR_ZERO, "tasks_at_once": COUNT} | last,
            "EvaluationConfig.last_episodes: separate trials go through all rounds"
            if last and self.separate_trials
            else None,
        )

    @property
    def rounds(self) -> tuple[int, ...]:
        """E of each of the N + 1 rounds."""
        last = self.episodes if self.last_episodes is None else self.last_episodes
        return (self.episodes,) * self.adaptations + (last,)

    @property
    def in_sight(self) -> tuple[int, ...]:
        """Of each round, how many episodes the next adaptation, or a trial's memory, learns from.

        E; but 1 for separate trials, none of which knows another.
        """
        return (1,) * (self.adaptations + 1) if self.separate_trials else self.rounds


class AdaptationCurve(NamedTuple):
    """What an agent does in each of K tasks after 0, 1, ..., N adaptations; [K, N + 1] each."""

    score: Tensor
    """As ``sampler.scores`` defines it."""
    env_steps: Tensor
    """Steps of the environment in the task so far, before the round that is scored: those of all E
    copies, or the mean over separate trials. Steps that count are those under the mask."""
    success: Tensor
    """Share of the round's episodes that were at the goal after any of their steps; NaN where the
    environment knows no goal."""
    faulty: Tensor
    """The round's episodes in which the simulator failed. They are scored by what they had earned
    until then."""


def adaptation_curve(
    agent: Adapter,
    env: VectorTaskEnv,
    tasks: Tasks,
    config: EvaluationConfig,
    streams: Streams,
) -> AdaptationCurve:
    """Score an agent on each task after 0, 1, ..., N adaptations, starting each task from nothing.

    Every task is explored with E episodes, which give the score after i adaptations and, as in
    training, the data of adaptation i + 1. The policy that a score belongs to was thus never fitted
    to the episodes that are scored. Every started episode counts. Only ``begin``, ``act``,
    ``adapt`` and ``remember`` of the agent are called. Of an agent with memory it is the score of
    each episode in the trial.

    Returns:
        The curve, on the CPU.
    """
    starts = range(0, len(tasks.task_id), config.tasks_at_once)
    blocks = [
        _curve_of_block(
            agent,
            env,
            tasks.take(slice(first, first + config.tasks_at_once)),
            config,
            streams.from_task(first),
        )
        for first in starts
    ]
    return AdaptationCurve(*map(torch.cat, zip(*blocks, strict=True)))


def _curve_of_block(
    agent: Adapter,
    env: VectorTaskEnv,
    tasks: Tasks,
    config: EvaluationConfig,
    streams: Streams,
) -> AdaptationCurve:
    rounds = adaptation_rounds(env, tasks, agent, config.rounds, config.adaptations, streams)
    columns = [_column(batch, env.spec, config) for batch, _ in rounds]
    curve = AdaptationCurve(*(torch.stack(leaves, 1) for leaves in zip(*columns, strict=True)))
    return curve._replace(env_steps=previous(curve.env_steps.cumsum(1)))


def _column(batch: Trajectories, spec: EnvSpec, config: EvaluationConfig) -> AdaptationCurve:
    """Return what one round says, [K] each; ``env_steps`` are those of the round."""
    mean = config.separate_trials or config.score_is_mean
    success = batch.success.double().masked_fill(batch.success < 0, torch.nan)
    steps = batch.mask.sum(-1).double()
    column = AdaptationCurve(
        score=scores(batch, spec, separate_trials=mean),
        env_steps=steps.mean(-1) if config.separate_trials else steps.sum(-1),
        success=success.mean(-1),
        faulty=batch.faulty.sum(-1),
    )
    return AdaptationCurve(*(leaf.cpu() for leaf in column))
