"""What the contract's rules play with: the subject, a few steps of every copy, and comparisons."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.envs import Shows
from metarl.protocols import TaskDistribution, VectorTaskEnv
from metarl.seeding import Streams
from metarl.types import EnvSpec, Tasks

STREAMS = Streams(11, ("check",))
NUM_TASKS, EPISODES, STEPS = 4, 2, 10


class Subject(NamedTuple):
    """What is checked."""

    distribution: TaskDistribution
    env: VectorTaskEnv
    shows: Shows
    """Where a task may show itself: in rewards; in the dynamics too; or at the first sight."""


class Played(NamedTuple):
    """A few steps of every copy; after its end, a copy's rewards count as 0."""

    obs: Tensor
    """[K, E, T+1, O]"""
    reward: Tensor
    """[K, E, T]"""
    ended: Tensor
    """[K, E, T] bool."""


def play(
    subject: Subject, tasks: Tasks, streams: Streams = STREAMS, action: Tensor | None = None
) -> Played:
    """Play a few steps; the actions are the same for every task, or [K, E, T, ...] as given."""
    env = subject.env
    if action is None:
        action = actions(env.spec, len(tasks.task_id))
    running = torch.ones(action.shape[:2], dtype=torch.bool)
    seen, rewards, ends = [env.reset(tasks, action.shape[1], streams).clone()], [], []
    for now in action.unbind(2):
        step = env.step(now, running.clone())
        stopped = (step.terminated | step.faulty) & running
        seen.append(step.obs.clone())
        rewards.append(torch.where(running, step.reward, 0.0))
        ends.append(stopped)
        running = running & ~stopped
    return Played(torch.stack(seen, 2), torch.stack(rewards, 2), torch.stack(ends, 2))


def actions(spec: EnvSpec, num_tasks: int, episodes: int = EPISODES, steps: int = STEPS) -> Tensor:
    """Return actions [K, E, T, A], or [K, E, T] int64, that differ from episode to episode only."""
    shape = (episodes, min(spec.horizon, steps))
    if spec.discrete:
        action = (STREAMS.uniform("action", 1, shape) * spec.action_size).long()
    else:
        draw = STREAMS.uniform("action", 1, (*shape, spec.action_size))
        action = spec.action_limit * (2.0 * draw - 1.0)
    return action.expand(num_tasks, *action.shape[1:]).clone()


def pick(tasks: Tasks, places: list[int]) -> Tasks:
    """Return the tasks at ``places``."""
    parameter = {name: leaf[places] for name, leaf in tasks.parameter.items()}
    return Tasks(tasks.task_id[places], parameter)


def some_tasks(subject: Subject) -> Tasks:
    """Return up to four tasks, two at least of which differ where that can be."""
    length = subject.distribution.held_out_lists.get("test", 0)
    if length is None or length >= 2:
        return subject.distribution.held_out(min(NUM_TASKS, length or NUM_TASKS))
    return subject.distribution.sample(NUM_TASKS, STREAMS)


def faults_in(what: str, leaf: object, shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[str]:
    """Compare a tensor with what is expected."""
    if not isinstance(leaf, Tensor):
        yield f"{what} is a {type(leaf).__name__}; it must be a tensor {list(shape)} {dtype}"
        return
    if tuple(leaf.shape) != shape:
        yield f"{what} has shape {list(leaf.shape)}; it must be {list(shape)}"
    if leaf.dtype != dtype:
        yield f"{what} is {leaf.dtype}; it must be {dtype}"
    if not torch.isfinite(leaf).all():
        place = (~torch.isfinite(leaf)).nonzero()[0].tolist()
        yield f"{what} is {leaf[tuple(place)].item()} at {place}; it must be finite"


def same_tasks(one: Tasks, other: Tasks) -> bool:
    """Whether two sets of tasks are equal, bit for bit."""
    return (
        torch.equal(one.task_id, other.task_id)
        and one.parameter.keys() == other.parameter.keys()
        and all(torch.equal(leaf, other.parameter[name]) for name, leaf in one.parameter.items())
    )


def difference(one: Played, other: Played, text: str) -> Iterator[str]:
    """Say where two runs part, followed by ``text``."""
    for name, here, there in zip(Played._fields, one, other, strict=True):
        parted = unequal(here, there)
        if parted.any():
            yield f"{name} differs from step {first_step(parted)} on: {text}"


def unequal(here: Tensor, there: Tensor) -> Tensor:
    """Return where two tensors differ; what is not a number in both does not."""
    return (here != there) & ~(here.isnan() & there.isnan())


def first_step(found: Tensor) -> int:
    """Return the first step of [K, E, T, ...] at which something is true."""
    return (
        int(found.flatten(3).any(-1).any(0).any(0).nonzero()[0])
        if found.ndim > 3
        else int(found.any(0).any(0).nonzero()[0])
    )


def told(tasks: Tasks, place: int) -> str:
    """Return one task's parameters, in words; long ones are cut."""
    text = ", ".join(f"{n} {x[place].tolist()}" for n, x in tasks.parameter.items())
    return text if len(text) <= 80 else text[:77] + "..."
