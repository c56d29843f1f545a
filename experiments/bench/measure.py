"""Measuring: trials in turn, medians with their spread, and what an agent's calls take."""

import contextlib
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from metarl.envs.physics import default_threads
from metarl.processes import processes_of
from metarl.protocols import Algorithm, HasMemory
from metarl.types import Acted, Adapted, Metrics, Outcome, Trajectories

_T = TypeVar("_T")


class Figure(NamedTuple):
    """One quantity, measured in several rounds."""

    unit: str
    median: float
    low: float
    """The smallest of the rounds."""
    high: float
    """The largest of the rounds."""


Figures: TypeAlias = dict[str, Figure]

SECONDS, STEP_RATE, TASK_RATE = "s", "env steps/s", "tasks/s"
SHARE, TIMES, MEBIBYTES = "share", "times", "MiB"


def figure(unit: str, values: Sequence[float]) -> Figure:
    """Summarise the rounds of one quantity."""
    return Figure(unit, statistics.median(values), min(values), max(values))


def wait_for(device: str) -> None:
    """Wait until a GPU has done what it was given; elsewhere a call returns when it has done it."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str) -> float:
    """Return the seconds that ``work`` takes, to its end on the device."""
    wait_for(device)
    began = time.perf_counter()
    work()
    wait_for(device)
    return time.perf_counter() - began


def in_turn(trials: Mapping[str, Callable[[], _T]], rounds: int) -> dict[str, list[_T]]:
    """Run each trial once to warm up, then all of them in turn, once per round.

    What slows a shared machine down for a while then slows all of them down alike, and their ratios
    within a round stay true.
    """
    for trial in trials.values():
        trial()
    results: dict[str, list[_T]] = {name: [] for name in trials}
    for _ in range(rounds):
        for name, trial in trials.items():
            results[name].append(trial())
    return results


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Divide round by round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def peak_memory(device: str) -> Figures:
    """Return the most memory that this process has held so far, on the host and on a GPU."""
    # The kernel counts in kB, on macOS in bytes.
    scale = 2**20 if sys.platform == "darwin" else 2**10
    peaks = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale}
    if device == "cuda":
        peaks["device"] = torch.cuda.max_memory_allocated() / 2**20
    return {name: figure(MEBIBYTES, [peak]) for name, peak in peaks.items()}


def hardware() -> dict[str, object]:
    """Return what tells one machine from another, next to ``metarl.runs.system_facts``."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _processor(), "usable_cores": default_threads(), "gpu": gpu}


def timed(agent: Algorithm, device: str) -> "TimedAgent":
    """Time an agent, which keeps its memory if it has one."""
    if isinstance(agent, HasMemory):
        return _TimedAgentWithMemory(agent, device)
    return TimedAgent(agent, device)


class TimedAgent:
    """An agent whose calls are timed, by kind."""

    def __init__(self, agent: Algorithm, device: str) -> None:
        self._agent, self._device = agent, device
        self.processes = processes_of(agent)
        self._seconds: dict[str, float] = {}

    def take_seconds(self) -> dict[str, float]:
        """Return the seconds of each kind of call since the last time, and count anew."""
        taken, self._seconds = self._seconds, {}
        return taken

    def begin(self, num_tasks: int, episodes: int) -> Adapted:
        """Pass on, untimed: it copies weights."""
        return self._agent.begin(num_tasks, episodes)

    def act(self, adapted: Adapted, obs: Tensor, noise: Tensor) -> Acted:
        """Pass on; counted as "acting"."""
        with self._timed("acting"):
            return self._agent.act(adapted, obs, noise)

    def adapt(self, adapted: Adapted, batch: Trajectories) -> Adapted:
        """Pass on; counted as "adaptation"."""
        with self._timed("adaptation"):
            return self._agent.adapt(adapted, batch)

    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        """Pass on; counted as "update"."""
        with self._timed("update"):
            return self._agent.meta_update(rounds)

    def state_dict(self) -> dict[str, Tensor]:
        """Pass on."""
        return self._agent.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Pass on."""
        self._agent.load_state_dict(state)

    @contextmanager
    def _timed(self, kind: str) -> Iterator[None]:
        wait_for(self._device)
        began = time.perf_counter()
        yield
        wait_for(self._device)
        self._seconds[kind] = self._seconds.get(kind, 0.0) + time.perf_counter() - began


class _TimedAgentWithMemory(TimedAgent):
    def __init__(self, agent: HasMemory, device: str) -> None:
        super().__init__(agent, device)
        self._remember = agent.remember

    def remember(self, before: Adapted, acted: Acted, outcome: Outcome) -> Adapted:
        """Pass on; counted as "acting"."""
        with self._timed("acting"):
            return self._remember(before, acted, outcome)


def as_json(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Return figures as plain data."""
    return {name: entry._asdict() for name, entry in figures.items()}


def _processor() -> str:
    """Return the name of the processor, as far as the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n"):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
