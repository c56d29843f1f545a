"""A sink that may be slow, hang or fail, kept from doing the run any harm."""

import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from metarl.logger import MetricSink
from metarl.types import Metrics

LONGEST_QUEUE = 1000
"""Points that wait for a slow tracker, before others are lost."""


class Point(NamedTuple):
    """What a run has to say of one meta-iteration."""

    iteration: int
    env_steps: int
    metrics: Metrics


class Tracker(MetricSink, Protocol):
    """A sink whose record outlives the process, and to which points can only be added."""

    @property
    def env_steps(self) -> int:
        """Env steps of the last point that the record held when it was opened; 0 for none."""
        ...


class BackgroundSink:
    """A tracker that works in a thread of its own, behind a queue of bounded length.

    The run waits for it at the end only, and no longer than it must: what hangs is left behind.
    Whatever goes wrong, ``tell`` hears of the first time, and at the end how many points were lost.

    The record ends up with each point once. What it held already is not sent again, since a
    resumed run repeats its iterations to the bit; what it lacks of ``earlier`` is sent first.

    Args:
        name: of the service, for messages.
        open_tracker: called in the thread: what takes long to import or to reach is waited for
            there.
        tell: hears of what goes wrong, in either thread.
        earlier: what the run has recorded so far, in its order.
        limit: of the queue.
    """

    def __init__(
        self,
        name: str,
        open_tracker: Callable[[], Tracker],
        tell: Callable[[str], None],
        earlier: Sequence[Point] = (),
        *,
        limit: int = LONGEST_QUEUE,
    ) -> None:
        self._name, self._tell = name, tell
        self._offered, self._taken = len(earlier), 0
        self._closed, self._given_up = False, False
        self._first_time = threading.Lock()
        self._points: queue.Queue[Point | None] = queue.Queue(limit)
        # A daemon: a call that never returns must not keep the process.
        self._thread = threading.Thread(
            target=self._work, args=(open_tracker, earlier), name=name, daemon=True
        )
        self._thread.start()

    @property
    def lost(self) -> int:
        """Points that the tracker has not taken, or not yet while it is open."""
        return self._offered - self._taken

    def write(self, iteration: int, env_steps: int, metrics: Metrics) -> None:
        """Leave a point in the queue; it is lost where that is full."""
        self._offered += 1
        try:
            self._points.put_nowait(Point(iteration, env_steps, dict(metrics)))
        except queue.Full:
            self._complain("cannot keep up")

    def close(self, patience_s: float = 8.0) -> None:
        """Wait until all is sent, but no longer than so many seconds."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + patience_s
        while self._thread.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(queue.Full):
                self._points.put(None, timeout=min(0.1, patience_s))
                break
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._given_up = True
            self._complain(f"did not finish within {patience_s:g} s")
        if self.lost:
            self._tell(f"{self._name}: {self.lost} of {self._offered} points were lost")

    def _work(self, open_tracker: Callable[[], Tracker], earlier: Sequence[Point]) -> None:
        try:
            tracker = open_tracker()
            held = tracker.env_steps
        except Exception as error:
            self._complain(_said(error))
            return
        for point in itertools.chain(earlier, iter(self._points.get, None)):
            if self._given_up:
                return
            if point is not None and (point.env_steps <= held or self._send(tracker, point)):
                self._taken += 1
        try:
            tracker.close()
        except Exception as error:
            self._complain(_said(error))

    def _send(self, tracker: Tracker, point: Point) -> bool:
        """Send a point; return whether it was taken."""
        try:
            tracker.write(*point)
        except Exception as error:
            self._complain(_said(error))
            return False
        return True

    def _complain(self, reason: str) -> None:
        # Whatever the reason, hours of training must not end for want of a plot.
        if self._first_time.acquire(blocking=False):
            self._tell(f"{self._name}: {reason}; training goes on")


def _said(error: Exception) -> str:
    first_line = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first_line}"
