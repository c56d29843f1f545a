"""The scaling study: its cells, its figure, and what it refuses."""

import json
from pathlib import Path

import pytest

from metarl.checks import InputError
from metarl.experiments.bench.scaling import ScalingRequest, panels_of, read_cells
from metarl.experiments.cli import main

SMALL = ["--env.horizon", "3", "--episodes", "2"]


def test_every_cell_is_measured_and_drawn(tmp_path: Path) -> None:
    out = tmp_path / "scaling.json"
    asked = ["--tasks", "2", "3", "--layouts", "1x1", "--rounds", "1", "--out", str(out)]
    assert main(["bench", "scaling", "maml-trpo/navigation", *asked, "--", *SMALL]) == 0
    result = json.loads(out.read_text())
    cells = read_cells(result)
    assert [(cell.tasks, cell.processes, cell.threads) for cell in cells] == [(2, 1, 1), (3, 1, 1)]
    for cell, plain in zip(cells, result["cells"], strict=True):
        assert cell.iteration_s.median > 0
        assert cell.env_steps_per_s.median > 0
        assert cell.memory_mib > 50
        expected = 1000 * cell.iteration_s.median / cell.tasks
        assert cell.ms_per_task == plain["ms_per_task"] == pytest.approx(expected)
    assert out.with_suffix(".png").stat().st_size > 10_000
    panels = panels_of(cells)
    assert [len(values) for panel in panels.values() for values in panel.values()] == [2, 2, 2]


def test_a_cell_that_fails_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    asked = ["--tasks", "2", "--layouts", "1x1", "--", "--env.horizon", "0"]
    assert main(["bench", "scaling", "maml-trpo/navigation", *asked]) == 2
    assert "2 tasks on 1x1: metarl: NavigationConfig.horizon" in capfd.readouterr().err


@pytest.mark.parametrize("layout", ["2", "0x1", "2x", "axb", "1x2x3", "-1x1"])
def test_a_layout_that_makes_no_sense_is_refused(layout: str) -> None:
    with pytest.raises(InputError, match="layouts must each be"):
        ScalingRequest(layouts=(layout,))


def test_numbers_of_tasks_are_whole_and_positive() -> None:
    with pytest.raises(InputError, match=r"tasks must each be .* got 0"):
        ScalingRequest(tasks=(20, 0))
