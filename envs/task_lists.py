"""Frozen lists of tasks: held-out ones, and training sets that are finite as published."""

import torch
from torch import Tensor

from metarl.checks import InputError
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import Tasks

HELD_OUT = Streams(seed=0, path=("held-out tasks",))
"""Where every family draws its test tasks. Training draws below other names, so that no seed of a
run can reach these."""


def fresh(parameter: dict[str, Tensor]) -> Tasks:
    """Return tasks drawn afresh: they have no place in any list."""
    leaf = next(iter(parameter.values()))
    return Tasks(torch.full((len(leaf),), -1, dtype=torch.int64, device=leaf.device), parameter)


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
