"""Frozen lists of tasks: held-out ones, and training sets that are finite as published."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from metarl.checks import InputError
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import Tasks

Draw: TypeAlias = Callable[[int, Streams], dict[str, Tensor]]

HELD_OUT = Streams(seed=0, path=("held-out tasks",))
"""Where every family draws its test tasks. Training draws below other names, so that no seed of a
run can reach these."""


class EndlessTasks:
    """Tasks drawn afresh every time, and a held-out list that goes on as far as anyone asks.

    ``draw`` makes the parameters of K tasks, leaves [K, ...], from the streams alone.
    """

    num_held_out = None

    def __init__(self, name: str, draw: Draw, device: str) -> None:
        self._name, self._draw, self._device = name, draw, device

    def sample(self, num_tasks: int, streams: Streams) -> Tasks:
        """Draw K tasks; none has a place in a list."""
        parameter = self._draw(num_tasks, streams)
        task_id = torch.full((num_tasks,), -1, dtype=torch.int64, device=streams.device)
        return Tasks(task_id, parameter)

    def held_out(self, num_tasks: int) -> Tasks:
        """Return the first K tasks of the fixed stream."""
        return self.sample(num_tasks, HELD_OUT.at(self._name)._replace(device=self._device))


class FiniteTasks:
    """A fixed list of training tasks and a fixed list of test tasks, from another distribution.

    ``task_id`` counts through both: training tasks first, test tasks after them.
    """

    def __init__(self, source: TaskDistribution, name: str, num_train: int, num_test: int) -> None:
        self.num_held_out: int | None = num_test
        self._name, self._num_train = name, num_train
        self._all = source.sample(num_train + num_test, HELD_OUT.at("list", name))

    def sample(self, num_tasks: int, streams: Streams) -> Tasks:
        """Draw K tasks from the training list, with replacement."""
        uniform = streams.uniform("task", num_tasks, ())
        return self._take((uniform * self._num_train).long())

    def held_out(self, num_tasks: int) -> Tasks:
        """Return the first K tasks of the test list."""
        if self.num_held_out is not None and num_tasks > self.num_held_out:
            raise InputError(
                [f"{self._name} has {self.num_held_out} held-out tasks, asked for {num_tasks}"]
            )
        return self._take(torch.arange(num_tasks) + self._num_train)

    def _take(self, task_id: Tensor) -> Tasks:
        leaves = self._all.parameter.items()
        task_id = task_id.to(self._all.task_id.device)
        return Tasks(task_id, {name: leaf[task_id] for name, leaf in leaves})
