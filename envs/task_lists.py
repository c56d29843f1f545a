"""Frozen lists of tasks: held-out ones, and training sets that are finite as published."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from metarl.checks import COUNT_OR_ZERO, InputError, check_fields, unknown
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import Parameter, Tasks

Draw: TypeAlias = Callable[[int, Streams], dict[str, Tensor]]
"""Makes the parameters of K tasks, leaves [K, ...], from the streams alone."""

HELD_OUT = Streams(seed=0, path=("held-out tasks",))
"""Where every family draws its test tasks. Training draws below other names, so that no seed of a
run can reach these."""


@dataclass(frozen=True, kw_only=True)
class TaskListConfig:
    """Whether training meets an endless stream of tasks or a list, as some papers have it."""

    num_train_tasks: int = 0
    """Length of the list of training tasks; 0 draws a fresh task every time."""
    num_test_tasks: int = 0
    """Length of the held-out list; 0, with ``num_train_tasks`` 0, for a list without end."""

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_fields(
            self,
            {"num_train_tasks": COUNT_OR_ZERO, "num_test_tasks": COUNT_OR_ZERO},
            None
            if (self.num_train_tasks == 0) == (self.num_test_tasks == 0)
            else f"{owner}.num_test_tasks must be 0 exactly when num_train_tasks is,"
            f" got {self.num_test_tasks} and {self.num_train_tasks}",
        )


class EndlessTasks:
    """Tasks drawn afresh every time, and held-out lists that go on as far as anyone asks.

    The list ``test`` is drawn as training tasks are, or by a draw of its own where there are so few
    tasks that training would meet them all.
    """

    def __init__(
        self,
        name: str,
        draw: Draw,
        device: str,
        parameters: Mapping[str, Parameter],
        shifted: Draw | None = None,
        test: Draw | None = None,
    ) -> None:
        self.parameters = parameters
        self._name, self._device, self._draw = name, device, draw
        self._draws = {"test": test or draw} | ({"shifted": shifted} if shifted else {})
        self.held_out_lists: Mapping[str, int | None] = dict.fromkeys(self._draws)

    def sample(self, num_tasks: int, streams: Streams) -> Tasks:
        """Draw K tasks; none has a place in a list."""
        return _fresh(self._draw, num_tasks, streams)

    def held_out(self, num_tasks: int, split: str = "test") -> Tasks:
        """Return the first K tasks of the fixed stream of a split."""
        check_held_out(self, self._name, num_tasks, split)
        place = HELD_OUT.at(self._name) if split == "test" else HELD_OUT.at(self._name, split)
        return _fresh(self._draws[split], num_tasks, place._replace(device=self._device))


class FiniteTasks:
    """A fixed list of training tasks and a fixed list of test tasks, from another distribution.

    ``task_id`` counts through both: training tasks first, test tasks after them.
    """

    def __init__(
        self, source: TaskDistribution, name: str, config: TaskListConfig, device: str
    ) -> None:
        self.parameters = source.parameters
        self.held_out_lists = {**source.held_out_lists, "test": config.num_test_tasks}
        self._name, self._source = name, source
        self._num_train = config.num_train_tasks
        total = config.num_train_tasks + config.num_test_tasks
        self._all = source.sample(
            total, HELD_OUT.at("list", name)._replace(device=device)
        ).parameter

    def sample(self, num_tasks: int, streams: Streams) -> Tasks:
        """Draw K tasks from the training list, with replacement."""
        uniform = streams.uniform("task", num_tasks, ())
        return take(self._all, (uniform * self._num_train).long())

    def held_out(self, num_tasks: int, split: str = "test") -> Tasks:
        """Return the first K tasks of the test list; other splits are the source's."""
        check_held_out(self, self._name, num_tasks, split)
        if split != "test":
            return self._source.held_out(num_tasks, split)
        return take(self._all, torch.arange(num_tasks) + self._num_train)


class EnumeratedTasks:
    """So few tasks that each is met in training: drawn with equal probability, tested in turn.

    ``all_tasks`` has one leaf [n, ...] for each parameter; ``task_id`` is the place in it.
    """

    def __init__(
        self, name: str, all_tasks: dict[str, Tensor], parameters: Mapping[str, Parameter]
    ) -> None:
        self.parameters = parameters
        self.held_out_lists: Mapping[str, int | None] = {"test": None}
        self._name, self._all = name, all_tasks
        self._stream, first = next(iter(all_tasks.items()))
        self._number = len(first)

    def sample(self, num_tasks: int, streams: Streams) -> Tasks:
        """Draw K tasks."""
        uniform = streams.uniform(self._stream, num_tasks, ())
        # Counted from the end, as the first runs under results/ were.
        return take(self._all, self._number - 1 - (uniform * self._number).long())

    def held_out(self, num_tasks: int, split: str = "test") -> Tasks:
        """Return K tasks in turn, from the first on."""
        check_held_out(self, self._name, num_tasks, split)
        return take(self._all, torch.arange(num_tasks) % self._number)


def listed(
    source: TaskDistribution, name: str, config: TaskListConfig, device: str
) -> TaskDistribution:
    """Return the source itself, or finite lists from it where the config asks for them."""
    return FiniteTasks(source, name, config, device) if config.num_train_tasks else source


def take(all_tasks: Mapping[str, Tensor], places: Tensor) -> Tasks:
    """Return the tasks at ``places`` [K] of a list, under these as their ids."""
    places = places.to(next(iter(all_tasks.values())).device)
    return Tasks(places, {name: leaf[places] for name, leaf in all_tasks.items()})


def check_held_out(distribution: TaskDistribution, name: str, num_tasks: int, split: str) -> None:
    """Refuse a split that a distribution has not, or more tasks than its list is long."""
    lists = distribution.held_out_lists
    if split not in lists:
        raise InputError([unknown(f"held-out list of {name}", split, lists)])
    length = lists[split]
    if length is not None and num_tasks > length:
        kind = "held-out" if split == "test" else split
        raise InputError([f"{name} has {length} {kind} tasks, asked for {num_tasks}"])


def _fresh(draw: Draw, num_tasks: int, streams: Streams) -> Tasks:
    task_id = torch.full((num_tasks,), -1, dtype=torch.int64, device=streams.device)
    return Tasks(task_id, draw(num_tasks, streams))
