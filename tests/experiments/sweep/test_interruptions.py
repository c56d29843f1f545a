"""Sweeps that are not left alone: signals, kills of the driver, kills of a run, a second driver."""

import json
import random
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from metarl.experiments.cli import main
from metarl.experiments.sweep.plan import command_of, plan
from metarl.experiments.sweep.spec import read_spec
from metarl.logger import read_metrics
from tests.experiments.sweep.drivers import (
    ENDLESS,
    alive,
    folders,
    iterations,
    start_driver,
    wait_for,
    write_spec,
    writers,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_a_signal_saves_all_runs_and_leaves_no_process_and_no_port(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, out = write_spec(tmp_path, ENDLESS), tmp_path / "out"
    driver = start_driver(spec, out)
    try:
        wait_for(
            lambda: len(writers(out)) == 2 and all(len(iterations(r)) > 2 for r in folders(out))
        )
        processes = [driver.pid, *writers(out)]
        assert [listening(process) for process in processes] == [[], [], []]
        assert main(["sweep", str(spec), "--out", str(out)]) == 2
        assert f"{out} is in use by process {driver.pid}" in capsys.readouterr().err
    finally:
        driver.send_signal(signal.SIGTERM)
    said = driver.communicate(timeout=60)[1]
    assert driver.returncode == 143
    assert "stopped by signal 15. The same command goes on from there." in said
    assert not any(alive(process) for process in processes)
    for run in folders(out):
        saved = max(int(path.name) for path in (run / "checkpoints").iterdir())
        assert iterations(run) == list(range(1, saved + 1))
        assert not (run / "DONE").exists()


def listening(process: int) -> list[str]:
    """Return the lines of the kernel's tables for the TCP sockets that a process listens on."""
    links = [file.readlink().name for file in Path(f"/proc/{process}/fd").iterdir()]
    own = {link.removeprefix("socket:[").removesuffix("]") for link in links if "socket" in link}
    tables = [Path(f"/proc/{process}/net/{name}").read_text() for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return [" ".join(row) for row in rows if row[3] == "0A" and row[9] in own]


def under_way(out: Path, moment: int) -> bool:
    return sum(len(iterations(run)) for run in folders(out)) >= moment and bool(writers(out))


def all_ended(processes: list[int]) -> bool:
    return not any(alive(process) for process in processes)


def kill_and_go_on(folder: Path, moments: list[int], total: int) -> None:
    """Kill the driver when all runs together have so many iterations; then let it finish."""
    spec, out = write_spec(folder, total), folder / "out"
    for moment in moments:
        driver = start_driver(spec, out)
        wait_for(partial(under_way, out, moment))
        held = writers(out)
        driver.kill()
        driver.communicate()
        # They save the iteration in hand, and nobody needs to look for them.
        wait_for(partial(all_ended, held), 20.0)
        for run in folders(out):
            assert iterations(run) == list(range(1, len(iterations(run)) + 1))
    assert main(["sweep", str(spec), "--out", str(out), "--jobs", "2"]) == 0
    done = [run / "DONE" for run in folders(out)]
    assert [iterations(file.parent) for file in done] == [list(range(1, total + 1))] * 2
    times = [file.stat().st_mtime_ns for file in done]
    assert main(["sweep", str(spec), "--out", str(out)]) == 0
    assert [file.stat().st_mtime_ns for file in done] == times


@linux
def test_a_killed_driver_takes_its_runs_along_and_the_same_command_finishes(
    tmp_path: Path,
) -> None:
    kill_and_go_on(tmp_path, [12], 30)
    job = plan(read_spec(tmp_path / "tiny.yaml"), tmp_path / "whole")[0]
    assert main([*command_of(job)]) == 0
    broken_off = tmp_path / "out" / job.folder.relative_to(tmp_path / "whole")
    assert result(broken_off) == result(job.folder)


def result(run: Path) -> object:
    """Return what a run has learned: its returns, and its scores on held-out tasks."""
    (file,) = (run / "eval").glob("*.json")
    returns = [row["meta/post_return"] for row in read_metrics(run / "metrics.jsonl")]
    return returns, json.loads(file.read_text())["per_task"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@linux
def test_drivers_killed_at_random(tmp_path: Path) -> None:
    moments = [0, *sorted(random.Random(7).sample(range(600), 10))]
    kill_and_go_on(tmp_path, moments, 400)
