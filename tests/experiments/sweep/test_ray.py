"""Sweeps on a Ray of their own: killed workers, what listens, what is left behind."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from metarl.experiments.arguments import plain_console
from metarl.experiments.cli import main
from metarl.experiments.sweep.plan import plan
from metarl.experiments.sweep.ray import cluster_address
from metarl.experiments.sweep.spec import read_spec
from metarl.experiments.train import train
from metarl.logger import read_metrics
from tests.experiments.sweep.drivers import (
    alive,
    folders,
    iterations,
    start_driver,
    wait_for,
    write_spec,
    writers,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder for temporary files whose name is no longer than Ray's sockets allow."""
    with tempfile.TemporaryDirectory(prefix="m", dir="/tmp") as folder:
        yield Path(folder)


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def descendants(process: int) -> list[int]:
    everyone = [int(file.name) for file in Path("/proc").iterdir() if file.name.isdigit()]
    of: dict[int, list[int]] = {}
    for other in everyone:
        try:
            of.setdefault(parent(other), []).append(other)
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, new = [process], [process]
    while new:
        new = [child for one in new for child in of.get(one, [])]
        found += new
    return found


def listening(processes: list[int]) -> list[str]:
    """Return the local addresses, in hex as the kernel writes them, that processes listen on."""
    own = set()
    for process in processes:
        for file in Path(f"/proc/{process}/fd").iterdir():
            try:
                own.add(os.readlink(file).removeprefix("socket:[").removesuffix("]"))
            except FileNotFoundError:
                continue
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in own]


@linux
def test_a_killed_worker_costs_nothing_and_nothing_listens_to_others(
    tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(short_folder))
    spec, out = write_spec(tmp_path, iterations=30, seeds=1), tmp_path / "out"
    driver = start_driver(spec, out, "--launcher", "ray", "--retries", "1")
    try:
        wait_for(lambda: any(len(iterations(run)) >= 12 for run in folders(out)), 120)
        run = next(run for run in folders(out) if len(iterations(run)) >= 12)
        assert any(short_folder.iterdir())
        family = descendants(driver.pid)
        addresses = listening(family)
        # 127.0.0.1, by itself or as an IPv6 address.
        assert len(addresses) > 3
        assert set(addresses) <= {"0100007F", "0000000000000000FFFF00000100007F"}
        (trainer,) = [process for process in writers(out) if str(run) in command(process)]
        worker = parent(trainer)
        assert worker in family
        assert worker != driver.pid
        os.kill(worker, signal.SIGKILL)
        said = driver.communicate(timeout=200)[1]
    finally:
        driver.kill()
    assert driver.returncode == 0, said
    assert "1 of 1 runs are done, 0 failed" in said
    assert said.count(" retried ") == 1
    assert [iterations(run) for run in folders(out)] == [list(range(1, 31))]
    assert all((run / "DONE").exists() for run in folders(out))
    wait_for(lambda: not any(alive(process) for process in family))
    assert not any(short_folder.iterdir())
    assert sorted(file.name for file in out.iterdir()) == ["lock", "logs", "plan.json", "runs"]
    assert_as_trained_in_one_go(spec, out, run, tmp_path)


def command(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text()


def assert_as_trained_in_one_go(spec: Path, out: Path, run: Path, place: Path) -> None:
    (job,) = [job for job in plan(read_spec(spec), out) if job.folder == run]
    train(job.experiment, place / "whole", plain_console(quiet=True))
    rows, whole = (read_metrics(folder / "metrics.jsonl") for folder in (run, place / "whole"))
    for row, expected in zip(rows, whole, strict=True):
        for name, value in expected.items():
            assert name.startswith("time/") or row[name] == value, name
    last = sorted((run / "checkpoints").iterdir())[-1].name
    files = [
        folder / "checkpoints" / last / "tensors.safetensors" for folder in (run, place / "whole")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_runs_compete_only_where_they_can_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, out = tmp_path / "two.yaml", tmp_path / "out"
    spec.write_text("presets: [maml-trpo/bandit, maml-trpo/navigation]\nseeds: [1]\n")
    assert main(["sweep", str(spec), "--out", str(out), "--launcher", "ray", "--asha"]) == 2
    assert "takes one environment and one number of iterations" in capsys.readouterr().err
    shutil.rmtree(out)
    spec.write_text("presets: [maml-trpo/bandit]\nseeds: [1]\n")
    assert main(["sweep", str(spec), "--out", str(out), "--asha"]) == 2
    assert "--asha needs --launcher ray" in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    spec, out = write_spec(tmp_path, 3), tmp_path / "out"
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    assert main(["sweep", str(spec), "--out", str(out), "--launcher", "ray"]) == 2
    assert "metarl: no Ray answers at RAY_ADDRESS=nonsense: " in capsys.readouterr().err
    for own in ("", "local"):
        monkeypatch.setenv("RAY_ADDRESS", own)
        assert cluster_address() is None
