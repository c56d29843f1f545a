"""``metarl bench``: its arguments, and who measures and prints what."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

from metarl.checkpoint import write_json
from metarl.checks import InputError
from metarl.experiments.arguments import ResultArgs, parse, plain_console, preset_argument
from metarl.experiments.bench.envs import EnvsRequest, bench_envs
from metarl.experiments.bench.gpu import GpuRequest, bench_gpu
from metarl.experiments.bench.measurement import BenchRequest, bench
from metarl.experiments.bench.scaling import (
    ScalingRequest,
    bench_scaling,
    panels_of,
    read_cells,
)
from metarl.experiments.bench.tables import (
    print_benchmark,
    print_envs,
    print_scaling,
    print_targets,
)
from metarl.experiments.experiment import Experiment
from metarl.experiments.figures import scaling_figure
from metarl.experiments.group import as_one
from metarl.processes import connect
from metarl.runs import Config


@dataclass(frozen=True, kw_only=True)
class BenchArgs(BenchRequest, ResultArgs):
    """Measure an experiment's speed: medians and spreads of repeated rounds."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]

    def __post_init__(self) -> None:
        BenchRequest.__post_init__(self)
        ResultArgs.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class GpuArgs(GpuRequest, ResultArgs):
    """Measure what a machine with a GPU must reach, and say whether it does."""

    def __post_init__(self) -> None:
        GpuRequest.__post_init__(self)
        ResultArgs.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class ScalingArgs(ScalingRequest, ResultArgs):
    """Measure one meta-iteration for growing numbers of tasks; --out also draws a figure."""

    def __post_init__(self) -> None:
        ScalingRequest.__post_init__(self)
        ResultArgs.__post_init__(self)
        if self.out is not None and self.out.suffix == ".png":
            raise InputError(
                [f"--out must be the JSON, beside which the figure goes; got {self.out}"]
            )


@dataclass(frozen=True, kw_only=True)
class EnvsArgs(EnvsRequest, ResultArgs):
    """Measure every environment under random actions, beside the physics alone."""

    def __post_init__(self) -> None:
        EnvsRequest.__post_init__(self)
        ResultArgs.__post_init__(self)


def bench_command(arguments: Sequence[str]) -> int:
    """Run ``metarl bench PRESET|envs|gpu|scaling PRESET [flags]``."""
    first, rest = arguments[:1], arguments[1:]
    if first in (["envs"], ["gpu"], ["scaling"]):
        return {"envs": _bench_envs, "gpu": _bench_gpu, "scaling": _bench_scaling}[first[0]](rest)
    with connect() as processes:
        with as_one(processes):
            experiment, flags = preset_argument("bench", arguments)
            default = BenchArgs(experiment=experiment)
            args = parse(BenchArgs, flags, f"bench {experiment.preset}", default)
        notes = plain_console(stderr=True, quiet=not processes.leads)
        result = bench(args.experiment, args, notes, processes)
        return _deliver(result, args, print_benchmark) if processes.leads else 0


def _bench_envs(flags: Sequence[str]) -> int:
    args = parse(EnvsArgs, flags, "bench envs")
    result = bench_envs(args, plain_console(stderr=True))
    return _deliver(result, args, print_envs)


def _bench_gpu(flags: Sequence[str]) -> int:
    args = parse(GpuArgs, flags, "bench gpu")
    result = bench_gpu(args, plain_console(stderr=True))
    return _deliver(result, args, print_targets)


def _bench_scaling(arguments: Sequence[str]) -> int:
    """Run ``metarl bench scaling PRESET [flags] [-- flags of metarl bench]``."""
    experiment, flags = preset_argument("bench scaling", arguments)
    cut = flags.index("--") if "--" in flags else len(flags)
    args = parse(ScalingArgs, flags[:cut], f"bench scaling {experiment.preset}")
    console = plain_console(stderr=True)
    result = bench_scaling(experiment.preset, flags[cut + 1 :], args, console)
    if args.out is not None:
        picture = args.out.with_suffix(".png")
        title = f"{experiment.preset}: one meta-iteration"
        scaling_figure(picture, title, panels_of(read_cells(result)), args.tasks)
    return _deliver(result, args, print_scaling)


def _deliver(
    result: Config, args: ResultArgs, print_tables: Callable[[Config, Console], None]
) -> int:
    if args.out is not None:
        write_json(args.out, result)
    if args.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        print_tables(result, plain_console())
    return 0
