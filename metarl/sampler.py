"""The only place where a policy meets an environment."""

import itertools
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from metarl.parallel import one_torch_thread
from metarl.protocols import Adapter, HasLanes, HasMemory, VectorTaskEnv
from metarl.seeding import Streams
from metarl.types import Adapted, EnvSpec, Outcome, Tasks, Trajectories

_COPIES_FOR_ALL_THREADS = 1024


def collect(
    env: VectorTaskEnv,
    tasks: Tasks,
    agent: Adapter,
    adapted: Adapted,
    episodes: int,
    streams: Streams,
) -> tuple[Trajectories, Adapted]:
    """Run one round: E episodes of each of K tasks, all copies together.

    Nothing depends on how tasks are shared out among an environment's lanes.

    Returns:
        The round, and what the agent knows after it (changed only by agents with memory).

    Raises:
        FloatingPointError: the environment returned an observation or reward that is not finite,
            or the policy an action; the message names task, episode and step.
    """
    num_tasks = len(tasks.task_id)
    lanes = _lanes(env, num_tasks)
    number = max(1, len(lanes))
    starts = [num_tasks * lane // number for lane in range(number + 1)]
    rounds = [
        _round(
            lane or env,
            agent,
            _Share(
                tasks.take(slice(start, end)),
                {name: leaf[start:end] for name, leaf in adapted.items()},
                episodes,
                streams.from_task(start),
            ),
            lane,
        )
        for lane, (start, end) in zip(lanes or (None,), itertools.pairwise(starts), strict=True)
    ]
    # Where an environment steps on threads of its own, torch's would fight them for the cores; and
    # few copies make operations so short that threads within them only wait for one another.
    alone = env.threads > 1 or num_tasks * episodes < _COPIES_FOR_ALL_THREADS
    with torch.no_grad(), one_torch_thread(when=alone):
        parts = _in_turn(rounds)
    batch = Trajectories(*map(_join, zip(*(part for part, _ in parts), strict=True)))
    _refuse_non_finite(env.spec.name, batch)
    return batch, {name: _join([after[name] for _, after in parts]) for name in parts[0][1]}


def collect_in_turn(
    env: VectorTaskEnv,
    tasks: Tasks,
    agent: Adapter,
    adapted: Adapted,
    episodes: int,
    streams: Streams,
) -> tuple[Trajectories, Adapted]:
    """Run one round as ``collect`` does, one episode of each task after the other.

    For what exists only once, such as a robot: ``env`` sees rounds of one episode. An agent with
    memory takes it from each episode to the next.
    """
    batches = []
    for episode in range(episodes):
        batch, adapted = collect(env, tasks, agent, adapted, 1, streams.at("episode", episode))
        batches.append(batch)
    task_id, *columns = zip(*batches, strict=True)
    return Trajectories(task_id[0], *(torch.cat(column, 1) for column in columns)), adapted


class _Share(NamedTuple):
    """What one environment's part of a round is about."""

    tasks: Tasks
    adapted: Adapted
    episodes: int
    streams: Streams


_Round: TypeAlias = Generator[None, None, tuple[Trajectories, Adapted]]
"""A round under way: where others run beside it, it pauses while its environment steps."""


def _lanes(env: VectorTaskEnv, num_tasks: int) -> Sequence[HasLanes]:
    """Return the lanes that share the tasks; none where there are none, or shares were lopsided."""
    lanes = env.lanes if isinstance(env, HasLanes) else ()
    even = len(lanes) > 0 and (num_tasks % len(lanes) == 0 or num_tasks >= 8 * len(lanes))
    return lanes if even else ()


def _in_turn(rounds: Sequence[_Round]) -> list[tuple[Trajectories, Adapted]]:
    """Go through rounds side by side: while one environment steps, act in the next."""
    results: dict[int, tuple[Trajectories, Adapted]] = {}
    while len(results) < len(rounds):
        for lane, part in enumerate(rounds):
            if lane in results:
                continue
            try:
                next(part)
            except StopIteration as finished:
                results[lane] = finished.value
    return [results[lane] for lane in range(len(rounds))]


def _round(env: VectorTaskEnv, agent: Adapter, share: _Share, lane: HasLanes | None) -> _Round:
    """Go through a round; where the environment is a lane, pause while it steps."""
    tasks, adapted, episodes, streams = share
    spec, num_tasks = env.spec, len(tasks.task_id)
    obs = env.reset(tasks, episodes, streams.at("env"))
    noise = action_noise(spec, num_tasks, episodes, streams).to(obs.device)
    # For each step one contiguous [K, E, ...].
    noises = noise.transpose(0, 2).transpose(1, 2).contiguous()
    running = torch.ones(num_tasks, episodes, dtype=torch.bool, device=obs.device)
    faulty = torch.zeros_like(running)
    success = torch.full_like(running, -1, dtype=torch.int8)
    seen, steps, keeper = [obs], [], agent if isinstance(agent, HasMemory) else None
    for time in range(spec.horizon):
        if _all_over(running):
            break
        acted = agent.act(adapted, obs, noises[time])
        if lane is None:
            step = env.step(acted.action, running)
        else:
            lane.start_step(acted.action, running)
            yield
            step = lane.finish_step()
        failed = step.faulty & running
        valid = running & ~failed
        ended = step.terminated & valid
        # Where the simulator failed its observation means nothing: the last good one stays.
        obs = torch.where(valid[..., None], step.obs, obs)
        reward = torch.where(valid, step.reward, 0.0)
        seen.append(obs)
        steps.append((acted.action, acted.log_prob, reward, ended, valid))
        if step.success is not None:
            success = torch.maximum(success, (step.success & valid).to(torch.int8))
        faulty, running = faulty | failed, valid & ~ended
        over = ~running | (time + 1 == spec.horizon)
        outcome = Outcome(reward, over, valid)
        adapted = keeper.remember(adapted, acted, outcome) if keeper else acted.adapted
    action, log_prob, reward, terminated, mask = _filled_up(steps, spec.horizon)
    seen_obs = torch.stack(seen + [obs] * (spec.horizon + 1 - len(seen)), 2)
    task_id = tasks.task_id.to(obs.device)
    return Trajectories(
        task_id, seen_obs, action, log_prob, reward, terminated, mask, faulty, success
    ), adapted


def _all_over(running: Tensor) -> bool:
    """Whether no copy runs any more; asked only where the answer does not lie on a GPU."""
    return running.device.type == "cpu" and not running.any()


def _filled_up(steps: Sequence[tuple[Tensor, ...]], horizon: int) -> list[Tensor]:
    """Return the columns of steps as [K, E, T, ...], 0 where the last of them, the mask, is off.

    What is off the mask then does not depend on when the last copy of a share has ended.
    """
    never = [tuple(torch.zeros_like(leaf) for leaf in steps[0])] * (horizon - len(steps))
    columns = [torch.stack(column, 2) for column in zip(*steps, *never, strict=True)]
    off = ~columns[-1]
    return [
        column.masked_fill_(off.view(*off.shape, *[1] * (column.dim() - 3)), 0)
        for column in columns
    ]


def _join(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def adaptation_rounds(
    env: VectorTaskEnv,
    tasks: Tasks,
    agent: Adapter,
    episodes: int | Sequence[int],
    adaptations: int,
    streams: Streams,
) -> Iterator[tuple[Trajectories, Adapted]]:
    """Meet K tasks, knowing nothing, and alternate between exploring and adapting.

    ``episodes`` is E of every round, or as many numbers as there are rounds; for an agent with
    memory, whose copies live through all rounds, it is one number.

    Yields:
        N + 1 rounds for N adaptations, each with what the agent knew at its end; round i comes
        after i adaptations. Training and meta-testing both go this way.
    """
    in_round = [episodes] * (adaptations + 1) if isinstance(episodes, int) else episodes
    adapted = agent.begin(len(tasks.task_id), in_round[0])
    for number, size in zip(range(adaptations + 1), in_round, strict=True):
        batch, adapted = collect(env, tasks, agent, adapted, size, streams.at("round", number))
        yield batch, adapted
        if number < adaptations:
            with torch.no_grad():
                adapted = agent.adapt(adapted, batch)


def replay(
    env: VectorTaskEnv, tasks: Tasks, batch: Trajectories, number: int, streams: Streams
) -> Iterator[int]:
    """Go through a recorded round again by its actions, for whoever looks at the environment.

    Args:
        env: of the kind that was recorded; between two items of the iterator it is the caller's to
            look at.
        tasks: those of the round.
        batch: round ``number`` of ``adaptation_rounds``.
        number: adaptations before that round.
        streams: those that ``adaptation_rounds`` was given.

    Yields:
        The time 0, ..., T that the environment is at.

    Raises:
        RuntimeError: a running copy is not where the record has it: the environment is not
            deterministic, or other tasks or streams were recorded.
    """
    obs = env.reset(tasks, batch.mask.shape[1], streams.at("round", number, "env"))
    known = torch.ones_like(batch.mask[:, :, 0])
    for time in range(env.spec.horizon + 1):
        recorded = batch.obs[:, :, time]
        if not torch.equal(obs[known], recorded[known]):
            where = f"round {number}, time {time}"
            raise RuntimeError(f"{env.spec.name}: {where}: the replay has left its record")
        yield time
        if time < env.spec.horizon:
            known = batch.mask[:, :, time]
            obs = env.step(batch.action[:, :, time], known).obs


def action_noise(spec: EnvSpec, num_tasks: int, episodes: int, streams: Streams) -> Tensor:
    """Draw a round's noise: normal [K, E, T, A], or uniform [K, E, T] for discrete actions."""
    if spec.discrete:
        return streams.uniform("action", num_tasks, (episodes, spec.horizon))
    return streams.normal("action", num_tasks, (episodes, spec.horizon, spec.action_size))


def scores(batch: Trajectories, spec: EnvSpec, *, separate_trials: bool = False) -> Tensor:
    """Score each task's round as its field does: [K], undiscounted, over every started episode.

    The mean return of the E episodes, or their total where ``spec.score_is_total``; but the mean in
    any case where they belong to separate trials (``HasMemory``).
    """
    returns = batch.reward.sum(-1)
    total = spec.score_is_total and not separate_trials
    return returns.sum(-1) if total else returns.mean(-1)


def _refuse_non_finite(name: str, batch: Trajectories) -> None:
    """Name the first thing that is not finite, and who made it: the rest follows from it."""
    # An observation stands one place behind the step that led to it.
    columns = {"action": 0, "log_prob": 0, "obs": -1, "reward": 0}
    found = []
    for field, shift in columns.items():
        bad = ~torch.isfinite(getattr(batch, field))
        if bad.any():
            places = bad.nonzero()[:, :3]
            task, episode, place = places[places[:, 2].argmin()].tolist()
            found.append((place + shift, field, task, episode))
    if found:
        step, field, task, episode = min(found, key=lambda entry: entry[0])
        source = name if field in ("obs", "reward") else f"the policy in {name}"
        when = f"step {step}" if step >= 0 else "the start"
        raise FloatingPointError(
            f"{source}: {field} is not finite in task {task}, episode {episode}, {when}"
        )
