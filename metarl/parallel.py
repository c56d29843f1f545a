"""Who uses the cores: torch's threads, or others."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch's operations use so many threads, and put back what was there before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def one_torch_thread(*, when: bool = True) -> Iterator[None]:
    """Keep torch's operations to the thread that calls them, and give the cores back after.

    Torch's idle threads spin for a while after every operation, on cores that others may need; and
    where operations are short, threads within them only wait for one another.
    """
    with torch_threads(1) if when else nullcontext():
        yield
