"""The meta-iteration: tasks are drawn, explored, adapted to, and learned from."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from metarl.checks import COUNT, check_fields
from metarl.protocols import Algorithm, TaskDistribution, VectorTaskEnv
from metarl.sampler import adaptation_rounds, scores
from metarl.seeding import Streams
from metarl.types import EnvSpec, Metrics, Trajectories


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How much is collected for each meta-update, and how many there are."""

    iterations: int = 300
    """Meta-iterations in all."""
    tasks_per_update: int = 40
    """K, tasks drawn for each meta-update."""
    episodes: int = 20
    """E, episodes of each task in each round."""
    adaptations: int = 1
    """Adaptation steps in training; each needs a round of its own, and the result is another."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            {
                "iterations": COUNT,
                "tasks_per_update": COUNT,
                "episodes": COUNT,
                "adaptations": COUNT,
            },
        )


class Iteration(NamedTuple):
    """What one meta-iteration reports."""

    number: int
    """Counted from 1: the number of meta-updates so far."""
    env_steps: int
    """Steps taken in this iteration by all copies, in all rounds."""
    metrics: Metrics


def meta_train(
    agent: Algorithm,
    env: VectorTaskEnv,
    distribution: TaskDistribution,
    config: TrainConfig,
    streams: Streams,
    *,
    start: int = 0,
) -> Iterator[Iteration]:
    """Train from meta-iteration ``start`` on, one meta-update for each item that is asked for.

    Everything random is a function of ``streams`` and the iteration, so training that is broken off
    after n items goes on from the agent's state with ``start = n`` as if nothing had happened.
    """
    for number in range(start, config.iterations):
        began = time.perf_counter()
        here = streams.at("train", number)
        tasks = distribution.sample(config.tasks_per_update, here.at("tasks"))
        rounds = [
            batch
            for batch, _ in adaptation_rounds(
                env, tasks, agent, config.episodes, config.adaptations, here
            )
        ]
        sampled = time.perf_counter()
        metrics = agent.meta_update(rounds)
        ended = time.perf_counter()
        env_steps = int(sum(batch.mask.sum() for batch in rounds))
        clock = {
            "time/sampling_s": sampled - began,
            "time/update_s": ended - sampled,
            "time/fps": env_steps / (ended - began),
        }
        yield Iteration(number + 1, env_steps, describe(rounds, env.spec) | metrics | clock)


def describe(rounds: list[Trajectories], spec: EnvSpec) -> Metrics:
    """Summarise the rounds of one meta-iteration, with the names that SB3's users know."""
    last = rounds[-1]
    before, after = (float(scores(batch, spec).mean()) for batch in (rounds[0], last))
    return {
        "meta/pre_return": before,
        "meta/post_return": after,
        "meta/gain": after - before,
        "rollout/ep_rew_mean": float(last.reward.sum(-1).mean()),
        "rollout/ep_len_mean": float(last.mask.sum(-1).float().mean()),
        "rollout/faulty_episodes": float(sum(batch.faulty.sum() for batch in rounds)),
    }
