"""One command in several processes: they share the machine, stop together, speak with one voice."""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from metarl.checks import InputError
from metarl.experiments.experiment import Experiment, threads_for
from metarl.processes import PeerLostError, Processes


@contextmanager
def as_one(processes: Processes) -> Iterator[None]:
    """Let all processes fail if one fails in here, and only the first of those say why.

    What is printed in here comes out at the end, of one process. The others raise an ``InputError``
    without a line, or exit with the status that they meant to exit with.
    """
    if processes.size == 1:
        yield
        return
    failure: BaseException | None = None
    shown, said = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(said):
            yield
    except PeerLostError:
        raise
    except (Exception, SystemExit) as error:
        # A signal that ends this process ends it now; the others see it go.
        if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128:
            raise
        failure = error
    urgency = processes.size - processes.rank
    (highest,) = processes.highest(urgency if failure is not None else 0)
    if highest == urgency or (highest == 0 and processes.leads):
        sys.stdout.write(shown.getvalue())
        sys.stderr.write(said.getvalue())
    if highest == 0:
        return
    if failure is not None and (highest == urgency or isinstance(failure, SystemExit)):
        raise failure
    raise InputError([]) from failure


def claim_machine(experiment: Experiment, processes: Processes) -> None:
    """Give this process its part of the machine: cores, and a GPU where one is asked for.

    Raises:
        InputError: there are more processes on this machine than GPUs.
    """
    if processes.size == 1:
        return
    # torchrun sets 1 where the user says nothing; more than that was meant.
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(threads_for(experiment, processes))
    gpus = torch.cuda.device_count()
    if experiment.device == "cuda" and processes.local_rank >= gpus:
        raise InputError(
            [
                f"{processes.local_size} processes on a machine with {gpus} GPUs: each needs its"
                f" own; start at most {gpus}"
            ]
        )


class StopRequest:
    """Owns the handlers of SIGINT and SIGTERM while a run is on.

    While ``patient``, the first signal asks the run to stop after the meta-iteration in hand. Any
    other stops it at once, with 128 plus its number, which the atomic files survive.
    """

    def __init__(self) -> None:
        self.patient = False
        self.number: int | None = None
        """The signal that came, if one did."""
        self._previous: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._parent = os.getppid()

    def __enter__(self) -> "StopRequest":
        # Where a framework runs this in a thread of its own, signals are its affair.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agree(self, processes: Processes, *wishes: bool) -> list[bool]:
        """Make a signal that came to one of several processes one for all of them.

        Returns:
            Each wish, which is one for all where one process has it.
        """
        if processes.size == 1:
            return list(wishes)
        # Without torchrun, which was killed, nobody would ever end them.
        orphaned = signal.SIGTERM if os.getppid() != self._parent else 0
        number, *agreed = processes.highest(self.number or orphaned, *wishes)
        self.number = number or None
        return [bool(wish) for wish in agreed]

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None or not self.patient:
            sys.exit(128 + number)
        self.number = number
