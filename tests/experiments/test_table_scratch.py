"""Files of ``metarl scratch`` in tables: below runs on the same tasks, or by themselves."""

import json
from pathlib import Path

import pytest

from metarl.experiments.cli import main
from metarl.experiments.evaluation.scoring import TOTAL
from metarl.statistics import interquartile_mean
from tests.experiments.test_table import NAVIGATION, rows_of, write_run

EARLY = [[float(task), task + 10.0, task + 20.0] for task in range(8)]


def write_scratch(file: Path, **changes: object) -> str:
    """Write 8 tasks that were learned for two rounds, and to the 6th."""
    stored = {
        "env": NAVIGATION,
        "split": "test",
        "episodes": 20,
        "score": "return",
        "rounds": [0, 1, 2, 6],
        "env_steps": [0, 2000, 4000, 12_000],
        "per_task": [[*row, row[0] + 50.0] for row in EARLY],
        "wall_s": 90.0,
    }
    file.write_text(json.dumps(stored | changes))
    return str(file)


def test_scratch_stands_below_runs_on_the_same_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", 1, 0.0)
    file = write_scratch(tmp_path / "scratch.json")
    head, run, early, late, floor = rows_of(capsys, str(tmp_path / "run"), file)
    assert head[1:] == [
        *("setting", "seeds", "iterations", "env steps", "wall time"),
        *("before", "after 1", "after 2"),
    ]
    assert [row[1] for row in (run, early, late, floor)] == [
        *("maml|trpo/x_y", "from scratch", "from scratch, to the end", "random"),
    ]
    assert early[2:6] == ["1", "", "4,000 a task", ""]
    assert late[2:6] == ["1", "", "12,000 a task", "1.5 min"]
    middle = float(interquartile_mean([row[0] for row in EARLY]))
    assert [cell.split()[0] for cell in early[6:]] == [
        f"{middle + 10 * number:.{2 if number == 0 else 1}f}" for number in range(3)
    ]
    assert {cell.split()[0] for cell in late[6:]} == {f"{middle + 50:.1f}"}
    assert run[-1] == ""


def test_what_ends_with_the_rounds_has_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"rounds": [0, 1, 2], "env_steps": [0, 20_000, 40_000], "per_task": EARLY}
    file = write_scratch(tmp_path / "scratch.json", **changes)
    _, line = rows_of(capsys, file)
    assert line[0] == "metarl/PointNavigation-v0, maml-2017: return, 8 held-out tasks"
    assert line[1:6] == ["from scratch", "1", "", "40,000 a task", "1.5 min"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"per_task": [[*row, 0.0] for row in EARLY[:4]]}, "4 held-out tasks"),
        ({"split": "shifted"}, "(shifted)"),
        ({"env": NAVIGATION | {"horizon": 50}}, "(horizon 50)"),
        ({"score": TOTAL}, f"{TOTAL} of 20 episodes"),
    ],
)
def test_other_tasks_are_another_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], told: str
) -> None:
    write_run(tmp_path / "run", 1, 0.0)
    rows = rows_of(capsys, str(tmp_path / "run"), write_scratch(tmp_path / "s.json", **changes))
    (own,) = {row[0] for row in rows[1:] if row[1].startswith("from scratch")}
    assert told in own
    assert [row[0] for row in rows if row[1] == "maml|trpo/x_y"] != [own]


def test_no_file_of_scratch_is_no_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", 1, 0.0)
    assert main(["table", str(tmp_path / "run"), str(tmp_path / "run" / "DONE")]) == 2
    assert "DONE is not what metarl scratch writes: env is missing" in capsys.readouterr().err
