"""``metarl table``: final results of runs as a table for papers, pages and spreadsheets."""

import csv
import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import tyro

from metarl.bootstrap import Statistic, bootstrap_interval, usual_bootstrap
from metarl.checks import COUNT_OR_ZERO, LARGEST, Allowed, InputError, check_fields
from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.scratch_file import Scratch, read_scratch
from metarl.experiments.settings import (
    Setting,
    in_minutes,
    labels,
    read_settings,
    shared_floors,
)
from metarl.experiments.standings import compared_scores, standings
from metarl.statistics import (
    FloatArray,
    iqm_of_runs,
    mean_of_runs,
    median_of_tasks,
    optimality_gap,
)

Format: TypeAlias = Literal["markdown", "latex", "csv"]
_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"}
_LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_MAY_DIFFER = 2
"""How many settings of a table may lack a floor that it shows: those scored in another way."""
_ANY = Allowed(-LARGEST, LARGEST, "a finite number")


@dataclass(frozen=True, kw_only=True)
class TableArgs:
    """Final results of finished runs: a statistic of seeds and tasks, with its 95% interval.

    Files of ``metarl scratch`` stand below the runs that met the same tasks. Runs that differ in
    nothing but the seed make one line; settings of the same preset are told apart by the values in
    which they differ, and environments are kept apart. With one seed the interval speaks of tasks,
    with several of seeds. The best line comes first, by its best IQM.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, and files of metarl scratch."""
    format: Format = "markdown"
    """How to write it."""
    statistic: Literal["iqm", "mean", "median", "gap"] = "iqm"
    """Of the scores of all runs and tasks: the mean of their middle half, or of all; the median
    over tasks of the mean over seeds; the optimality gap below --target."""
    target: float | None = None
    """The score that is good enough, for the optimality gap: more counts as much as this."""
    against: Literal["none", "best", "first"] = "none"
    """Add expected ranks, and the probability of improvement over the best line or over the
    setting of the first run named."""
    after: int | None = None
    """Adaptations after which settings are ranked and compared; left out, each where its own IQM
    is best."""

    def __post_init__(self) -> None:
        given = {"target": (self.target, _ANY), "after": (self.after, COUNT_OR_ZERO)}
        check_fields(
            self,
            {name: rule for name, (value, rule) in given.items() if value is not None},
            "--target goes with --statistic gap, and that needs it"
            if (self.statistic == "gap") != (self.target is not None)
            else None,
            "--after goes with --against best or first"
            if self.after is not None and self.against == "none"
            else None,
        )


