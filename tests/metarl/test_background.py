"""A sink in the background: what it does when the tracker is slow, hangs, fails or was there."""

import threading
import time
from collections.abc import Callable

import pytest

from metarl.background import BackgroundSink, Point
from metarl.types import Metrics


class Kept:
    """A tracker that keeps what it takes, and does something of a test's own before."""

    def __init__(self, env_steps: int = 0, before: Callable[[int], object] = bool) -> None:
        self.env_steps, self.closed = env_steps, False
        self.taken: list[int] = []
        self._before = before

    def write(self, iteration: int, env_steps: int, metrics: Metrics) -> None:
        self._before(iteration)
        assert metrics == {"meta/gain": iteration / 2}
        assert env_steps == 10 * iteration
        self.taken.append(iteration)

    def close(self) -> None:
        self.closed = True


def point(iteration: int) -> Point:
    return Point(iteration, 10 * iteration, {"meta/gain": iteration / 2})


def write(sink: BackgroundSink, first: int, last: int) -> None:
    for iteration in range(first, last + 1):
        sink.write(*point(iteration))


def test_all_points_arrive_in_order_before_it_is_closed() -> None:
    tracker, told = Kept(before=lambda _: time.sleep(0.002)), list[str]()
    sink = BackgroundSink("them", lambda: tracker, told.append)
    write(sink, 1, 30)
    sink.close()
    sink.close()
    assert (tracker.taken, tracker.closed) == ([*range(1, 31)], True)
    assert (sink.lost, told) == (0, [])


def test_a_point_is_what_it_was_when_it_was_written() -> None:
    tracker, go = Kept(before=lambda _: go.wait(10)), threading.Event()
    sink = BackgroundSink("them", lambda: tracker, pytest.fail)
    metrics = {"meta/gain": 0.5}
    sink.write(1, 10, metrics)
    metrics["meta/gain"] = 7.0
    go.set()
    sink.close()
    assert tracker.taken == [1]


@pytest.mark.parametrize(("held", "expected"), [(0, [1, 2, 3, 4, 5, 6]), (20, [3, 4, 5, 6])])
@pytest.mark.parametrize("resumed_after", [2, 3, 4])
def test_a_resumed_record_has_each_point_once(
    held: int, expected: list[int], resumed_after: int
) -> None:
    tracker = Kept(env_steps=held)
    earlier = [point(iteration) for iteration in range(1, resumed_after + 1)]
    sink = BackgroundSink("them", lambda: tracker, pytest.fail, earlier)
    write(sink, resumed_after + 1, 6)
    sink.close()
    assert (tracker.taken, sink.lost) == (expected, 0)


def test_what_was_sent_before_a_kill_is_not_sent_again() -> None:
    tracker = Kept(env_steps=50)  # the checkpoint is of iteration 3
    sink = BackgroundSink("them", lambda: tracker, pytest.fail, [point(1), point(2), point(3)])
    write(sink, 4, 7)
    sink.close()
    assert (tracker.taken, sink.lost) == ([6, 7], 0)


@pytest.mark.timeout(60)
def test_a_tracker_that_cannot_be_opened_costs_nothing_but_its_points() -> None:
    def refuse() -> Kept:
        raise ImportError("no such package")

    told = list[str]()
    sink = BackgroundSink("them", refuse, told.append, [point(1)], limit=2)
    write(sink, 2, 9)
    sink.close(patience_s=3600.0)  # of which it needs nothing
    assert sink.lost == 9
    assert told == [
        "them: ImportError: no such package; training goes on",
        "them: 9 of 9 points were lost",
    ]


def test_points_that_fail_are_counted_and_the_others_arrive() -> None:
    def fail_at_some(iteration: int) -> None:
        if iteration % 3 == 0:
            raise ConnectionError(f"at {iteration}")

    tracker, told = Kept(before=fail_at_some), list[str]()
    sink = BackgroundSink("them", lambda: tracker, told.append, [point(n) for n in (1, 2, 3)])
    write(sink, 4, 8)
    sink.close()
    assert tracker.taken == [1, 2, 4, 5, 7, 8]
    assert tracker.closed
    assert told == [
        "them: ConnectionError: at 3; training goes on",
        "them: 2 of 8 points were lost",
    ]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("hangs_at", "taken"), [("open", []), ("write", [1])])
def test_a_call_that_hangs_is_left_behind(hangs_at: str, taken: list[int]) -> None:
    go, told = threading.Event(), list[str]()
    tracker = Kept(before=lambda _: hangs_at == "write" and go.wait())

    def open_tracker() -> Kept:
        if hangs_at == "open":
            go.wait()
        return tracker

    sink = BackgroundSink(f"hangs at {hangs_at}", open_tracker, told.append, limit=4)
    (thread,) = (t for t in threading.enumerate() if t.name == f"hangs at {hangs_at}")
    # Until all of this has returned, nobody lets the call go.
    write(sink, 1, 20)
    sink.close(patience_s=0.3)
    assert sink.lost == 20
    assert [line.partition(": ")[2] for line in told] == [
        "cannot keep up; training goes on",
        "20 of 20 points were lost",
    ]
    go.set()
    thread.join()
    assert tracker.taken == taken  # the rest is not sent behind the back of a later sitting


def test_a_tracker_that_cannot_finish_says_so() -> None:
    go, told = threading.Event(), list[str]()
    sink = BackgroundSink("them", lambda: Kept(before=lambda _: go.wait(30)), told.append)
    write(sink, 1, 2)
    sink.close(patience_s=0.2)
    go.set()
    assert told == [
        "them: did not finish within 0.2 s; training goes on",
        "them: 2 of 2 points were lost",
    ]
