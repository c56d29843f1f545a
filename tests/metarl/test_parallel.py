"""Torch on one thread, for a while."""

from collections.abc import Iterator

import pytest
import torch

from metarl.parallel import one_torch_thread


@pytest.fixture(params=[1, 3], autouse=True)
def before(request: pytest.FixtureRequest) -> Iterator[int]:
    """Torch's number of threads in the caller."""
    standing = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(standing)


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


def test_nothing_changes_where_it_should_not(before: int) -> None:
    with one_torch_thread(when=False):
        assert torch.get_num_threads() == before
