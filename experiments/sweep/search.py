"""``metarl search``: values within the ranges of a spec, drawn by Optuna, tried with all seeds."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from metarl.checks import COUNT, COUNT_OR_ZERO, SEED, InputError, check_fields, fault_in_choice
from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.experiment import FREE_FIELDS
from metarl.experiments.group import StopRequest
from metarl.experiments.sweep.command import claimed, launch
from metarl.experiments.sweep.plan import LaunchRequest, SlurmConfig
from metarl.experiments.sweep.search_batch import BatchFailedError, Search, go_through, rungs
from metarl.experiments.sweep.search_result import print_trials, ranked, write_best
from metarl.experiments.sweep.spec import SweepSpec, configured, read_spec
from metarl.plain_data import plain
from metarl.runs import Config

if TYPE_CHECKING:
    from metarl.experiments.sweep.search_study import Study

_STUDY, _BEST = "search.db", "best.yaml"
_VALIDATION, _TRAINING = "validation/post_return", "meta/post_return"


@dataclass(frozen=True, kw_only=True)
class SearchArgs:
    """Look for the values that learn best, within the ranges under ``search`` of a spec.

    The same command goes on where it was broken off; with more trials it goes on from its end.
    """

    spec: tyro.conf.Positional[Path]
    """YAML file of the search (docs/search.md)."""
    out: Path | None = None
    """Folder of the search; by default searches/ and its name."""
    trials: int = 20
    """Trials in all; each is a run for every seed of the spec."""
    objective: str = _VALIDATION
    """What is to be high: validation/post_return, on tasks drawn for validation, or
    meta/post_return, on those of training. Held-out tasks play no part."""
    batch: int = 4
    """Trials drawn together; each batch learns from those before it."""
    prune: bool = False
    """Give trials up that are below the median at a quarter or at half of the way."""
    seed: int = 1
    """Seed of the draws."""
    launcher: Literal["local", "ray"] = "local"
    """Where the runs take place."""
    jobs: int = 0
    """Runs at a time; 0 for as many as the cores allow."""
    threads: int = 0
    """Threads of each run; 0 shares the cores among the runs at a time."""
    retries: int = 0
    """How often a run that failed is started again before its trial is given up."""

    def __post_init__(self) -> None:
        rules = dict.fromkeys(("jobs", "threads", "retries"), COUNT_OR_ZERO)
        rules |= {"trials": COUNT, "batch": COUNT, "seed": SEED}
        check_fields(self, rules, fault_in_choice(self, "objective", (_VALIDATION, _TRAINING)))


def search_command(arguments: Sequence[str]) -> int:
    """Run ``metarl search SPEC.yaml [flags]``."""
    args = parse(SearchArgs, arguments, "search")
    spec = read_spec(args.spec)
    if lines := [*_faults(spec, args)]:
        raise InputError(f"{args.spec}: {line}" for line in lines)
    out = Path("searches", spec.name) if args.out is None else args.out
    with claimed(out, _STUDY), StopRequest() as stop:
        search = _search(spec, args, out, stop)
        stop.patient = True
        try:
            go_through(search, args.trials, args.batch)
        except BatchFailedError as error:
            search.notes.print(f"{error}\nno run of a batch came to its end; its trials stay open")
            return 1
        if stop.number is not None:
            search.notes.print(f"stopped by signal {stop.number}. The same command goes on.")
            return 128 + stop.number
        return _report(search, args)


def _report(search: Search, args: SearchArgs) -> int:
    """Say what came of it; return the exit status."""
    trials = search.study.trials
    print_trials(trials, search.spec, search.objective, plain_console())
    best = ranked(trials)
    if not best:
        search.notes.print("no trial came to its end")
        return 1
    file = search.out / _BEST
    write_best(best[0], search.spec, search.objective, file)
    search.notes.print(f"the best one with fresh seeds: metarl sweep {file}")
    return 0


def _search(spec: SweepSpec, args: SearchArgs, out: Path, stop: StopRequest) -> Search:
    """Open what the search remembers, and say how its runs are made."""
    notes = plain_console(stderr=True)
    asked = LaunchRequest(out, args.jobs, args.threads, args.retries, stop, SlurmConfig())
    return Search(
        spec=spec,
        study=_study(spec, args, out),
        out=out,
        objective=args.objective,
        prune=args.prune,
        launch=lambda jobs: launch(jobs, args.launcher, asked, notes),
        interrupted=lambda: stop.number is not None,
        notes=notes,
    )


def _study(spec: SweepSpec, args: SearchArgs, out: Path) -> "Study":
    try:
        from metarl.experiments.sweep.search_study import Study  # noqa: PLC0415 - an extra
    except ImportError as error:
        said = "metarl search needs Optuna: pip install 'metarl-suite[search]'"
        raise InputError([said]) from error
    ranges = {key: plain(dataclasses.asdict(range_)) for key, range_ in spec.search.items()}
    settings: Config = {
        "preset": spec.presets[0],
        "seeds": list(spec.seeds),
        "set": plain(spec.set),
        "search": ranges,
        "objective": args.objective,
        "batch": args.batch,
        "prune": args.prune,
        "seed": args.seed,
    }
    return Study.open(out / _STUDY, spec.search, args.seed, settings)


def _faults(spec: SweepSpec, args: SearchArgs) -> Iterator[str]:
    """Yield what a search cannot do with a spec."""
    if not spec.search:
        yield "search must hold at least one range, such as agent.inner_lr: {low: 0.01, high: 1}"
    if len(spec.presets) != 1:
        yield f"presets must hold one preset in a search, got {len(spec.presets)}"
    if spec.grid:
        yield "grid has no place in a search: write search: {field: {choices: [...]}}"
    for key in spec.search:
        if key in FREE_FIELDS:
            yield f"search.{key} has no place here: all trials train alike; say it under set"
    preset, seed = spec.presets[0], spec.seeds[0]
    for key, allowed in spec.search.items():
        if allowed.low is None or allowed.high is None or allowed.integer:
            continue
        try:
            configured(preset, seed, {**spec.set, key: (allowed.low + allowed.high) / 2})
        except InputError as error:
            yield from (f"search.{key}: {line}" for line in error.lines)
    experiment = configured(preset, seed, spec.set)
    compared = (*(rungs(experiment.iterations) if args.prune else ()), experiment.iterations)
    every, needed = experiment.evaluate_every, compared[0]
    if args.objective == _VALIDATION and not 0 < every <= needed:
        yield (
            f"{_VALIDATION} is to be compared after {needed} meta-iterations, and evaluate_every"
            f" is {every}: set it to {needed} or less, or choose --objective {_TRAINING}"
        )
