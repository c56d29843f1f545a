"""Processes that share the tasks of each meta-iteration, as torchrun starts them.

Every process draws the same K tasks, meets its own share of them, and adds up with the others what
was computed on the shares; all then take the same step. What travels are tensors, never objects:
nothing here can run code that came over the network.
"""

import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor

from metarl.checks import Allowed, InputError

if TYPE_CHECKING:
    # Some builds of torch, such as those for small boards, have nothing of this at run time.
    from torch.distributed.distributed_c10d import Store

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others in one exchange, before it takes them for lost."""

_COUNTS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
_VARIABLES = (*_COUNTS, "MASTER_ADDR")


class PeerLostError(RuntimeError):
    """Another process of the group ended or could not be reached; this one cannot go on alone."""


class Place(NamedTuple):
    """Where the tasks of this process stand among those of all."""

    first: int
    """Slot of the first."""
    num_tasks: int
    """K, of all processes together."""


class Processes:
    """One of several processes that work on the same meta-iteration; owns the way to the others.

    Every method that exchanges something must be called by all of them, in the same order.
    """

    def __init__(
        self, rank: int = 0, size: int = 1, local_rank: int = 0, local_size: int = 1
    ) -> None:
        self.rank, self.size = rank, size
        """Number of this process, from 0 on, and how many there are."""
        self.local_rank, self.local_size = local_rank, local_size
        """The same within this machine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def leads(self) -> bool:
        """Whether this is the first process, which alone writes and speaks."""
        return self.rank == 0

    def share(self, num_tasks: int) -> slice:
        """Return which of K tasks are this process's: consecutive, shares differ by at most one.

        Raises:
            InputError: there are fewer tasks than processes.
        """
        if num_tasks < self.size:
            raise InputError(
                [
                    f"{num_tasks} tasks cannot be shared by {self.size} processes: each needs at"
                    " least one; raise tasks_per_update or start fewer processes"
                ]
            )
        return slice(self.rank * num_tasks // self.size, (self.rank + 1) * num_tasks // self.size)

    def place(self, num_mine: int) -> Place:
        """Return where this process's so many tasks stand among those of all."""
        counts = torch.zeros(self.size, dtype=torch.int64)
        counts[self.rank] = num_mine
        numbers = self.total(counts).tolist()
        return Place(sum(numbers[: self.rank]), sum(numbers))

    def total(self, share: Tensor) -> Tensor:
        """Add up a tensor over all processes: the same bits in each. ``share`` is left alone.

        Raises:
            PeerLostError: another process is gone, or did not answer in time.
        """
        if self.size == 1:
            return share
        result, here = self._outgoing(share), share.device
        with self._exchange():
            dist.all_reduce(result, dist.ReduceOp.SUM)
        return result.to(here)

    def highest(self, *numbers: int) -> list[int]:
        """Return the highest of each of these numbers over all processes.

        Raises:
            PeerLostError: as ``total``.
        """
        if self.size == 1:
            return list(numbers)
        result = self._outgoing(torch.tensor(numbers, dtype=torch.int64))
        with self._exchange():
            dist.all_reduce(result, dist.ReduceOp.MAX)
        return [int(number) for number in result.tolist()]

    def from_first(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the first process's values of tensors that have the same shapes in each.

        Raises:
            PeerLostError: as ``total``.
        """
        if self.size == 1:
            return list(tensors)
        results = [self._outgoing(tensor) for tensor in tensors]
        with self._exchange():
            for result in results:
                dist.broadcast(result, src=0)
        return [result.to(tensor.device) for result, tensor in zip(results, tensors, strict=True)]

    def agree(self, digest: str) -> bool:
        """Whether all processes hold the same digest, by its first 15 hex digits."""
        number = int(digest[:15], 16)
        high, low = self.highest(number, -number)
        return high == number == -low

    def close(self) -> None:
        """Leave the group, if ``connect`` made it; closing twice does no harm."""

    def _outgoing(self, tensor: Tensor) -> Tensor:
        # A group made elsewhere may know no way between CPUs.
        target = "cuda" if dist.get_backend() == "nccl" else tensor.device
        return tensor.detach().to(target, copy=True).contiguous()

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = str(error).splitlines()[0].split(". ")[0]
            raise PeerLostError(
                f"process {self.rank} of {self.size} lost the others: {reason}"
            ) from error


ALONE = Processes()
"""One process that does everything by itself."""


class _OwnGroup(Processes):
    """Processes whose group was made here, and ends here."""

    def close(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()


@runtime_checkable
class SharesTasks(Protocol):
    """An agent that may meet a share of the tasks: its meta-update adds up over ``processes``."""

    processes: Processes


def processes_of(agent: object) -> Processes:
    """Return the processes that an agent adds up over; ``ALONE`` for one that never does.

    Several processes each train such an agent on all tasks: the same weights, and nothing gained.
    """
    return agent.processes if isinstance(agent, SharesTasks) else ALONE


def connect(environment: Mapping[str, str] = os.environ) -> Processes:
    """Join the processes that torchrun started with this one; ``ALONE`` where it started none.

    A group that is there already, as within Ray Train, is taken and left as it is. Tensors travel
    by gloo between CPUs and by NCCL between GPUs, of which each process takes its own.

    Raises:
        InputError: torchrun's variables are there in part, or one has no sense.
        PeerLostError: the others did not come within ``TIMEOUT``.
    """
    if not any(name in environment for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")):
        return ALONE
    if not dist.is_available():
        raise InputError(["this build of torch knows no other processes: unset RANK, WORLD_SIZE"])
    place = _read(environment)
    _, size, local_rank, _ = place
    gpus = torch.cuda.device_count()
    if local_rank < gpus:
        torch.cuda.set_device(local_rank)
    if dist.is_initialized():
        return Processes(*place)
    if size == 1:
        return ALONE
    group = _OwnGroup(*place)
    backend = "cpu:gloo,cuda:nccl" if gpus and dist.is_nccl_available() else "gloo"
    with group._exchange():
        store = _meet(_store(environment, group.rank), group)
        dist.init_process_group(
            backend, store=store, rank=group.rank, world_size=size, timeout=TIMEOUT
        )
    return group


def _store(environment: Mapping[str, str], rank: int) -> "Store":
    """Return the store at which the processes leave their addresses: torchrun's, or the first's."""
    hosted = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store: Store = dist.TCPStore(  # type: ignore[attr-defined]
        environment["MASTER_ADDR"],
        int(environment["MASTER_PORT"]),
        is_master=rank == 0 and not hosted,
        timeout=TIMEOUT,
        wait_for_workers=False,
    )
    return store


def _meet(store: "Store", group: Processes) -> "Store":
    """Return a part of the store that only the processes of this very start share.

    After a restart torchrun's store still holds the addresses of the dead, and no number of the
    attempt that all machines agree on (pytorch issue 135712). So every process leaves a new token,
    and the first one answers each token that it finds with its own, until all have read that.
    """
    mine = uuid.uuid4().hex
    if group.rank:
        store.set(f"metarl/hello/{group.rank}", mine)
        start = store.get(f"metarl/welcome/{mine}").decode()
        store.set(f"metarl/{start}/{group.rank}", "here")
        return dist.PrefixStore(start, store)  # type: ignore[attr-defined]
    waiting = set(range(1, group.size))
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while waiting:
        for rank in sorted(waiting):
            if store.check([f"metarl/hello/{rank}"]):
                token = store.get(f"metarl/hello/{rank}").decode()
                store.set(f"metarl/welcome/{token}", mine)
        waiting = {rank for rank in waiting if not store.check([f"metarl/{mine}/{rank}"])}
        if time.monotonic() > deadline:
            raise dist.DistStoreError(f"processes {sorted(waiting)} did not come")
        time.sleep(0.01)
    return dist.PrefixStore(mine, store)  # type: ignore[attr-defined]


def _read(environment: Mapping[str, str]) -> tuple[int, int, int, int]:
    """Return rank, size, local rank and local size."""
    missing = [name for name in _VARIABLES if not environment.get(name)]
    if missing:
        there = [name for name in _VARIABLES if name in environment]
        raise InputError(
            [
                f"{' and '.join(there)} set, but not {' or '.join(missing)}: torchrun sets all of"
                f" them; unset {', '.join(there)} to run one process"
            ]
        )
    numbers = {}
    for name in _COUNTS:
        text = environment[name]
        numbers[name] = int(text) if text.isascii() and text.isdecimal() else -1
    size, local_size = numbers["WORLD_SIZE"], numbers["LOCAL_WORLD_SIZE"]
    allowed = {
        "WORLD_SIZE": _between(1, 2**20),
        "RANK": _between(0, size - 1),
        "LOCAL_WORLD_SIZE": _between(1, size),
        "LOCAL_RANK": _between(0, local_size - 1),
        "MASTER_PORT": _between(1, 65535),
    }
    lines = [
        f"{name} must be {rule.text}, got {environment[name]!r}"
        for name, rule in allowed.items()
        if not rule.accepts(numbers[name])
    ]
    if lines:
        raise InputError(lines)
    return numbers["RANK"], size, numbers["LOCAL_RANK"], local_size


def _between(low: int, high: int) -> Allowed:
    return Allowed(low, high, f"a whole number from {low} to {high}", whole=True)
