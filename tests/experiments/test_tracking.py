"""W&B and MLflow for real, over a kill; and what happens where they are missing or damaged."""

import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from metarl.background import BackgroundSink, Point
from metarl.experiments.tracking import TRACKERS, Service, Subject
from metarl.logger import read_metrics

COMMAND = [sys.executable, "-m", "metarl.experiments", "train", "maml-trpo/bandit"]
SMALL = ["--tasks-per-update", "10", "--evaluate-every", "0", "--checkpoint-every", "4"]
BLOCK = 32768


def settings(folder: Path) -> dict[str, str]:
    return {
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": f"file:{folder / 'mlruns'}",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "OMP_NUM_THREADS": "1",
    }


def start(out: Path, iterations: int, *services: str) -> "subprocess.Popen[str]":
    flags = [flag for name in services for flag in ("--track", name)]
    command = [*COMMAND, *SMALL, "--iterations", str(iterations), "--out", str(out), *flags]
    environment = os.environ | settings(out.parent)
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def wandb_steps(file: Path) -> Iterator[dict[str, float]]:
    """Yield the points of one sitting from W&B's own log, which is framed as LevelDB's are."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # noqa: PLC0415  only with W&B

    data, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := BLOCK - place % BLOCK) < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a record in one piece, or its last
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                yield {item.nested_key[0]: json.loads(item.value_json) for item in items}


def mlflow_points(runs: Path, metric: str) -> list[tuple[int, float]]:
    (file,) = runs.glob(f"*/*/metrics/{metric}")
    rows = [line.split() for line in file.read_text().splitlines()]
    return [(int(step), float(value)) for _, value, step in rows]


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


@pytest.mark.slow
def test_a_killed_run_is_one_run_there_with_each_point_once(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    pytest.importorskip("mlflow")
    out = tmp_path / "run"
    killed = start(out, 1_000_000, "wandb", "mlflow")
    sent, runs = out / "tracking" / "wandb.steps", tmp_path / "mlruns"
    deadline = time.monotonic() + 100
    while lines(sent) < 3 or sum(map(lines, runs.glob("*/*/metrics/meta/gain"))) < 3:
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    noted = int(sent.read_text().split()[-1])
    last = len(read_metrics(out / "metrics.jsonl")) + 3
    resumed = start(out, last, "wandb", "mlflow")
    _, said = resumed.communicate(timeout=200)
    assert (resumed.returncode, "warning" in said) == (0, False), said

    expected = {
        int(row["env_steps"]): row["meta/post_return"]
        for row in read_metrics(out / "metrics.jsonl")
    }
    assert len(expected) == last
    assert mlflow_points(runs, "meta/post_return") == [*expected.items()]
    files = sorted((out / "tracking" / "wandb").glob("offline-run-*/*.wandb"))
    assert len({file.name for file in files}) == 1  # the run's id
    assert len(files) == 2
    first, second = ([*wandb_steps(file)] for file in files)
    assert {int(point["_step"]): point["meta/post_return"] for point in first + second} == expected
    # Only what was sent just before the kill comes twice, and what was noted is there.
    assert [point["_step"] for point in second] == [step for step in expected if step > noted]
    assert first[-1]["_step"] >= noted
    assert all(point["time/total_timesteps"] == point["_step"] for point in first + second)


def subject(folder: Path) -> Subject:
    folder.mkdir()
    return Subject(folder, "agent/task", {"agent": {"inner_lr": 0.1}, "seed": 1})


def follow(service: Service, run: Subject, points: range, told: list[str], earlier: int = 0) -> int:
    """Send a run's points in one sitting; return how many were lost."""
    before = [point(number) for number in range(1, earlier + 1)]
    sink = BackgroundSink(service, partial(TRACKERS[service], run), told.append, before)
    for number in points:
        sink.write(*point(number))
    sink.close(patience_s=60.0)
    return sink.lost


def point(number: int) -> Point:
    return Point(number, 10 * number, {"meta/gain": number / 2, "train/entropy": math.nan})


@pytest.mark.parametrize("service", TRACKERS)
def test_sittings_make_one_curve(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(service)
    for name, value in settings(tmp_path).items():
        monkeypatch.setenv(name, value)
    run, told = subject(tmp_path / "run"), list[str]()
    assert follow(service, run, range(1, 5), told) == 0
    assert follow(service, run, range(3, 7), told, earlier=2) == 0
    assert told == []
    expected = [(10 * number, number / 2) for number in range(1, 7)]
    if service == "mlflow":
        assert mlflow_points(tmp_path / "mlruns", "meta/gain") == expected
        (file,) = (tmp_path / "mlruns").glob("*/*/params/agent.inner_lr")
        assert file.read_text() == "0.1"
        return
    files = sorted((run.folder / "tracking" / "wandb").glob("offline-run-*/*.wandb"))
    points = [taken for file in files for taken in wandb_steps(file)]
    assert [(taken["_step"], taken["meta/gain"]) for taken in points] == expected
    assert len({file.name for file in files}) == 1


@pytest.mark.parametrize("service", TRACKERS)
def test_a_missing_package_is_named_and_costs_the_points_alone(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{service}.py").write_text("raise ImportError('not here')")
    monkeypatch.delitem(sys.modules, service, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    told = list[str]()
    assert follow(service, subject(tmp_path / "run"), range(1, 3), told) == 2
    assert f"pip install 'metarl-suite[{service}]'" in told[0]
    assert len(told) == 2


@pytest.mark.parametrize("content", ['{"run": "../../etc"}', '{"run": 3}', "[]", "{"])
def test_a_damaged_note_is_named(content: str, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    run, told = subject(tmp_path / "run"), list[str]()
    (run.folder / "tracking").mkdir()
    (run.folder / "tracking" / "mlflow.json").write_text(content)
    assert follow("mlflow", run, range(1, 2), told) == 1
    assert "mlflow.json" in told[0]