class Section(NamedTuple):
    """The lines of one environment."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]


def table_command(arguments: Sequence[str]) -> int:
    """Run ``metarl table RUN_DIR|SCRATCH_JSON... [--format markdown|latex|csv] ...``."""
    args, notes = parse(TableArgs, arguments, "table"), plain_console(stderr=True)
    folders = [place for place in args.runs if not place.is_file()]
    scratch, faults = read_scratch(place for place in args.runs if place.is_file())
    if not folders and not scratch:
        raise InputError(faults or ["which runs? Give their folders"])
    for fault in faults:
        notes.print(f"left out: {fault}")
    runs = read_settings(folders, notes) if folders else {}
    if scratch and args.against != "none":
        notes.print("note: what was learned from scratch is ranked and compared with nothing")
    sections = [
        _section(title, runs.get(title, []), scratch.get(title, []), args)
        for title in dict.fromkeys((*runs, *scratch))
    ]
    plain_console().print(_WRITERS[args.format](sections))
    return 0


def _section(
    environment: str, settings: Sequence[Setting], scratch: Sequence[Scratch], args: TableArgs
) -> Section:
    curves = [setting.scores() for setting in settings]
    widest = max([scores.shape[2] for scores in curves] or [one.kind.along for one in scratch])
    title, statistic = _statistic(args)
    head = ["setting", "seeds", "iterations", "env steps", "wall time"]
    head += ["before", *(f"after {number}" for number in range(1, widest))]
    names = labels(settings)
    lines = [
        [*_line(name, setting), *_filled(_scores(scores, statistic), widest)]
        for name, setting, scores in zip(names, settings, curves, strict=True)
    ]
    lines += [line for one in scratch for line in _scratch_lines(one, widest, statistic)]
    # Of what other runs share as a reference, the summary is known, and no single scores.
    floors = shared_floors(settings, _MAY_DIFFER) if args.statistic == "iqm" else {}
    for name, curve in floors.items():
        cells = [_score(*row) for row in zip(curve.iqm, curve.ci_low, curve.ci_high, strict=True)]
        lines.append([name, "", "", "", "", *_filled(cells, widest)])
    if args.against != "none" and len(settings) > 1:
        more_head, more = _compared(names, settings, args)
        head += more_head
        lines = [line + _filled(more.get(line[0], []), len(more_head)) for line in lines]
    rows = [[_one_line(cell) for cell in row] for row in (head, *lines)]
    return Section(_one_line(environment + title), rows[0], rows[1:])


def _scratch_lines(scratch: Scratch, widest: int, statistic: Statistic) -> Iterator[list[str]]:
    """Yield a line for as many rounds as agents adapt to, and one for the end, where it is later.

    What it took is known for all that was learned together: the last line says it.
    """
    along, last = min(scratch.kind.along, widest), len(scratch.kind.rounds) - 1
    seeds, wall = str(len(scratch.scores)), f"{in_minutes(scratch.wall_s)} min"
    cells = _filled(_scores(scratch.scores[..., :along], statistic), widest)
    steps = _millions(scratch.env_steps(along - 1))
    yield [scratch.name_by_rounds, seeds, "", steps, wall if last < along else "", *cells]
    if last >= along:
        cells = _scores(scratch.scores[..., last:], statistic) * widest
        yield [scratch.name_at_the_end, seeds, "", _millions(scratch.env_steps(last)), wall, *cells]


def _one_line(text: str) -> str:
    """Return a name from a stored config so that it cannot end its row, or a comment of LaTeX."""
    return " ".join(text.split())


def _statistic(args: TableArgs) -> tuple[str, Statistic]:
    """Return what a title adds, and the statistic itself."""
    if args.target is not None:
        gap = functools.partial(optimality_gap, target=args.target)
        return f"; optimality gap below {args.target:g}, less is better", gap
    named: Mapping[str, tuple[str, Statistic]] = {
        "iqm": ("", iqm_of_runs),
        "mean": ("; mean", mean_of_runs),
        "median": ("; median over tasks", median_of_tasks),
    }
    return named[args.statistic]


def _scores(scores: FloatArray, statistic: Statistic) -> list[str]:
    """Return a cell for each round of scores [seeds, tasks, rounds]."""
    rng = np.random.default_rng(0)
    interval = bootstrap_interval(scores, statistic, rng, usual_bootstrap(len(scores)))
    values = statistic(np.moveaxis(scores, -1, 0))
    return [_score(*row) for row in zip(values, *interval, strict=True)]


def _line(name: str, setting: Setting) -> list[str]:
    runs = setting.outcomes
    lengths = sorted({run.iteration for run in runs})
    return [
        name,
        str(len(runs)),
        " to ".join(map(str, dict.fromkeys((lengths[0], lengths[-1])))),
        _millions(sum(run.learning[0, -1] for run in runs) / len(runs)),
        f"{in_minutes(sum(run.wall_s for run in runs) / len(runs))} min",
    ]


def _millions(steps: float) -> str:
    return f"{steps / 1e6:.2f}M"


def _compared(
    names: Sequence[str], settings: Sequence[Setting], args: TableArgs
) -> tuple[list[str], dict[str, list[str]]]:
    """Return the heads of the columns that compare, and their cells by setting."""
    scores = compared_scores(settings, args.after)
    iqm = [float(iqm_of_runs(values)) for values in scores]
    reference = iqm.index(max(iqm)) if args.against == "best" else _first(settings, args.runs)
    cells = {
        name: [_score(*standing.rank), _score(*standing.beats) if standing.beats else ""]
        for name, standing in zip(names, standings(scores, reference), strict=True)
    }
    when = "" if args.after is None else f" after {args.after}"
    return [f"rank{when}", f"P(beats {names[reference]}){when}"], cells


def _first(settings: Sequence[Setting], folders: Sequence[Path]) -> int:
    """Return the place of the setting whose run is named first."""
    order = [min(folders.index(run.folder) for run in setting.outcomes) for setting in settings]
    return order.index(min(order))


def _filled(scores: Sequence[str], width: int) -> list[str]:
    return [*scores, *[""] * width][:width]


def _score(value: float, low: float, high: float) -> str:
    digits = 2 if abs(value) < 10 else 1
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _markdown(sections: Sequence[Section]) -> str:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    blocks = [
        [f"**{title}**", "", row(head), "|" + "---|" * len(head), *map(row, lines)]
        for title, head, lines in sections
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def _latex(sections: Sequence[Section]) -> str:
    def escaped(cell: str) -> str:
        return "".join(_LATEX.get(letter, letter) for letter in cell)

    def row(cells: Sequence[str]) -> str:
        return " & ".join(map(escaped, cells)) + r" \\"

    blocks = [
        [
            f"% {title}",
            rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}",
            r"\toprule",
            row(head),
            r"\midrule",
            *map(row, lines),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        for title, head, lines in sections
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def _csv(sections: Sequence[Section]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for title, head, lines in sections:
        writer.writerow(["environment", *head])
        writer.writerows([title, *line] for line in lines)
    return text.getvalue().rstrip("\n")


_WRITERS: Mapping[Format, Callable[[Sequence[Section]], str]] = {
    "markdown": _markdown,
    "latex": _latex,
    "csv": _csv,
}
