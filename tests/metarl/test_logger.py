"""Sinks: the file after a kill and a resume, TensorBoard, and what is shown on the screen."""

import json
import math
from contextlib import closing
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metarl.logger import JsonlSink, MetricSink, TensorBoardSink, read_metrics


def write(sink: MetricSink, first: int, last: int) -> None:
    for iteration in range(first, last):
        sink.write(iteration, 100 * (iteration + 1), {"meta/post_return": 0.5 * iteration})


def test_lines_are_on_disk_before_the_sink_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    sink = JsonlSink(path, 0)
    write(sink, 0, 2)
    assert path.read_text().splitlines()[1] == (
        '{"iteration": 1, "env_steps": 200, "meta/post_return": 0.5}'
    )
    sink.close()
    sink.close()


def test_resumed_file_has_neither_gap_nor_duplicate(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    with closing(JsonlSink(whole, 0)) as sink:
        write(sink, 0, 8)
    with closing(JsonlSink(resumed, 0)) as sink:
        write(sink, 0, 6)
    with resumed.open("a") as file:
        file.write('{"iteration": 6, "env_st')
    with closing(JsonlSink(resumed, 4)) as sink:
        write(sink, 4, 8)
    assert resumed.read_bytes() == whole.read_bytes()
    assert set(tmp_path.iterdir()) == {whole, resumed}


def test_torn_line_goes_even_where_nothing_else_does(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"iteration": 0, "env_steps": 1}\n{"iteration": 1, "caf\xc3')
    assert [line["iteration"] for line in read_metrics(path)] == [0]
    with closing(JsonlSink(path, 1)) as sink:
        write(sink, 1, 2)
    assert [line["iteration"] for line in read_metrics(path)] == [0, 1]


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"iteration": 0, "env_steps": 100}')
    with closing(JsonlSink(path, 1)) as sink:
        write(sink, 1, 2)
    assert [line["iteration"] for line in read_metrics(path)] == [0, 1]


def test_a_fresh_run_starts_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with closing(JsonlSink(path, 0)) as sink:
        write(sink, 0, 3)
    JsonlSink(path, 0).close()
    assert path.read_bytes() == b""
    assert read_metrics(path) == []


def test_damage_within_the_file_is_not_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    content = b'{"iteration": 0}\nnonsense\n{"iteration": 2}\n'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2"):
        JsonlSink(path, 3)
    with pytest.raises(ValueError, match="line 2"):
        read_metrics(path)
    assert path.read_bytes() == content


def test_numbers_that_are_not_finite_are_null_on_disk_and_nan_when_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with closing(JsonlSink(path, 0)) as sink:
        sink.write(0, 1, {"a": math.nan, "b": -math.inf, "c": 1.0})
    assert json.loads(path.read_text()) == {
        "iteration": 0, "env_steps": 1, "a": None, "b": None, "c": 1.0,
    }  # fmt: skip
    (line,) = read_metrics(path)
    assert math.isnan(line["a"])
    assert line["c"] == 1.0


def test_tensorboard_drops_what_a_resumed_run_writes_again(tmp_path: Path) -> None:
    told: list[str] = []
    with closing(TensorBoardSink(tmp_path, 0, told.append)) as sink:
        write(sink, 0, 4)
    with closing(TensorBoardSink(tmp_path, 201, told.append)) as sink:
        write(sink, 2, 5)
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("meta/post_return")
    assert [(event.step, event.value) for event in events] == [
        (100, 0.0), (200, 0.5), (300, 1.0), (400, 1.5), (500, 2.0),
    ]  # fmt: skip
    assert (sink.failures, told) == (0, [])


def test_tensorboard_that_fails_says_so_once_and_counts(tmp_path: Path) -> None:
    (tmp_path / "tb").write_text("a file where the folder should be")
    told: list[str] = []
    sink = TensorBoardSink(tmp_path / "tb", 0, told.append)
    write(sink, 0, 3)
    sink.close()
    assert sink.failures == 4
    (line,) = told
    assert line.startswith("TensorBoard output failed: ")
