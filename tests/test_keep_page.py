"""What the page about kept policies shows runs as it stands there."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from metarl.experiments.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "keep_a_policy.md").read_text()


BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def run(blocks: Sequence[str]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), "keep_a_policy.md", "exec"), names)
    return names


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "results").symlink_to(ROOT / "results")
    with contextlib.chdir(tmp_path):
        yield tmp_path


def test_the_example_runs_and_the_files_act_alike(place: Path) -> None:
    names = run(BLOCKS[:1])
    # An unadapted policy scores -38.
    assert min(names["before"], names["after"]) > -20.0
    assert names["policy"].made.scores == ()
    assert len(names["loaded"].made.scores) == 2
    session = onnxruntime.InferenceSession(place / "policy.onnx")
    (action,) = session.run(None, {"obs": names["obs"][None]})
    assert np.abs(action[0] - names["action"]).max() <= 1e-6


def test_the_example_with_a_memory_runs_and_the_file_acts_alike(place: Path) -> None:
    (line,) = re.findall(r"^metarl (train .*)$", PAGE, flags=re.MULTILINE)
    assert main([*line.split(), "--iterations", "1", "--tasks-per-update", "8"]) == 0
    names = run(BLOCKS[1:])
    assert names["fourth"] == pytest.approx(names["total"], abs=1e-5)
    assert np.abs(names["state"][0] - names["memory"]).max() <= 1e-5
    assert names["policy"].made.episodes == ()
    assert names["first"] >= -1.5 - 1e-5


def test_the_command_runs(place: Path) -> None:
    (line,) = re.findall(r"^metarl (adapt .*)$", PAGE, flags=re.MULTILINE)
    quoted = re.fullmatch(r"(.*) '(.*)' (.*)", line)
    assert quoted is not None
    head, task, tail = quoted.groups()
    assert main([*head.split(), task, *tail.split()]) == 0
    there = {path.name for path in (place / "kept").iterdir()}
    assert there == {"policy.json", "policy.safetensors"}
    assert (place / "policy.onnx").stat().st_size > 1000


def test_the_page_names_what_exists() -> None:
    for name in re.findall(r"`(metarl/\w+\.py)`", PAGE):
        assert (ROOT / name).exists(), name
