"""The targets that a machine with a GPU must meet, measured on it.

Everything takes its device as an argument, so that the same code runs, small, on a CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import torch
from rich.console import Console

from metarl.checks import COUNT, InputError, check_fields
from metarl.envs.physics import default_threads
from metarl.experiments.bench.measure import (
    STEP_RATE,
    TIMES,
    Figure,
    as_json,
    figure,
    hardware,
    in_turn,
    peak_memory,
)
from metarl.experiments.bench.phases import (
    bench_iteration,
    bench_update,
    first_round,
    sampling_trial,
)
from metarl.experiments.experiment import Device, Experiment
from metarl.experiments.presets import preset
from metarl.parallel import torch_threads
from metarl.runs import Config, system_facts

FORMAT = "metarl-bench-gpu-1"
_CPU_THREADS = 2
_Measure: TypeAlias = Callable[[Experiment, Device, int], Figure]


@dataclass(frozen=True, kw_only=True)
class GpuRequest:
    """The GPU's targets: measured, and whether they are met."""

    rounds: int = 5
    """Timed repetitions of each, after one to warm up."""

    def __post_init__(self) -> None:
        check_fields(self, {"rounds": COUNT})


class Workloads(NamedTuple):
    """The experiments that the targets are about."""

    half_cheetah: Experiment
    navigation: Experiment
    bandit: Experiment


class Target(NamedTuple):
    """One target: its figure must reach it in the median."""

    name: str
    target: float
    measured: Figure
    conditions: str
    """What the figure depends on and the name does not say."""

    @property
    def met(self) -> bool:
        """Whether the median is at least the target."""
        return self.measured.median >= self.target


def published_workloads() -> Workloads:
    """Return half-cheetah as published, and tensor environments large enough to fill a GPU."""
    return Workloads(
        preset("maml-trpo/half-cheetah-dir"),
        replace(preset("maml-trpo/navigation"), tasks_per_update=1_000, episodes=100),
        replace(preset("maml-trpo/bandit"), tasks_per_update=10_000, episodes=100),
    )


def update_speedup(experiment: Experiment, device: Device, rounds: int) -> Figure:
    """Return how many times as fast an update is on a device as on two threads of the CPU.

    The range puts the slowest round of one beside the fastest of the other.
    """
    there = bench_update(replace(experiment, device=device), rounds)["meta_update"]
    with torch_threads(_CPU_THREADS):
        here = bench_update(replace(experiment, device="cpu"), rounds)["meta_update"]
    return Figure(TIMES, here.median / there.median, here.low / there.high, here.high / there.low)


def all_in_rate(experiment: Experiment, device: Device, rounds: int) -> Figure:
    """Return the env steps per second of whole meta-iterations, updates included."""
    return bench_iteration(replace(experiment, device=device), rounds)["all_in"]


def sampling_rate(experiment: Experiment, device: Device, rounds: int) -> Figure:
    """Return the env steps per second of sampling, policy included."""
    trial = sampling_trial(first_round(replace(experiment, device=device)))
    return figure(STEP_RATE, in_turn({"sampling": trial}, rounds)["sampling"])


def measure_targets(
    workloads: Workloads, device: Device, rounds: int, console: Console
) -> list[Target]:
    """Measure every target, one after the other; ``console`` is told which."""
    cheetah, navigation, bandit = workloads
    cores = f"{cheetah.threads or default_threads()} cores; the target is for 16"
    table: list[tuple[str, float, _Measure, Experiment, str]] = [
        ("half-cheetah update, over 2 CPU threads", 10.0, update_speedup, cheetah, _size(cheetah)),
        ("half-cheetah, whole iteration", 240_000.0, all_in_rate, cheetah, cores),
        ("navigation, sampling", 10e6, sampling_rate, navigation, _size(navigation)),
        ("bandit, sampling", 10e6, sampling_rate, bandit, _size(bandit)),
    ]
    targets = []
    for name, target, measure, experiment, conditions in table:
        console.print(f"measuring {name} ...")
        targets.append(Target(name, target, measure(experiment, device, rounds), conditions))
    return targets


def bench_gpu(request: GpuRequest, console: Console) -> Config:
    """Measure the targets; return what ``--json`` prints.

    Raises:
        InputError: torch sees no GPU here.
    """
    if not torch.cuda.is_available():
        raise InputError(["no CUDA device: bench gpu measures a GPU, and torch sees none here"])
    targets = measure_targets(published_workloads(), "cuda", request.rounds, console)
    return targets_json(targets, request.rounds, "cuda")


def targets_json(targets: list[Target], rounds: int, device: Device) -> Config:
    """Return the targets as plain data, with the facts of the machine."""
    return {
        "format": FORMAT,
        "rounds": rounds,
        "targets": [
            target._asdict() | {"measured": target.measured._asdict(), "met": target.met}
            for target in targets
        ],
        "memory": as_json(peak_memory(device)),
        "system": system_facts() | hardware(),
    }


def _size(experiment: Experiment) -> str:
    horizon = experiment.env.horizon
    return f"{experiment.tasks_per_update} tasks x {experiment.episodes} episodes x {horizon} steps"
