"""Work on threads of its own, for operations that let go of Python's lock."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

_ItemT = TypeVar("_ItemT")
_ResultT = TypeVar("_ResultT")


def map_threads(
    work: Callable[[_ItemT], _ResultT], items: Sequence[_ItemT], threads: int
) -> list[_ResultT]:
    """Apply ``work`` to each item, on at most so many threads; results in the order of the items.

    Each thread runs torch's operations alone: many small operations side by side need no barrier
    after each, where threads within an operation wait for one another. Gradients are recorded in a
    thread unless ``work`` turns that off: torch keeps that switch per thread.
    """
    with one_torch_thread():
        if min(threads, len(items)) < 2:
            return [work(item) for item in items]
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, items))


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep torch's operations to the thread that calls them, and give the cores back after.

    Torch's idle threads spin for a while after every operation, on cores that others need.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
