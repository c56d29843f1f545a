"""A run that torchrun splits over two processes: resumed, killed, told to stop, misused."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from safetensors.torch import load_file

from metarl.experiments.cli import main
from metarl.logger import read_metrics

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
NODES = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
COMMAND = ["train", "maml-trpo/bandit", "--tasks-per-update", "7", "--checkpoint-every", "4"]
BEGUN, ENDED = 3, 30
Start: TypeAlias = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the command under torchrun; what still runs when the test ends is ended."""
    started: list[subprocess.Popen[str]] = []

    def run(
        out: Path, *flags: str, restarts: int = 0, launcher: Sequence[str] = TORCHRUN
    ) -> "subprocess.Popen[str]":
        command = [*launcher, "--max-restarts", str(restarts), "-m", "metarl.experiments"]
        command += [*COMMAND, "--out", str(out), *flags]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        # Into files, not pipes: a child left behind would keep a pipe open.
        with (out.parent / f"{out.name}.err").open("a") as said:
            process = subprocess.Popen(command, stderr=said, text=True, env=environment)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=60)


def said(out: Path) -> list[str]:
    """Return our own lines on stderr."""
    lines = (out.parent / f"{out.name}.err").read_text().splitlines()
    return [line for line in lines if line.startswith("metarl: ")]


def rows(out: Path) -> int:
    metrics = out / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def wait_for_rows(process: "subprocess.Popen[str]", out: Path, number: int) -> None:
    while rows(out) < number:
        assert process.poll() is None, (out.parent / f"{out.name}.err").read_text()
        time.sleep(0.01)


def children(parent: int) -> list[int]:
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, check=True)
    pairs = [line.split() for line in listing.stdout.decode().splitlines()]
    return [int(pid) for pid, ppid in pairs if int(ppid) == parent]


def leader(out: Path) -> int:
    """Return the process that holds the run folder."""
    return int(json.loads((out / "lock").read_text())["pid"])


def second_process(torchrun: "subprocess.Popen[str]", out: Path) -> int:
    """Return the process that does not hold the run folder."""
    (other,) = [pid for pid in children(torchrun.pid) if pid != leader(out)]
    return other


def still_running(out: Path) -> bool:
    listing = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, check=True)
    return str(out) in listing.stdout.decode()


def weights(out: Path, iteration: int) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / f"{iteration:06d}" / "tensors.safetensors")


