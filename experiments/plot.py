"""``metarl plot``: finished runs of one environment in one figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from metarl.checks import COUNT_OR_ZERO, InputError, check_fields, unknown
from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.comparison import PANELS, Comparison, Learned, comparison_figure
from metarl.experiments.figures import save_figure
from metarl.experiments.settings import Setting, labels, read_settings, shared_floors
from metarl.experiments.standings import compared_scores
from metarl.statistics import FloatArray

_FORMATS = (".pdf", ".png", ".svg")


@dataclass(frozen=True, kw_only=True)
class PlotArgs:
    """Finished runs in one figure, for papers: how they learned, and how they adapt.

    Runs that differ in nothing but the seed make one line. Settings of the same preset are told
    apart by the values in which they differ.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, all of one environment."""
    out: Path
    """The file to write: .pdf, .png or .svg."""
    what: str = "learning,adaptation"
    """Panels, separated by commas: learning (returns in training), adaptation (on held-out tasks,
    beside floors and ceilings), profile (share of runs and tasks above each score)."""
    after: int | None = None
    """Adaptations after which profiles are taken; left out, each where its own IQM is best."""

    names: tuple[str, ...] = ()
    """Other names in the figure, such as reptile/navigation=Reptile."""

    def __post_init__(self) -> None:
        known = f"--out must end in {' or '.join(_FORMATS)}, got {self.out}"
        check_fields(
            self,
            {} if self.after is None else {"after": COUNT_OR_ZERO},
            None if self.out.suffix in _FORMATS else known,
            *(
                f"--names must be LABEL=NAME, got {entry!r}"
                for entry in self.names
                if not all(entry.rpartition("=")[::2])
            ),
            *(unknown("--what", name, PANELS) for name in self.panels if name not in PANELS),
        )

    @property
    def panels(self) -> list[str]:
        """Names of the panels."""
        return list(dict.fromkeys(self.what.split(",")))


def plot_command(arguments: Sequence[str]) -> int:
    """Run ``metarl plot RUN_DIR... --out FILE [--what learning,adaptation,profile]``."""
    args = parse(PlotArgs, arguments, "plot")
    environments = read_settings(args.runs, plain_console(stderr=True))
    if len(environments) > 1:
        names = "; ".join(environments)
        raise InputError([f"one figure shows one environment, these are runs of several: {names}"])
    ((environment, settings),) = environments.items()
    comparison = renamed(compared(settings, args.after), args.names)
    figure = comparison_figure(environment, comparison, args.panels)
    save_figure(figure, args.out)
    plain_console().print(f"wrote {args.out}")
    return 0


def compared(settings: Sequence[Setting], after: int | None) -> Comparison:
    """Return what a figure shows of settings; ``after`` is told in ``compared_scores``.

    Raises:
        InputError: a setting was not evaluated after so many adaptations.
    """
    finals = compared_scores(settings, after)
    told = f"after {after} adaptation{'' if after == 1 else 's'}"
    return Comparison(
        settings={
            name: Learned(*learning_curve(setting), setting.curve(), final)
            for name, setting, final in zip(labels(settings), settings, finals, strict=True)
        },
        references=shared_floors(settings),
        score=settings[0].outcomes[0].score,
        scored_after="at each setting's best round" if after is None else told,
    )


def renamed(comparison: Comparison, names: Sequence[str]) -> Comparison:
    """Return a comparison with some labels replaced, each given as ``LABEL=NAME``.

    Raises:
        InputError: there is no such label, or two lines would have one name.
    """
    known = [*comparison.settings, *comparison.references]
    new = dict(entry.rpartition("=")[::2] for entry in names)
    faults = [unknown("--names", label, known) for label in new if label not in known]
    shown = [new.get(label, label) for label in known]
    if len(set(shown)) < len(shown):
        faults.append(f"--names must differ, got {', '.join(shown)}")
    if faults:
        raise InputError(faults)
    return comparison._replace(
        settings={new.get(name, name): it for name, it in comparison.settings.items()},
        references={new.get(name, name): it for name, it in comparison.references.items()},
    )


def learning_curve(setting: Setting) -> tuple[FloatArray, FloatArray]:
    """Return env steps [P], as a mean over seeds, and returns after adaptation [seeds, P]."""
    learning = setting.learning()
    return learning[:, 0].mean(0), learning[:, 1]
