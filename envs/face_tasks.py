"""The tasks of a face: which its copies have, which they get next, and where others come from."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from metarl.checks import COUNT, InputError, unknown
from metarl.envs.face import TRAIN
from metarl.envs.task_dicts import TaskDict, as_dicts, from_dicts, plain
from metarl.protocols import TaskDistribution
from metarl.seeding import Streams
from metarl.types import Tasks


class FaceTasks:
    """One task for each of N copies. Owns them, and how far the split was gone through."""

    def __init__(
        self, name: str, distribution: TaskDistribution, split: str, num_copies: int
    ) -> None:
        splits = (TRAIN, *distribution.held_out_lists)
        if split not in splits:
            raise InputError([unknown(f"split of {name}", split, splits)])
        self._name, self._distribution, self._number = name, distribution, num_copies
        self._trains = split == TRAIN
        self._split = "test" if self._trains else split
        self._running: Tasks | None = None
        self._coming = None if self._trains else distribution.held_out(num_copies, split)
        self._settled = not self._trains
        self._streams: Streams | None = None
        self._num_draws = 0
        self._frozen: Tasks | None = None
        self._next = 0

    @property
    def coming(self) -> Tasks:
        """The tasks from the next ``reset`` on."""
        if self._coming is None:
            raise RuntimeError(f"{self._name}: seed comes before tasks")
        return self._coming

    @property
    def running(self) -> Tasks:
        """The tasks of the running episodes; before the first, those that it will have."""
        return self.coming if self._running is None else self._running

    def begin(self) -> Tasks:
        """Make the coming tasks the running ones, and return them."""
        self._running = self.coming
        return self._running

    def seed(self, streams: Streams, given: bool) -> None:
        """Begin the draws of training tasks anew.

        The copies keep their tasks, but for first training tasks: these come from the first seed
        that someone has ``given``, and until then from any.
        """
        self._streams, self._num_draws = streams, 0
        if not self._settled:
            self._coming = self._distribution.sample(self._number, streams.at("first tasks"))
            self._settled = given

    def set(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Give each copy a task, or all the same one, from the next ``reset`` on.

        Raises:
            InputError: a dict is no task of this environment, or there are too few or too many.
        """
        listed = isinstance(tasks, Sequence) and not isinstance(tasks, str)
        if not listed or len(tasks) not in (1, self._number):
            many = f", or one of {self._number}," if self._number > 1 else ""
            came = len(tasks) if listed else type(tasks).__name__
            raise InputError([f"{self._name}: a list of one task{many} is needed, got {came}"])
        read = from_dicts(self._name, self._distribution.parameters, tasks)
        rows = torch.arange(self._number) % len(tasks)
        parameter = {name: leaf[rows] for name, leaf in read.parameter.items()}
        self._coming, self._settled = Tasks(read.task_id[rows], parameter), True

    def sample(self, num_tasks: int) -> list[TaskDict]:
        """Draw tasks for training; or return the next of the frozen list, and so on around it.

        Raises:
            InputError: the list is shorter, or ``num_tasks`` is not a whole number > 0.
        """
        number = _count(num_tasks)
        if self._trains:
            if self._streams is None:
                raise RuntimeError(f"{self._name}: seed comes before tasks")
            self._num_draws += 1
            drawn = self._distribution.sample(number, self._streams.at("tasks", self._num_draws))
            return as_dicts(drawn)
        length = self._distribution.held_out_lists[self._split]
        if length is None:
            first, self._next = self._next, self._next + number
            return as_dicts(self._first(self._next).take(slice(first, self._next)))
        whole = as_dicts(self._first(max(number, length)))
        first, self._next = self._next, (self._next + number) % length
        return (whole + whole)[first : first + number]

    def held_out(self, num_tasks: int) -> list[TaskDict]:
        """Return the first tasks of the frozen list: of the split, or of ``test`` in training.

        Raises:
            InputError: the list is shorter, or ``num_tasks`` is not a whole number > 0.
        """
        return as_dicts(self._first(_count(num_tasks)))

    def _first(self, num_tasks: int) -> Tasks:
        """Return the first tasks of the frozen list, which is drawn in pieces that double."""
        known = 0 if self._frozen is None else len(self._frozen.task_id)
        if self._frozen is None or known < num_tasks:
            length = self._distribution.held_out_lists[self._split]
            ahead = 2 * known if length is None else min(2 * known, length)
            self._frozen = self._distribution.held_out(max(num_tasks, ahead), self._split)
        return self._frozen.take(slice(0, num_tasks))


def _count(num_tasks: int) -> int:
    if not COUNT.accepts(plain(num_tasks)):
        raise InputError([f"num_tasks must be {COUNT.text}, got {num_tasks!r}"])
    return int(num_tasks)
