"""The contract's rules for resets and steps."""

from collections.abc import Iterator

import torch

from metarl.experiments.check.play import (
    EPISODES,
    NUM_TASKS,
    STREAMS,
    Played,
    Subject,
    actions,
    difference,
    faults_in,
    first_step,
    pick,
    play,
    same_tasks,
    some_tasks,
    told,
    unequal,
)
from metarl.protocols import CanRestart
from metarl.types import Step, Tasks

_SEARCH = (100, 200)
"""Episodes and steps in which random actions come upon a rare reward."""


def reset_rule(subject: Subject) -> Iterator[str]:
    """Reset returns observations [K, E, O] float32, and so for other tasks and numbers of them."""
    env, distribution = subject.env, subject.distribution
    spec = env.spec
    for number in (NUM_TASKS, 2):
        tasks = distribution.sample(number, STREAMS.at(number))
        obs = env.reset(tasks, EPISODES, STREAMS)
        shape = (number, EPISODES, spec.observation_size)
        yield from faults_in("reset: obs", obs, shape, torch.float32)
        if env.spec != spec:
            yield f"spec became {env.spec}; for every task it must be {spec}"


def step_rule(subject: Subject) -> Iterator[str]:
    """A step returns what the protocol says, with finite rewards."""
    env, spec = subject.env, subject.env.spec
    tasks = some_tasks(subject)
    num_tasks = len(tasks.task_id)
    env.reset(tasks, EPISODES, STREAMS)
    copies = (num_tasks, EPISODES)
    running = torch.ones(copies, dtype=torch.bool)
    for time, now in enumerate(actions(spec, num_tasks).unbind(2), 1):
        given = now.clone()
        step = env.step(now, running.clone())
        if not isinstance(step, Step):
            yield f"step returned {type(step).__name__}; it must be metarl.types.Step"
            return
        sized = (*copies, spec.observation_size)
        yield from faults_in(f"step {time}: obs", step.obs, sized, torch.float32)
        yield from faults_in(f"step {time}: reward", step.reward, copies, torch.float32)
        for name in ("terminated", "faulty", "success"):
            leaf = getattr(step, name)
            if name != "success" or leaf is not None:
                yield from faults_in(f"step {time}: {name}", leaf, copies, torch.bool)
        if unequal(now, given).any():
            yield f"step {time} wrote into the action; it is the caller's"
        running = running & ~step.terminated & ~step.faulty


def same_bits_rule(subject: Subject) -> Iterator[str]:
    """The same tasks, streams and actions give the same bits, whatever happened in between."""
    tasks = some_tasks(subject)
    first = play(subject, tasks)
    play(subject, subject.distribution.sample(2, STREAMS.at("other")), STREAMS.at("other"))
    yield from difference(
        first,
        play(subject, tasks),
        "the same seed gave other results; all chance must come from the streams (in a Gymnasium"
        " environment: from self.np_random), and reset must set everything back",
    )


def own_tasks_rule(subject: Subject) -> Iterator[str]:
    """The environment leaves its tasks as they are, and depends on their parameters alone."""
    tasks = some_tasks(subject)
    given = Tasks(tasks.task_id.clone(), {n: x.clone() for n, x in tasks.parameter.items()})
    first = play(subject, tasks)
    if not same_tasks(tasks, given):
        yield "the environment changed its tasks' parameters; they are the caller's"
    anonymous = Tasks(torch.full_like(given.task_id, -1), given.parameter)
    yield from difference(
        first, play(subject, anonymous), "a task rebuilt from its parameters went otherwise"
    )


def differ_rule(subject: Subject) -> Iterator[str]:
    """Different tasks differ in what they do or pay; where rewards are rare, in a longer search."""
    tasks, spec = some_tasks(subject), subject.env.spec
    number = len(tasks.task_id)
    search = actions(spec, 1, *_SEARCH)
    search[:, ::2] = search[:, ::2, :1]  # keeping to one action leads further
    for action in (actions(spec, 1), search):
        runs = [play(subject, pick(tasks, [place]), action=action) for place in range(number)]
        if any(any(difference(runs[0], other, "")) for other in runs[1:]):
            return
    yield (
        f"{number} tasks could not be told apart in {_SEARCH[0]} episodes of up to {_SEARCH[1]}"
        " steps under the same seed and random actions; does the environment read its task, or are"
        " its rewards that rare?"
    )


