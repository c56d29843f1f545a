"""A Gymnasium environment in worker processes: E copies of each of K tasks, stepped together.

The copies are shared out among workers, each a process of Gymnasium's ``AsyncVectorEnv`` that holds
several (``metarl/bundle.py``). Seeds are drawn here, by task and episode, so that results do not
depend on the number of workers. Workers are spawned, not forked: torch's threads and a GPU do not
survive a fork.
"""

import contextlib
import itertools
import multiprocessing
import signal
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from metarl.bundle import FAULT, Bundle, Recipe, Rows, Start
from metarl.checks import EnvFaultError
from metarl.envs.transfers import to_device, to_host
from metarl.seeding import Streams
from metarl.types import EnvSpec, Step, Tasks

_Async: TypeAlias = AsyncVectorEnv[Any, Any]

GUARD = (
    "what it wrote stands above. A script that trains or checks needs"
    ' `if __name__ == "__main__":` around it, because workers import it too'
)
"""What to do about a worker that dies while it starts."""

_FAREWELL_S = 2.0
"""Seconds that workers have to close their environments before they are killed."""


class Workers:
    """Worker processes that hold so many copies. Owns the processes."""

    def __init__(self, recipe: Recipe, num_copies: int, number: int, timeout: float) -> None:
        self._name, self._timeout = recipe.name, timeout
        self.number = number
        self.capacity = -(-num_copies // number)
        bundles = [partial(Bundle, recipe, self.capacity, worker) for worker in range(number)]
        try:
            self._async: _Async = AsyncVectorEnv(
                bundles, context="spawn", copy=False, autoreset_mode=AutoresetMode.DISABLED
            )
        except (EOFError, OSError) as error:
            # What is left of it ends with its last name.
            traceback.clear_frames(error.__traceback__)
            raise EnvFaultError(
                f"{recipe.name}: a worker process died while it started ({type(error).__name__});"
                f" {GUARD}"
            ) from None
        # Also when nobody calls close: at the end of the object or of the process.
        self.close = weakref.finalize(self, _end, self._async)

    @property
    def pids(self) -> tuple[int, ...]:
        """The workers' process ids."""
        return tuple(process.pid or 0 for process in self._async.processes)

    def reset(self, shares: Sequence[Sequence[Start | None]]) -> Rows:
        """Start episodes; ``shares`` has one entry for each copy of each worker."""
        with self._answered("reset"):
            self._async.reset_async(options={"shares": shares})
            rows, info = self._async.reset_wait(self._timeout)
        return self._unless_faulty(rows, info)

    def step(self, actions: Rows, when: str) -> Rows:
        """Step the copies; arrays are [workers, capacity, ...]. ``when`` is for messages."""
        with self._answered(when):
            self._async.step_async(actions)
            rows, *_, info = self._async.step_wait(self._timeout)
        return self._unless_faulty(rows, info)

    def _unless_faulty(self, rows: Rows, info: dict[str, Any]) -> Rows:
        """Return the rows, or raise with the first message that a worker sent instead."""
        messages = [message for message in info.get(FAULT, ()) if message]
        if messages:
            self.close()
            raise EnvFaultError(messages[0])
        return rows

    @contextlib.contextmanager
    def _answered(self, when: str) -> Iterator[None]:
        """Say which worker died or hangs, if one does, and leave none behind."""
        try:
            yield
        except multiprocessing.TimeoutError:
            silent = [n for n, pipe in enumerate(self._async.parent_pipes) if not pipe.poll()]
            text = f"did not answer within {self._timeout:g} s: does it never return?"
            raise self._lost(
                silent[0] if silent else 0, f"{text} (FromGymnasium.timeout)", when
            ) from None
        except (EOFError, OSError):
            place = self._dead()
            raise self._lost(place, ending(self._async.processes[place].exitcode), when) from None
        except BaseException:
            # Answers are left unread: these are no workers to keep.
            self.close()
            raise

    def _lost(self, place: int, what: str, when: str) -> EnvFaultError:
        pid = self._async.processes[place].pid
        for process in self._async.processes:
            process.kill()
        self.close()
        return EnvFaultError(
            f"{self._name}: worker {place} of {self.number} (process {pid}) {what}; at {when}"
        )

    def _dead(self) -> int:
        """Return the worker that ended. Its pipe says so a little earlier than the system does."""
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            for place, process in enumerate(self._async.processes):
                if process.exitcode is not None:
                    return place
            time.sleep(0.01)
        return 0


class GymnasiumEnv:
    """E copies of each of K tasks of a user's environment. Owns the workers."""

    def __init__(
        self, spec: EnvSpec, recipe: Recipe, timeout: float, device: str, threads: int
    ) -> None:
        self.spec, self.threads = spec, threads
        self._recipe, self._timeout, self._device = recipe, timeout, device
        self._workers: Workers | None = None
        self._tasks: Tasks | None = None
        self._shape, self._bounds, self._time = (0, 0), [0], 0
        self._obs = torch.zeros(0, 0, spec.observation_size)

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """Process ids of the workers, which live from the first ``reset`` to ``close``."""
        return () if self._workers is None else self._workers.pids

    def close(self) -> None:
        """End the workers; the next ``reset`` starts new ones."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        """Start E episodes of each task; return obs [K, E, O].

        Raises:
            EnvFaultError: the user's environment failed, its worker died, or it does not answer.
        """
        self._tasks, self._shape, self._time = tasks, (len(tasks.task_id), episodes), 0
        num_copies = self._shape[0] * episodes
        number = min(self.threads, num_copies)
        workers = self._workers
        if workers is None or workers.number != number or workers.capacity * number < num_copies:
            self.close()
        self._bounds = [num_copies * worker // number for worker in range(number + 1)]
        return self._start(np.ones(self._shape, bool), streams)

    def restart(self, copies: Tensor, streams: Streams) -> Tensor:
        """Start a new episode in ``copies`` [K, E] bool; return obs [K, E, O]."""
        return self._start(to_host(copies).astype(bool), streams)

    def step(self, action: Tensor, running: Tensor) -> Step:
        """Apply actions [K, E, A] (or [K, E] int64) to the running copies.

        Raises:
            ValueError: the actions have another shape.
            RuntimeError: nothing was reset.
            EnvFaultError: the user's environment failed, its worker died, or it does not answer.
        """
        if self._workers is None:
            raise RuntimeError(f"{self.spec.name}: step without reset")
        expected = self._shape if self.spec.discrete else (*self._shape, self.spec.action_size)
        if action.shape != expected:
            raise ValueError(f"{self.spec.name}: action is {tuple(action.shape)}, not {expected}")
        self._time += 1
        actions = {
            "action": self._spread(self._fitted(to_host(action))),
            "running": self._spread(to_host(running).astype(np.int8)),
        }
        rows = self._asked(lambda workers: workers.step(actions, f"step {self._time}"))
        never = torch.zeros(self._shape, dtype=torch.bool, device=self._device)
        return Step(
            obs=self._gathered(rows["obs"], np.float32),
            reward=self._gathered(rows["reward"], np.float32),
            terminated=self._gathered(rows["terminated"], np.bool_),
            faulty=never,
            success=self._gathered(rows["success"], np.bool_) if self._recipe.success else None,
        )

    def _start(self, copies: NDArray[np.bool_], streams: Streams) -> Tensor:
        if self._tasks is None:
            raise RuntimeError(f"{self.spec.name}: restart without reset")
        if self._workers is None:
            number = len(self._bounds) - 1
            self._workers = Workers(self._recipe, copies.size, number, self._timeout)
        starts = _starts(self._tasks, copies, streams._replace(device="cpu"))
        shares = [starts[a:b] for a, b in itertools.pairwise(self._bounds)]
        rows = self._asked(lambda workers: workers.reset(shares))
        return self._gathered(rows["obs"], np.float32)

    def _asked(self, ask: Callable[[Workers], Rows]) -> Rows:
        """Ask the workers; forget them where they failed."""
        assert self._workers is not None
        try:
            return ask(self._workers)
        except BaseException:
            self._workers = None
            raise

    def _fitted(self, action: NDArray[Any]) -> NDArray[Any]:
        """Turn the policy's actions into what the environment's space holds."""
        space = self._recipe.action
        if isinstance(space, spaces.Discrete):
            return action.astype(np.int64) + int(space.start)
        share = np.clip(action.astype(np.float64) / self.spec.action_limit, -1.0, 1.0)
        low, high = (bound.astype(np.float64).ravel() for bound in (space.low, space.high))
        fitted = (low + high) / 2.0 + (high - low) / 2.0 * share
        return fitted.astype(space.dtype)

    def _spread(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Share rows [K, E, ...] out among the workers: [workers, capacity, ...]."""
        rows = rows.reshape(-1, *rows.shape[2:])
        workers = self._workers
        assert workers is not None
        spread = np.zeros((workers.number, workers.capacity, *rows.shape[1:]), rows.dtype)
        for worker, (first, last) in enumerate(itertools.pairwise(self._bounds)):
            spread[worker, : last - first] = rows[first:last]
        return spread

    def _gathered(self, rows: NDArray[Any], dtype: type[Any]) -> Tensor:
        """Put rows [workers, capacity, ...] together: a new tensor [K, E, ...]."""
        pairs = enumerate(itertools.pairwise(self._bounds))
        parts = [rows[worker, : last - first] for worker, (first, last) in pairs]
        whole = np.concatenate(parts).astype(dtype)
        return to_device(whole, self._device).reshape(*self._shape, *whole.shape[1:])


def _starts(tasks: Tasks, copies: NDArray[np.bool_], streams: Streams) -> list[Start | None]:
    """Return the beginnings of all K x E copies, None for those that are not chosen."""
    num_tasks, episodes = copies.shape
    # Two draws of 24 bits make a seed of 31, which every generator takes.
    words = (streams.uniform("seed", num_tasks, (episodes, 2)).double().numpy() * 2**24).astype(int)
    seeds = (words[..., 0] << 7) + (words[..., 1] >> 17)
    leaves = {name: leaf.cpu().numpy() for name, leaf in tasks.parameter.items()}
    starts: list[Start | None] = []
    for place in range(num_tasks):
        task = {n: x[place] if x.ndim > 1 else float(x[place]) for n, x in leaves.items()}
        for episode in range(episodes):
            label = f"task {place + streams.first_task}, episode {episode}"
            start = Start(task, int(seeds[place, episode]), label)
            starts.append(start if copies[place, episode] else None)
    return starts


def ending(exitcode: int | None) -> str:
    """Say how a process ended."""
    if exitcode is None or exitcode >= 0:
        return f"ended with exit code {exitcode}"
    return f"was killed by {signal.Signals(-exitcode).name} (exit code {exitcode})"


def _end(workers: _Async) -> None:
    """Ask the workers to leave, and kill those that do not."""
    for pipe in workers.parent_pipes:
        with contextlib.suppress(OSError, AttributeError):
            pipe.send(("close", None))
    end = time.monotonic() + _FAREWELL_S
    for process in workers.processes:
        process.join(max(0.0, end - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    for pipe in workers.parent_pipes:
        if pipe is not None:
            pipe.close()
    workers.closed = True
