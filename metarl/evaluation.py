"""Adaptation curves on held-out tasks: the one evaluator of every agent."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.checks import COUNT, COUNT_OR_ZERO, check_fields
from metarl.protocols import Adapter, VectorTaskEnv
from metarl.sampler import adaptation_rounds, scores
from metarl.seeding import Streams
from metarl.types import Tasks


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How each held-out task is explored."""

    episodes: int
    """E, episodes of each task in each round."""
    adaptations: int
    """N, adaptation steps."""
    tasks_at_once: int = 40
    """Blocks of this many tasks bound the memory; results do not depend on it."""
    separate_trials: bool = False
    """Whether a task's E episodes are scored as those of separate trials (``HasMemory``)."""

    def __post_init__(self) -> None:
        check_fields(
            self, {"episodes": COUNT, "adaptations": COUNT_OR_ZERO, "tasks_at_once": COUNT}
        )


def adaptation_curve(
    agent: Adapter,
    env: VectorTaskEnv,
    tasks: Tasks,
    config: EvaluationConfig,
    streams: Streams,
) -> Tensor:
    """Score an agent on each task after 0, 1, ..., N adaptations, starting each task from nothing.

    Every task is explored with E episodes, which give the score after i adaptations and, as in
    training, the data of adaptation i + 1. The policy that a score belongs to was thus never fitted
    to the episodes that are scored. Every started episode counts. Only ``begin``, ``act``,
    ``adapt`` and ``remember`` of the agent are called. Of an agent with memory it is the score of
    each episode in the trial.

    Returns:
        Scores [K, N + 1] on the CPU, as ``sampler.scores`` defines them.
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
    return torch.cat(blocks)


def _curve_of_block(
    agent: Adapter,
    env: VectorTaskEnv,
    tasks: Tasks,
    config: EvaluationConfig,
    streams: Streams,
) -> Tensor:
    rounds = adaptation_rounds(env, tasks, agent, config.episodes, config.adaptations, streams)
    columns = [
        scores(batch, env.spec, separate_trials=config.separate_trials).cpu() for batch, _ in rounds
    ]
    return torch.stack(columns, 1)
