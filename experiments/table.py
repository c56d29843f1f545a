"""``metarl table``: final results of runs as a table for papers, pages and spreadsheets."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import tyro

from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.outcomes import Setting, labels, read_settings, shared_floors

Format: TypeAlias = Literal["markdown", "latex", "csv"]


@dataclass(frozen=True, kw_only=True)
class TableArgs:
    """Final results of finished runs: IQM over seeds and tasks, with its 95% interval.

    Runs that differ in nothing but the seed make one line; settings of the same preset are told
    apart by the values in which they differ, and environments are kept apart. With one seed the
    interval speaks of tasks, with several of seeds.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs."""
    format: Format = "markdown"
    """How to write it."""


class Section(NamedTuple):
    """The lines of one environment."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]


def table_command(arguments: Sequence[str]) -> int:
    """Run ``metarl table RUN_DIR... [--format markdown|latex|csv]``."""
    args = parse(TableArgs, arguments, "table")
    environments = read_settings(args.runs, plain_console(stderr=True))
    sections = [_section(environment, settings) for environment, settings in environments.items()]
    plain_console().print(_WRITERS[args.format](sections))
    return 0


def _section(environment: str, settings: Sequence[Setting]) -> Section:
    widest = max(setting.outcomes[0].per_task.shape[1] for setting in settings)
    head = ["setting", "seeds", "iterations", "env steps", "wall time"]
    head += ["before", *(f"after {number}" for number in range(1, widest))]
    named = zip(labels(settings), settings, strict=True)
    lines = [_line(name, setting, widest) for name, setting in named]
    for name, curve in shared_floors(settings).items():
        scores = [_score(*row) for row in zip(curve.iqm, curve.ci_low, curve.ci_high, strict=True)]
        lines.append([name, "", "", "", "", *_filled(scores, widest)])
    return Section(environment, head, lines)


def _line(name: str, setting: Setting, widest: int) -> list[str]:
    curve, runs = setting.curve(), setting.outcomes
    iterations = [run.iteration for run in runs]
    scores = [_score(*row) for row in zip(curve.iqm, curve.ci_low, curve.ci_high, strict=True)]
    return [
        name,
        str(len(runs)),
        "-".join(str(number) for number in sorted({min(iterations), max(iterations)})),
        f"{sum(run.learning[0, -1] for run in runs) / len(runs) / 1e6:.2f}M",
        f"{sum(run.wall_s for run in runs) / len(runs) / 60:.1f} min",
        *_filled(scores, widest),
    ]


def _filled(scores: list[str], width: int) -> list[str]:
    return (scores + [""] * width)[:width]


def _score(iqm: float, low: float, high: float) -> str:
    digits = 2 if abs(iqm) < 10 else 1
    return f"{iqm:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


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
        return "".join(f"\\{letter}" if letter in "&%$#_{}" else letter for letter in cell)

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
