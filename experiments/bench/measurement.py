"""Benchmarks of an experiment: what is asked for, and one JSON object with all that was found."""

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from metarl.checks import COUNT, COUNT_OR_ZERO, InputError, check_fields, unknown
from metarl.envs.physics import default_threads
from metarl.experiments.bench.compare import FORMAT, compare, read_benchmark, refuse_other_work
from metarl.experiments.bench.measure import Figures, as_json, hardware, peak_memory
from metarl.experiments.bench.phases import PHASES, PhaseName, bench_iteration
from metarl.experiments.experiment import Experiment, threads_for, to_dict
from metarl.experiments.group import claim_machine
from metarl.processes import ALONE, Processes
from metarl.runs import Config, system_facts


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """What is measured, how often, and what it is put beside."""

    phases: tuple[PhaseName, ...] = typing.get_args(PhaseName)
    """What to measure."""
    rounds: int = 5
    """Timed repetitions of each, after one to warm up."""
    peers: bool = False
    """Step the same environment in SB3's and Gymnasium's vector environments too."""
    peer_envs: int = 0
    """Copies that a peer steps, with a process each where it has processes; 0 for one per core."""
    compare: Path | None = None
    """JSON of an earlier benchmark, written by --out, to compare with."""

    def __post_init__(self) -> None:
        known = typing.get_args(PhaseName)
        strangers = [name for name in self.phases if name not in known]
        check_fields(
            self,
            {"rounds": COUNT, "peer_envs": COUNT_OR_ZERO},
            None if self.phases else f"phases must not be empty; known: {', '.join(known)}",
            *(unknown("phases", name, known) for name in strangers),
        )


def bench(
    experiment: Experiment,
    request: BenchRequest,
    console: Console,
    processes: Processes = ALONE,
) -> Config:
    """Measure an experiment; return what ``--json`` prints.

    Args:
        experiment: what to measure.
        request: which phases, how often.
        console: told which phase is being measured.
        processes: those that share the tasks; several of them measure whole iterations alone.

    Raises:
        InputError: a file that the request needs is not as it should be; nothing has been measured
            then.
    """
    config, work = to_dict(experiment), dict(PHASES)
    if processes.size > 1:
        if request.phases != ("iteration",) or request.peers:
            raise InputError(["several processes measure nothing but --phases iteration"])
        claim_machine(experiment, processes)
        work["iteration"] = partial(bench_iteration, processes=processes)
    earlier = None if request.compare is None else read_benchmark(request.compare)
    if earlier is not None:
        refuse_other_work(earlier, config, request.phases)
    phases: dict[str, Figures] = {}
    for name in [known for known in PHASES if known in request.phases]:
        console.print(f"measuring {name} ...")
        phases[name] = work[name](experiment, request.rounds)
    result = _result(experiment, request, phases, processes)
    if request.peers:
        console.print("measuring peers ...")
        result |= _peers(experiment, request)
    return result if earlier is None else result | {"comparison": compare(earlier, result)}


def _result(
    experiment: Experiment,
    request: BenchRequest,
    phases: Mapping[str, Figures],
    processes: Processes,
) -> Config:
    return {
        "format": FORMAT,
        "preset": experiment.preset,
        "config": to_dict(experiment),
        "rounds": request.rounds,
        "phases": {name: as_json(figures) for name, figures in phases.items()},
        "memory": as_json(peak_memory(experiment.device)),
        "processes": processes.size,
        "physics_threads": threads_for(experiment, processes),
        "system": system_facts() | hardware(),
    }


def _peers(experiment: Experiment, request: BenchRequest) -> Config:
    from metarl.experiments.bench.peers import bench_peers  # noqa: PLC0415  loads SB3: seconds

    num_envs = request.peer_envs or default_threads()
    figures = bench_peers(experiment, request.rounds, num_envs)
    if not figures:
        return {"peers": {}, "peers_note": "no peer steps environments of this family"}
    return {"peers": as_json(figures), "peer_envs": num_envs}
