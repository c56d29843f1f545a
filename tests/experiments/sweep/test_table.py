"""What a sweep shows on a terminal, and elsewhere."""

import io
import json
from pathlib import Path

from rich.console import Console

from metarl.experiments.sweep.plan import Job, plan
from metarl.experiments.sweep.spec import SweepSpec
from metarl.experiments.sweep.table import SweepTable, last_metrics


def jobs(out: Path, seeds: int) -> list[Job]:
    presets = ("maml-trpo/bandit",)
    seed_list = tuple(range(1, seeds + 1))
    return plan(SweepSpec(name="some", presets=presets, seeds=seed_list), out)


def write_metrics(job: Job, iteration: int, score: float | None) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    row = {"iteration": iteration, "meta/post_return": score, "time/fps": 1234.5}
    with (job.folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def test_the_live_table_shows_state_iteration_return_and_speed(tmp_path: Path) -> None:
    planned = jobs(tmp_path, 3)
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=40)
    with SweepTable(planned, console) as table:
        table(planned[1], "running")
        write_metrics(planned[1], 1, 3.0)
        write_metrics(planned[1], 2, 4.5678)
        table(planned[2], "failed")
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue().splitlines()
    (row,) = [line for line in shown if "s2" in line and "4.568" in line][-1:]
    assert all(word in row for word in ("running", "2/200", "4.568", "1,234"))
    assert "3 runs: 1 running, 1 failed, 1 queued" in shown[-2]


def test_what_does_not_fit_is_counted_and_what_runs_is_shown(tmp_path: Path) -> None:
    planned = jobs(tmp_path, 50)
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=17)
    with SweepTable(planned, console) as table:
        table(planned[-1], "running")
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "s50" in shown
    assert "50 runs: 1 running, 49 queued; 40 not shown" in shown


def test_elsewhere_each_change_is_a_line_and_labels_are_no_markup(tmp_path: Path) -> None:
    first, second = (job._replace(label=f"[red]{job.id}") for job in jobs(tmp_path, 2))
    console = Console(file=io.StringIO(), width=20)
    with SweepTable([first, second], console) as table:
        table(first, "running")
        write_metrics(first, 200, 7.25)
        table(first, "done")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        f"[0/2] running  [red]{first.id}",
        f"[1/2] done     [red]{first.id}  return 7.25",
    ]


def test_last_metrics_leaves_out_a_torn_line_and_null(tmp_path: Path) -> None:
    (job,) = jobs(tmp_path, 1)
    file = job.folder / "metrics.jsonl"
    assert last_metrics(file) == {}
    write_metrics(job, 1, 2.0)
    write_metrics(job, 2, None)
    with file.open("a") as stream:
        stream.write('{"iteration": 3, "time/f')
    assert last_metrics(file) == {"iteration": 2, "time/fps": 1234.5}
