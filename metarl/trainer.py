"""The meta-iteration: tasks are drawn, explored, adapted to, and learned from."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

from metarl.checks import COUNT, COUNT_OR_ZERO, check_fields
from metarl.processes import ALONE, Processes, processes_of
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
                "adaptations": COUNT_OR_ZERO,
            },
        )


class Iteration(NamedTuple):
    """What one meta-iteration reports."""

    number: int
    """Counted from 1: the number of meta-updates so far."""
    env_steps: int
    """Steps taken in this iteration by all copies of all processes, in all rounds."""
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

    Several processes run this side by side with agents built for them (``agents.build``): each
    meets its share of the tasks, with the numbers that one process would draw for them, and all
    report the same.
    """
    processes = processes_of(agent)
    mine = processes.share(config.tasks_per_update)
    for number in range(start, config.iterations):
        began = time.perf_counter()
        here = streams.at("train", number)
        tasks = distribution.sample(config.tasks_per_update, here.at("tasks"))
        share, streams_here = tasks.take(mine), here.from_task(mine.start)
        rounds = [
            batch
            for batch, _ in adaptation_rounds(
                env, share, agent, config.episodes, config.adaptations, streams_here
            )
        ]
        sampled = time.perf_counter()
        metrics = agent.meta_update(rounds)
        ended = time.perf_counter()
        summary, env_steps = describe(rounds, env.spec, processes)
        clock = {
            "time/sampling_s": sampled - began,
            "time/update_s": ended - sampled,
            "time/fps": env_steps / (ended - began),
        }
        yield Iteration(number + 1, env_steps, summary | metrics | clock)


def describe(
    rounds: list[Trajectories], spec: EnvSpec, processes: Processes = ALONE
) -> tuple[Metrics, int]:
    """Summarise the rounds of one meta-iteration, over the tasks of all processes.

    Returns:
        Means over tasks and episodes, with the names that SB3's users know; and the env steps.
    """
    first, last = rounds[0], rounds[-1]
    num_tasks, episodes = last.faulty.shape
    sums = [scores(batch, spec).double().sum() for batch in (first, last)]
    sums += [last.reward.double().sum() / episodes, last.mask.double().sum() / episodes]
    sums += [torch.cat([batch.faulty for batch in rounds]).double().sum()]
    sums += [torch.cat([batch.mask for batch in rounds]).double().sum()]
    counted = torch.stack([*sums, sums[0].new_tensor(num_tasks)])
    before, after, reward, length, faulty, env_steps, tasks = processes.total(counted).tolist()
    summary = {
        "meta/pre_return": before / tasks,
        "meta/post_return": after / tasks,
        "meta/gain": (after - before) / tasks,
        "rollout/ep_rew_mean": reward / tasks,
        "rollout/ep_len_mean": length / tasks,
        "rollout/faulty_episodes": faulty,
    }
    return summary, int(env_steps)
