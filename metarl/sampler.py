"""The only place where a policy meets an environment."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from metarl.protocols import Algorithm, VectorTaskEnv
from metarl.seeding import Streams
from metarl.types import Adapted, EnvSpec, Tasks, Trajectories


def collect(
    env: VectorTaskEnv,
    tasks: Tasks,
    agent: Algorithm,
    adapted: Adapted,
    episodes: int,
    streams: Streams,
) -> tuple[Trajectories, Adapted]:
    """Run one round: E episodes of each of K tasks, all copies together.

    Returns:
        The round, and what the agent knows after it (changed only by agents with memory).

    Raises:
        FloatingPointError: the environment returned an observation or reward that is not finite.
    """
    spec, num_tasks = env.spec, len(tasks.task_id)
    obs = env.reset(tasks, episodes, streams.at("env"))
    noise = action_noise(spec, num_tasks, episodes, streams)
    running = torch.ones(num_tasks, episodes, dtype=torch.bool, device=obs.device)
    faulty = torch.zeros_like(running)
    seen, actions, log_probs, rewards, ends, masks = [obs], [], [], [], [], []
    with torch.no_grad(), _leave_cores_to(env):
        for time in range(spec.horizon):
            acted = agent.act(adapted, obs, noise[:, :, time])
            adapted = acted.adapted
            step = env.step(acted.action, running)
            faulty |= step.faulty
            valid = running & ~step.faulty
            ended = step.terminated & valid
            seen.append(step.obs)
            actions.append(acted.action)
            log_probs.append(acted.log_prob)
            rewards.append(torch.where(valid, step.reward, 0.0))
            ends.append(ended)
            masks.append(valid)
            obs, running = step.obs, valid & ~ended
    batch = Trajectories(
        task_id=tasks.task_id.to(obs.device),
        obs=torch.stack(seen, 2),
        action=torch.stack(actions, 2),
        log_prob=torch.stack(log_probs, 2),
        reward=torch.stack(rewards, 2),
        terminated=torch.stack(ends, 2),
        mask=torch.stack(masks, 2),
        faulty=faulty,
    )
    _refuse_non_finite(spec.name, batch)
    return batch, adapted


def adaptation_rounds(
    env: VectorTaskEnv,
    tasks: Tasks,
    agent: Algorithm,
    episodes: int,
    adaptations: int,
    streams: Streams,
) -> Iterator[tuple[Trajectories, Adapted]]:
    """Meet K tasks, knowing nothing, and alternate between exploring and adapting.

    Yields:
        N + 1 rounds for N adaptations, each with what the agent knew at its end; round i comes
        after i adaptations. Training and meta-testing both go this way.
    """
    adapted = agent.begin(len(tasks.task_id), episodes)
    for number in range(adaptations + 1):
        batch, adapted = collect(env, tasks, agent, adapted, episodes, streams.at("round", number))
        yield batch, adapted
        if number < adaptations:
            with torch.no_grad():
                adapted = agent.adapt(adapted, batch)


def action_noise(spec: EnvSpec, num_tasks: int, episodes: int, streams: Streams) -> Tensor:
    """Draw a round's noise: normal [K, E, T, A], or uniform [K, E, T] for discrete actions."""
    if spec.discrete:
        return streams.uniform("action", num_tasks, (episodes, spec.horizon))
    return streams.normal("action", num_tasks, (episodes, spec.horizon, spec.action_size))


def scores(batch: Trajectories, spec: EnvSpec) -> Tensor:
    """Score each task's round as its field does: [K], undiscounted, over every started episode.

    The mean return of the E episodes, or their total where ``spec.score_is_total``.
    """
    returns = batch.reward.sum(-1)
    return returns.sum(-1) if spec.score_is_total else returns.mean(-1)


@contextmanager
def _leave_cores_to(env: VectorTaskEnv) -> Iterator[None]:
    """Keep torch to one thread while the environment steps on threads of its own.

    Torch's idle threads spin for a while after every operation, on cores that the physics needs.
    """
    threads = torch.get_num_threads()
    if env.threads > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _refuse_non_finite(name: str, batch: Trajectories) -> None:
    for field in ("obs", "reward"):
        values: Tensor = getattr(batch, field)
        if torch.isfinite(values).all():
            continue
        task, episode, time = (~torch.isfinite(values)).nonzero()[0, :3].tolist()
        raise FloatingPointError(
            f"{name}: {field} is not finite in task {task}, episode {episode}, step {time}"
        )