def sittings(out: Path) -> list[int]:
    """Return the number of processes at each sitting."""
    return [row["processes"] for row in json.loads((out / "system.json").read_text())["sittings"]]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that one process began."""
    out = tmp_path_factory.mktemp("begun") / "run"
    assert main([*COMMAND, "--iterations", str(BEGUN), "--out", str(out)]) == 0
    return out


def test_killed_or_not_two_processes_end_where_one_would(
    begun: Path, tmp_path: Path, start: Start
) -> None:
    flags = ("--iterations", str(ENDED))
    alone, calm, killed = (tmp_path / name for name in ("alone", "calm", "killed"))
    for out in (alone, calm, killed):
        shutil.copytree(begun, out)
    assert start(calm, *flags).wait(timeout=120) == 0
    torchrun = start(killed, *flags, restarts=1)
    wait_for_rows(torchrun, killed, BEGUN + 7)
    os.kill(second_process(torchrun, killed), signal.SIGKILL)
    assert torchrun.wait(timeout=120) == 0
    assert main([*COMMAND, *flags, "--out", str(alone)]) == 0

    assert (sittings(calm), sittings(killed)) == ([1, 2], [1, 2, 2])
    for name, leaf in weights(calm, ENDED).items():
        assert torch.equal(leaf, weights(killed, ENDED)[name]), name
        assert (leaf - weights(alone, ENDED)[name]).abs().max() <= 1e-6, name
    for out in (calm, killed, alone):
        numbers = [row["iteration"] for row in read_metrics(out / "metrics.jsonl")]
        assert numbers == list(range(1, ENDED + 1))
        assert (out / "DONE").exists()
    (lost,) = said(killed)
    assert "process 0 of 2 lost the others" in lost


def test_a_signal_to_one_process_stops_both_and_saves(
    begun: Path, tmp_path: Path, start: Start
) -> None:
    out = tmp_path / "run"
    shutil.copytree(begun, out)
    torchrun = start(out, "--iterations", "1000000", "--checkpoint-every", "0")
    wait_for_rows(torchrun, out, BEGUN + 3)
    os.kill(second_process(torchrun, out), signal.SIGTERM)
    assert torchrun.wait(timeout=60) != 0
    text = (tmp_path / "run.err").read_text()
    assert text.count("stopped by signal 15 after meta-iteration") == 1
    assert "143" in text  # torchrun's report of the exit status
    assert max(path.name for path in (out / "checkpoints").iterdir()) == f"{rows(out):06d}"
    assert not still_running(out)


def test_a_mistake_is_said_once_and_ends_both(tmp_path: Path, start: Start) -> None:
    out = tmp_path / "run"
    assert start(out, "--agent.inner-lr", "-0.1").wait(timeout=60) != 0
    (line,) = said(out)
    assert "MamlTrpoConfig.inner_lr must be" in line
    text = (tmp_path / "run.err").read_text()
    assert "exitcode  : 2" in text
    assert not out.exists()


@pytest.mark.slow
def test_the_first_process_may_be_killed_too(begun: Path, tmp_path: Path, start: Start) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    for out in (calm, killed):
        shutil.copytree(begun, out)
    assert start(calm, "--iterations", str(ENDED)).wait(timeout=120) == 0
    for repeat in range(3):
        last = ENDED + 20 * repeat
        torchrun = start(killed, "--iterations", str(last), restarts=1)
        wait_for_rows(torchrun, killed, last - 15)
        os.kill(leader(killed), signal.SIGKILL)
        assert torchrun.wait(timeout=120) == 0
        if repeat == 0:
            for name, leaf in weights(calm, ENDED).items():
                assert torch.equal(leaf, weights(killed, ENDED)[name]), name
    assert sittings(killed) == [1, *[2] * 6]


@pytest.mark.slow
def test_a_rule_of_the_first_process_stops_both(tmp_path: Path, start: Start) -> None:
    out, flags = tmp_path / "run", ("--iterations", "50", "--evaluate-every", "3")
    for _ in range(2):  # the second finds it stopped
        assert start(out, *flags, "--stop-at", "0").wait(timeout=120) == 0
        assert json.loads((out / "DONE").read_text())["iteration"] == rows(out) == 3
    assert start(out, *flags, "--go-on", "--iterations", "5").wait(timeout=120) == 0
    assert json.loads((out / "DONE").read_text())["iteration"] == rows(out) == 5


@pytest.mark.slow
def test_a_failing_disk_ends_both(begun: Path, tmp_path: Path, start: Start) -> None:
    out = tmp_path / "run"
    shutil.copytree(begun, out)
    torchrun = start(out, "--iterations", "1000000")
    wait_for_rows(torchrun, out, BEGUN + 3)
    (out / "checkpoints").rename(out / "away")
    (out / "checkpoints").write_text("no folder")
    assert torchrun.wait(timeout=60) != 0
    assert any("cannot write" in line for line in said(out))
    assert "exitcode  : 74" in (tmp_path / "run.err").read_text()
    assert not still_running(out)


@pytest.mark.slow
def test_without_torchrun_nobody_is_left(begun: Path, tmp_path: Path, start: Start) -> None:
    out = tmp_path / "run"
    shutil.copytree(begun, out)
    torchrun = start(out, "--iterations", "1000000", "--checkpoint-every", "0")
    wait_for_rows(torchrun, out, BEGUN + 3)
    torchrun.kill()
    torchrun.wait()
    deadline = time.monotonic() + 30
    while still_running(out):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert max(path.name for path in (out / "checkpoints").iterdir()) == f"{rows(out):06d}"


@pytest.mark.slow
def test_two_launchers_as_on_two_machines(begun: Path, tmp_path: Path, start: Start) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    for out in (calm, killed):
        shutil.copytree(begun, out)
    assert start(calm, "--iterations", str(ENDED)).wait(timeout=120) == 0
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    launcher = [*NODES, "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}"]
    flags = ("--iterations", str(ENDED))
    pair = [start(killed, *flags, restarts=2, launcher=launcher) for _ in range(2)]
    wait_for_rows(pair[0], killed, BEGUN + 7)
    (other,) = [pid for node in pair for pid in children(node.pid) if pid != leader(killed)]
    os.kill(other, signal.SIGKILL)
    assert [node.wait(timeout=200) for node in pair] == [0, 0]
    for name, leaf in weights(calm, ENDED).items():
        assert torch.equal(leaf, weights(killed, ENDED)[name]), name
