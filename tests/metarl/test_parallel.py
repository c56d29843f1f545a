"""Work on threads: in order, alone within a thread, and leaving torch as it was."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from metarl.parallel import map_threads, one_torch_thread


@pytest.fixture(params=[1, 3], autouse=True)
def before(request: pytest.FixtureRequest) -> Iterator[int]:
    """Torch's number of threads in the caller."""
    standing = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(standing)


@pytest.mark.parametrize("threads", [1, 2, 4, 20])
def test_results_come_in_the_order_of_the_items(threads: int, before: int) -> None:
    def late(item: int) -> int:
        time.sleep(0.001 * (10 - item))  # the last item is done first
        return item * item

    assert map_threads(late, range(10), threads) == [i * i for i in range(10)]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_every_worker_runs_torch_on_one_thread(count: int, threads: int, before: int) -> None:
    inside = map_threads(lambda _: torch.get_num_threads(), range(count), threads)
    assert inside == [1] * count
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_an_exception_reaches_the_caller(threads: int, before: int) -> None:
    def fail(item: int) -> int:
        if item >= 2:
            raise KeyError(f"item {item}")
        return item

    with pytest.raises(KeyError, match="item 2"):
        map_threads(fail, range(6), threads)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("count", "threads"), [(1, 4), (5, 1), (5, 0)])
def test_one_item_or_one_thread_stays_in_the_callers_thread(count: int, threads: int) -> None:
    places = map_threads(lambda _: threading.get_ident(), range(count), threads)
    assert places == [threading.get_ident()] * count


def test_several_threads_work_side_by_side() -> None:
    meeting = threading.Barrier(3, timeout=30.0)

    def wait_for_the_others(_: int) -> int:
        meeting.wait()
        return threading.get_ident()

    places = map_threads(wait_for_the_others, range(3), 3)
    assert len(set(places)) == 3
    assert threading.get_ident() not in places


@pytest.mark.parametrize("fails", [False, True])
def test_torchs_threads_come_back(fails: bool, before: int) -> None:
    def inner() -> None:
        with one_torch_thread():
            assert torch.get_num_threads() == 1
            if fails:
                raise KeyError

    if fails:
        with pytest.raises(KeyError):
            inner()
    else:
        inner()
    assert torch.get_num_threads() == before
