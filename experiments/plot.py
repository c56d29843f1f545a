"""``metarl plot``: finished runs of one environment in one figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from metarl.checks import InputError
from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.figures import comparison_figure
from metarl.experiments.outcomes import Setting, labels, read_settings, shared_floors
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
    environments = read_settings(args.runs, plain_console(stderr=True))
    if len(environments) > 1:
        names = "; ".join(environments)
        raise InputError([f"one figure shows one environment, these are runs of several: {names}"])
    ((environment, settings),) = environments.items()
    named = dict(zip(labels(settings), settings, strict=True))
    comparison_figure(
        args.out,
        environment.split(" (")[0],
        {name: learning_curve(setting) for name, setting in named.items()},
        {name: setting.curve() for name, setting in named.items()} | shared_floors(settings),
        settings[0].outcomes[0].score,
    )
    plain_console().print(f"wrote {args.out}")
    return 0


def learning_curve(setting: Setting) -> tuple[FloatArray, FloatArray]:
    """Return env steps [P], as a mean over seeds, and returns after adaptation [seeds, P].

    Where seeds were stopped at different meta-iterations, the curve ends with the first of them.
    """
    shortest = min(outcome.iteration for outcome in setting.outcomes)
    learning = np.stack([outcome.learning[:, :shortest] for outcome in setting.outcomes])
    return learning[:, 0].mean(0), learning[:, 1]