def leak_rule(subject: Subject) -> Iterator[str]:
    """A task does not show itself where it is declared hidden."""
    if subject.shows == "start":
        return
    tasks = some_tasks(subject)
    runs = [play(subject, pick(tasks, [place])) for place in range(len(tasks.task_id))]
    for place, other in enumerate(runs[1:], 1):
        pair = f"tasks 0 ({told(tasks, 0)}) and {place} ({told(tasks, place)})"
        if unequal(runs[0].obs[:, :, 0], other.obs[:, :, 0]).any():
            yield (
                f"{pair} can be told apart by the first observation: hide the task, or declare"
                ' shows="start"'
            )
        both = ~(runs[0].ended | other.ended).cumsum(2).bool()
        moved = unequal(runs[0].obs[:, :, 1:], other.obs[:, :, 1:]).any(-1) & both
        if subject.shows == "rewards" and moved.any():
            yield (
                f"{pair} can be told apart by the observation of step {first_step(moved) + 1}:"
                ' hide the task, or declare shows="dynamics"'
            )


def still_rule(subject: Subject) -> Iterator[str]:
    """A copy that is not running keeps its observation, and the others do not notice."""
    env, tasks = subject.env, some_tasks(subject)
    action = actions(env.spec, len(tasks.task_id))
    whole = play(subject, tasks)
    start = env.reset(tasks, EPISODES, STREAMS).clone()
    running = torch.ones(start.shape[:2], dtype=torch.bool)
    running[:, 0] = False
    for time, now in enumerate(action.unbind(2)):
        obs = env.step(now, running.clone()).obs
        if unequal(obs[:, 0], start[:, 0]).any():
            yield f"a copy that was not running moved in step {time + 1}; it must stay as it is"
        if unequal(obs[running], whole.obs[:, :, time + 1][running]).any():
            yield f"a copy went otherwise in step {time + 1} because another one was not running"
        running = running & ~whole.ended[:, :, time]


def neighbours_rule(subject: Subject) -> Iterator[str]:
    """What a task does depends on its slot, not on the other tasks or on how many there are."""
    tasks = some_tasks(subject)
    whole = play(subject, tasks)
    last = len(tasks.task_id) - 1
    alone = play(subject, pick(tasks, [last]), STREAMS.from_task(last))
    yield from difference(
        Played(*(leaf[last:] for leaf in whole)),
        alone,
        f"task {last} went otherwise as a block of its own; draw noise for all K tasks at once"
        " from the streams that reset is given",
    )


def keep_rule(subject: Subject) -> Iterator[str]:
    """What reset and step returned is never written into later."""
    env, tasks = subject.env, some_tasks(subject)
    running = torch.ones(len(tasks.task_id), EPISODES, dtype=torch.bool)
    kept = {"reset: obs": env.reset(tasks, EPISODES, STREAMS)}
    copies = {name: leaf.clone() for name, leaf in kept.items()}
    for time, now in enumerate(actions(env.spec, len(tasks.task_id)).unbind(2), 1):
        step = env.step(now, running.clone())
        for name in ("obs", "reward", "terminated", "faulty"):
            kept[f"step {time}: {name}"] = getattr(step, name)
            copies[f"step {time}: {name}"] = getattr(step, name).clone()
        running = running & ~step.terminated & ~step.faulty
    env.reset(tasks, EPISODES, STREAMS.at("other"))
    for name, leaf in kept.items():
        if unequal(leaf, copies[name]).any():
            yield f"{name} was written into by a later step; return a new tensor each time"


def extremes_rule(subject: Subject) -> Iterator[str]:
    """Actions far beyond the limit give finite results, or are reported as faulty."""
    if subject.env.spec.discrete:
        return
    env, tasks = subject.env, some_tasks(subject)
    action = 1e3 * actions(env.spec, len(tasks.task_id))
    running = torch.ones(action.shape[:2], dtype=torch.bool)
    env.reset(tasks, EPISODES, STREAMS)
    for time, now in enumerate(action.unbind(2), 1):
        step = env.step(now, running.clone())
        running = running & ~step.faulty
        for name in ("obs", "reward"):
            leaf = getattr(step, name)[running]
            if not torch.isfinite(leaf).all():
                yield (
                    f"step {time}: {name} is not finite after actions of 1000 times the limit; clip"
                    " them, or report the copy as faulty"
                )
        running = running & ~step.terminated


def restart_rule(subject: Subject) -> Iterator[str]:
    """Where copies can restart, they start as in a reset and the others keep their observation."""
    env, tasks = subject.env, some_tasks(subject)
    if not isinstance(env, CanRestart):
        return
    fresh = env.reset(tasks, EPISODES, STREAMS.at("restart")).clone()
    env.reset(tasks, EPISODES, STREAMS)
    running = torch.ones(fresh.shape[:2], dtype=torch.bool)
    now = actions(env.spec, len(tasks.task_id))[:, :, 0]
    before = env.step(now, running).obs.clone()
    copies = torch.zeros_like(running)
    copies[:, 1] = True
    obs = env.restart(copies, STREAMS.at("restart"))
    if unequal(obs[copies], fresh[copies]).any():
        yield "a copy that restarts must start as reset starts it from the same streams"
    if unequal(obs[~copies], before[~copies]).any():
        yield "a copy that does not restart must keep its observation"
