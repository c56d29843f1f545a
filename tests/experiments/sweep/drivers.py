"""Sweeps of tiny bandit runs, in this process and in others."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from metarl.logger import read_metrics

ENDLESS = 1_000_000


def write_spec(folder: Path, iterations: int, seeds: int = 2) -> Path:
    spec = folder / "tiny.yaml"
    spec.write_text(
        f"presets: [maml-trpo/bandit]\nseeds: {[*range(1, seeds + 1)]}\nset:\n"
        f"  iterations: {iterations}\n  tasks_per_update: 4\n"
        "  checkpoint_every: 5\n  evaluate_every: 0\n"
    )
    return spec


def start_driver(spec: Path, out: Path, *flags: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "metarl.experiments", "sweep", str(spec), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--jobs", "2", "--threads", "1", *flags], stderr=subprocess.PIPE, text=True
    )


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def folders(out: Path) -> list[Path]:
    return sorted(out.glob("runs/maml-trpo/*"))


def iterations(run: Path) -> list[int]:
    file = run / "metrics.jsonl"
    return [int(row["iteration"]) for row in read_metrics(file)] if file.exists() else []


def writers(out: Path) -> list[int]:
    """Return the processes that say they hold a run."""
    texts = [file.read_text() for file in out.glob("runs/*/*/lock")]
    return [int(json.loads(text)["pid"]) for text in texts if text]


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
