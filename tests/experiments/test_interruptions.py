"""Signals, kills and a second process: what happens to a run that is not left alone."""

import io
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from metarl.experiments.callbacks import Reached
from metarl.experiments.cli import main
from metarl.experiments.presets import preset
from metarl.experiments.record import Sitting
from metarl.experiments.train import train as train_run
from metarl.logger import read_metrics

BANDIT = "maml-trpo/bandit"
COMMAND = [sys.executable, "-m", "metarl.experiments"]
SMALL = ["--tasks-per-update", "4", "--evaluate-every", "0", "--checkpoint-every", "0"]


def train(out: Path, *flags: str) -> int:
    return main(["train", BANDIT, "--out", str(out), *flags])


def iterations(run: Path) -> list[float]:
    return [row["iteration"] for row in read_metrics(run / "metrics.jsonl")]


def start(out: Path, **more: Any) -> "subprocess.Popen[str]":
    command = [*COMMAND, "train", BANDIT, "--iterations", "1000000", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)
    metrics = out / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_run_goes_on(tmp_path: Path, number: int, status: int) -> None:
    process = start(tmp_path / "run")
    process.send_signal(number)
    assert process.wait(timeout=20) == status
    done = iterations(tmp_path / "run")[-1]
    saved = max(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert int(saved) == done
    assert train(tmp_path / "run", "--iterations", str(int(done) + 2)) == 0
    assert iterations(tmp_path / "run") == list(range(1, int(done) + 3))


def test_second_process_on_a_folder_is_refused_and_a_kill_frees_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    process = start(out)
    try:
        assert train(out, "--iterations", "1000000") == 2
        assert str(process.pid) in capsys.readouterr().err
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    saved = len(iterations(out))
    assert train(out, "--iterations", str(saved + 1)) == 0
    assert iterations(out) == list(range(1, saved + 2))


class FillDisk:
    """Lets no file grow from the second meta-iteration on."""

    def on_iteration(self, reached: Reached) -> bool:
        if reached.progress.iteration == 2:
            size = reached.run.metrics.stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        return True


def test_a_full_disk_ends_the_run_and_frees_the_terminal(tmp_path: Path) -> None:
    experiment = replace(preset(BANDIT), tasks_per_update=4, evaluate_every=0, checkpoint_every=0)
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match="File too large"):
            train_run(
                experiment, tmp_path / "run", terminal, sitting=Sitting(callbacks=[FillDisk()])
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert screen.getvalue().count(hidden) == screen.getvalue().count(shown) == 1
    assert train(tmp_path / "run", "--iterations", "1", *SMALL) == 0
