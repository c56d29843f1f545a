"""The contract's rules for what an environment says of itself, and for its tasks."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from metarl.checks import COUNT
from metarl.experiments.check.play import (
    NUM_TASKS,
    STREAMS,
    Subject,
    faults_in,
    pick,
    same_tasks,
    told,
)
from metarl.seeding import Streams
from metarl.types import Parameter, Tasks


def spec_rule(subject: Subject) -> Iterator[str]:
    """The spec says what an agent must know."""
    spec = subject.env.spec
    for name in ("observation_size", "action_size", "horizon"):
        value = getattr(spec, name)
        if not COUNT.accepts(value):
            yield f"spec.{name} is {value!r}; it must be {COUNT.text}"
    if not spec.action_limit > 0:
        yield f"spec.action_limit is {spec.action_limit!r}; it must be a number > 0"
    if subject.env.threads < 1:
        yield f"threads is {subject.env.threads}; it must be at least 1"


def training_rule(subject: Subject) -> Iterator[str]:
    """Training tasks are what the parameters say, and a function of the streams and the slot."""
    distribution = subject.distribution
    tasks, again = (distribution.sample(NUM_TASKS, STREAMS) for _ in range(2))
    yield from _faults_of(tasks, distribution.parameters, NUM_TASKS)
    if not same_tasks(tasks, again):
        yield "sample drew other tasks from the same streams; all chance must come from the streams"
    blocks = distribution.sample(2, STREAMS), distribution.sample(2, STREAMS.from_task(2))
    for block, places in zip(blocks, ([0, 1], [2, 3]), strict=True):
        if not same_tasks(block, pick(tasks, places)):
            yield (
                f"slots {places} drew other tasks as a block of 2 than among {NUM_TASKS};"
                " draw for all K at once by streams.uniform or streams.normal"
            )
    others = [distribution.sample(16, Streams(seed)) for seed in range(4)]
    if all(same_tasks(others[0], other) for other in others[1:]):
        yield "four seeds drew the same 16 tasks; the draw must depend on the streams"


def held_out_rule(subject: Subject) -> Iterator[str]:
    """Held-out lists are fixed, of the length they say, and described by the parameters."""
    distribution = subject.distribution
    if "test" not in distribution.held_out_lists:
        yield f"held_out_lists has {', '.join(distribution.held_out_lists)}; it must have 'test'"
        return
    for split, length in distribution.held_out_lists.items():
        number = min(20, length or 20)
        tasks = distribution.held_out(number, split)
        yield from _faults_of(tasks, distribution.parameters, number)
        distribution.sample(3, STREAMS)
        half = max(1, number // 2)
        if not same_tasks(distribution.held_out(half, split), pick(tasks, list(range(half)))):
            yield f"the first {half} tasks of {split!r} are not the same in every call"


def disjoint_rule(subject: Subject) -> Iterator[str]:
    """Training meets no held-out task, where there are more than a handful."""
    distribution = subject.distribution
    length = distribution.held_out_lists.get("test", 0)
    if length == 0:
        return  # the rule of held-out tasks says so
    held_out = distribution.held_out(min(40, length or 40))
    if length is None and (held_out.task_id >= 0).all():
        return  # so few tasks that each is met in training
    met = torch.cat([numbers(distribution.sample(100, Streams(seed))) for seed in range(4)])
    for place, task in enumerate(numbers(held_out)):
        if (met == task).all(-1).any():
            yield f"held-out task {place} ({told(held_out, place)}) was drawn in training too"


def numbers(tasks: Tasks) -> Tensor:
    """Return all parameters of each task, [K, numbers]."""
    return torch.cat(
        [
            leaf.flatten(1) if leaf.ndim > 1 else leaf[:, None]
            for _, leaf in sorted(tasks.parameter.items())
        ],
        1,
    )


def _faults_of(tasks: Tasks, parameters: Mapping[str, Parameter], num_tasks: int) -> Iterator[str]:
    """Compare tasks with what their distribution says of them."""
    yield from faults_in("task_id", tasks.task_id, (num_tasks,), torch.int64)
    if tasks.parameter.keys() != parameters.keys():
        yield f"tasks have {', '.join(tasks.parameter)}; parameters names {', '.join(parameters)}"
        return
    for name, about in parameters.items():
        leaf = tasks.parameter[name]
        actual = tuple(leaf.shape[1:])
        fits = len(actual) == len(about.shape) and all(
            length in (None, here) for length, here in zip(about.shape, actual, strict=True)
        )
        shape = (num_tasks, *actual) if fits else (num_tasks, *(n or 1 for n in about.shape))
        yield from faults_in(f"parameter {name}", leaf, shape, torch.float32)
        if leaf.min() < about.low or leaf.max() > about.high:
            yield (
                f"parameter {name} goes from {leaf.min():g} to {leaf.max():g};"
                f" parameters says {about.low:g} to {about.high:g}"
            )
        if about.values and not torch.isin(leaf, torch.tensor(about.values)).all():
            yield f"parameter {name} is {leaf.tolist()}; parameters allows {about.values}"
        wrong = [text for text in map(about.fault, leaf) if text] if about.fault else []
        if wrong:
            yield f"parameter {name} must be {wrong[0]}"
