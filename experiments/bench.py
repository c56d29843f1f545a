"""Benchmarks: a table for people, or one JSON object; medians over repeated rounds."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from metarl.envs.physics import HasPhysics
from metarl.experiments.experiment import Experiment, build
from metarl.protocols import VectorTaskEnv
from metarl.sampler import action_noise, collect
from metarl.seeding import Streams
from metarl.trainer import meta_train
from metarl.types import Tasks

_ROUNDS = 5


def bench_sampling(experiment: Experiment) -> dict[str, float]:
    """Time rounds with the policy beside the same steps without it, in turn, in one run.

    "Raw physics" is the bare batch of MuJoCo copies under random controls; for environments made of
    tensors it is the environment's own step under random actions.
    """
    parts = build(experiment)
    num_tasks, episodes = experiment.tasks_per_update, experiment.episodes
    streams = Streams(0, ("bench",), device=experiment.device)
    tasks = parts.distribution.sample(num_tasks, streams)
    steps = num_tasks * episodes * parts.env.spec.horizon
    adapted = parts.agent.begin(num_tasks, episodes)
    raw = _raw_stepping(parts.env, tasks, episodes, streams)

    def sample() -> None:
        collect(parts.env, tasks, parts.agent, adapted, episodes, streams)

    sample()
    raw()
    pairs = [(_seconds(sample), _seconds(raw)) for _ in range(_ROUNDS)]
    with_policy, without = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "env_steps_per_s": steps / with_policy,
        "raw_physics_steps_per_s": steps / without,
        "ratio": statistics.median(bare / full for full, bare in pairs),
        "threads": parts.env.threads,
    }


def bench_iteration(experiment: Experiment) -> dict[str, float]:
    """Time whole meta-iterations: sampling and update."""
    parts = build(experiment)
    results = list(
        meta_train(
            parts.agent,
            parts.env,
            parts.distribution,
            replace(experiment, iterations=_ROUNDS + 1),
            Streams(0, ("bench",), device=experiment.device),
        )
    )[1:]
    sampling = [result.metrics["time/sampling_s"] for result in results]
    update = [result.metrics["time/update_s"] for result in results]
    total = [a + b for a, b in zip(sampling, update, strict=True)]
    return {
        "seconds_per_iteration": statistics.median(total),
        "sampling_s": statistics.median(sampling),
        "update_s": statistics.median(update),
        "env_steps_per_s": statistics.median(result.metrics["time/fps"] for result in results),
    }


def _raw_stepping(
    env: VectorTaskEnv, tasks: Tasks, episodes: int, streams: Streams
) -> Callable[[], None]:
    """Return a function that takes a round's steps without any policy, from a fresh start."""
    spec = env.spec
    num_tasks = len(tasks.task_id)

    if isinstance(env, HasPhysics):

        def step_physics() -> None:
            physics = env.physics
            for time_step in range(spec.horizon):
                physics.ctrl[:] = controls[time_step]
                physics.step()

        env.reset(tasks, episodes, streams)
        shape = (spec.horizon, *env.physics.ctrl.shape)
        controls = np.random.default_rng(0).uniform(-1.0, 1.0, shape)
        return step_physics

    noise = action_noise(spec, num_tasks, episodes, streams)
    actions = (noise * spec.action_size).long() if spec.discrete else noise
    running = torch.ones(num_tasks, episodes, dtype=torch.bool, device=streams.device)

    def step_env() -> None:
        env.reset(tasks, episodes, streams)
        for time_step in range(spec.horizon):
            env.step(actions[:, :, time_step], running)

    return step_env


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


BENCHMARKS: dict[str, Callable[[Experiment], dict[str, float]]] = {
    "sampling": bench_sampling,
    "iteration": bench_iteration,
}
