"""``metarl plot``: finished runs of one environment in one figure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from metarl.checks import InputError
from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.figures import comparison_figure
from metarl.experiments.outcomes import NO_SETTING, Outcome, Setting, by_environment, read_outcomes
from metarl.logger import read_metrics
from metarl.statistics import FloatArray


@dataclass(frozen=True, kw_only=True)
class PlotArgs:
    """Learning curves of finished runs, and their adaptation curves on held-out tasks.

    Runs that differ in nothing but the seed make one line. Settings of the same preset are told
    apart by the values in which they differ.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, all of one environment."""
    out: Path
    """The PNG to write."""


def plot_command(arguments: Sequence[str]) -> int:
    """Run ``metarl plot RUN_DIR... --out FILE``."""
    args = parse(PlotArgs, arguments, "plot")
    if args.out.suffix != ".png":
        raise InputError([f"--out must end in .png, got {args.out}"])
    outcomes, faults = read_outcomes(args.runs)
    if not outcomes:
        raise InputError(faults or ["metarl plot: which runs? Give their folders"])
    environments = by_environment(outcomes)
    if len(environments) > 1:
        names = "; ".join(environments)
        raise InputError([f"one figure shows one environment, these are runs of several: {names}"])
    ((environment, settings),) = environments.items()
    named = dict(zip(labels(settings), settings, strict=True))
    first = settings[0].outcomes[0]
    comparison_figure(
        args.out,
        environment.split(" (")[0],
        {name: learning_curve(setting) for name, setting in named.items()},
        {name: setting.curve() for name, setting in named.items()} | first.floors,
        first.score,
    )
    for fault in faults:
        plain_console(stderr=True).print(f"left out: {fault}")
    plain_console().print(f"wrote {args.out}")
    return 0


def learning_curve(setting: Setting) -> tuple[FloatArray, FloatArray]:
    """Return env steps [P], as a mean over seeds, and returns after adaptation [seeds, P]."""
    rows = [read_metrics(outcome.folder / "metrics.jsonl") for outcome in setting.outcomes]
    columns = ("env_steps", "meta/post_return")
    steps, returns = (np.array([[row[key] for row in run] for run in rows]) for key in columns)
    return steps.mean(0), returns


def labels(settings: Sequence[Setting]) -> list[str]:
    """Name each setting: its preset, and, where several share that, the values that differ."""
    values = [dict(_leaves(setting.outcomes[0])) for setting in settings]
    result = []
    for setting, mine in zip(settings, values, strict=True):
        same = [v for s, v in zip(settings, values, strict=True) if s.preset == setting.preset]
        keys = sorted({key for other in same for key in (*other, *mine)})
        apart = [key for key in keys if any(other.get(key) != mine.get(key) for other in same)]
        told = ", ".join(f"{key.split('.')[-1]} {mine.get(key)}" for key in apart)
        result.append(f"{setting.preset} ({told})" if told else setting.preset)
    return result


def _leaves(outcome: Outcome) -> Iterator[tuple[str, object]]:
    """Walk through all values by which settings are told apart, with their dotted names."""

    def walk(config: Mapping[str, object], above: str) -> Iterator[tuple[str, object]]:
        for key, value in config.items():
            if isinstance(value, Mapping):
                yield from walk(value, f"{above}{key}.")
            else:
                yield f"{above}{key}", value

    for key, value in walk(outcome.config, ""):
        if key not in (*NO_SETTING, "iterations"):
            yield key, value
    yield "iterations", outcome.iteration
    yield "held-out scores", outcome.per_task.shape
