"""Signals, kills and a second process: what happens to a run that is not left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from metarl.experiments.cli import main
from metarl.logger import read_metrics

BANDIT = "maml-trpo/bandit"
COMMAND = [sys.executable, "-m", "metarl.experiments"]


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
