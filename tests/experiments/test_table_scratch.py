"""Files of ``metarl scratch`` in tables: below runs on the same tasks, or by themselves."""

import csv
import json
from pathlib import Path

import pytest

from metarl.experiments.cli import main
from metarl.experiments.evaluation.scoring import TOTAL
from metarl.statistics import interquartile_mean
from tests.experiments.test_table import NAVIGATION, rows_of, write_run

SCRATCH = "from scratch, rounds of 20 episodes"
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
        "seed": 1,
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
        *("before", "after 1"),
    ]
    assert [row[1] for row in (run, early, late, floor)] == [
        *("maml|trpo/x_y", SCRATCH, "from scratch, 12,000 steps a task", "random"),
    ]
    assert early[2:6] == ["1", "", "0.02M", ""]
    assert late[2:6] == ["1", "", "0.10M", "1.5 min"]
    middle = float(interquartile_mean([row[0] for row in EARLY]))
    # The run has adapted once, and that is as far as its table goes.
    assert [cell.split()[0] for cell in early[6:]] == [f"{middle:.2f}", f"{middle + 10:.1f}"]
    assert [cell.split()[0] for cell in late[6:]] == [f"{middle + 50:.1f}"] * 2


def test_what_ends_with_the_rounds_has_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"rounds": [0, 1, 2], "env_steps": [0, 20_000, 40_000], "per_task": EARLY}
    file = write_scratch(tmp_path / "scratch.json", **changes)
    head, line = rows_of(capsys, file)
    assert head[-1] == "after 2"
    assert line[0] == "metarl/PointNavigation-v0, maml-2017: return, 8 held-out tasks"
    assert line[1:6] == [SCRATCH, "1", "", "0.32M", "1.5 min"]


def test_rounds_beyond_the_table_are_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", 1, 0.0)
    changes = {"rounds": [0, 1, 2], "env_steps": [0, 20_000, 40_000], "per_task": EARLY}
    file = write_scratch(tmp_path / "scratch.json", **changes)
    _, _, early, late, _ = rows_of(capsys, str(tmp_path / "run"), file)
    assert (early[1], early[4]) == (SCRATCH, "0.16M")
    assert (late[1], late[4]) == ("from scratch, 40,000 steps a task", "0.32M")


def test_seeds_are_pooled_and_other_rounds_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    higher = [[score + 2.0 for score in row] for row in EARLY]
    end = {"rounds": [0, 1, 2], "env_steps": [0, 2, 4]}
    files = [
        write_scratch(tmp_path / "1.json", per_task=EARLY, wall_s=60.0, **end),
        write_scratch(tmp_path / "2.json", per_task=higher, wall_s=120.0, seed=2, **end),
        write_scratch(tmp_path / "again.json", per_task=higher, seed=2, **end),
        write_scratch(tmp_path / "5.json", per_task=EARLY, episodes=5, **end),
        write_scratch(tmp_path / "one.json", per_task=EARLY, episodes=1, **end),
    ]
    assert main(["table", *files, "--format", "csv", "--statistic", "mean"]) == 0
    said = capsys.readouterr()
    assert "again.json has the setting and the seed of a file before it" in said.err
    _, both, *others = csv.reader(said.out.splitlines())
    assert both[1:6] == [SCRATCH, "2", "", "0.00M", "1.5 min"]
    assert both[6].split()[0] == "4.50"
    assert [row[1] for row in others] == [
        *("from scratch, rounds of 5 episodes", "from scratch, rounds of 1 episode"),
    ]


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


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"env": {}}, "env.name must be that of an environment"),
        ({"rounds": [0, 5, 2, 6]}, "rounds must rise from 0"),
        ({"env_steps": [0, -1, 2, 3]}, "env_steps must rise from 0"),
        ({"rounds": [1, 2, 3, 4]}, "rounds must rise from 0"),
        ({"episodes": 0}, "episodes must be at least 1"),
        ({"wall_s": -3.0}, "wall_s must not be negative"),
        ({"per_task": EARLY}, "rounds, env_steps and per_task disagree"),
    ],
)
def test_what_is_no_file_of_scratch_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], why: str
) -> None:
    write_run(tmp_path / "run", 1, 0.0)
    bad = write_scratch(tmp_path / "bad.json", **changes)
    assert main(["table", str(tmp_path / "run"), bad]) == 0
    said = capsys.readouterr()
    assert f"left out: {bad} is not what metarl scratch writes: {why}" in said.err
    assert "from scratch" not in said.out
    assert main(["table", bad]) == 2


def test_scratch_is_compared_with_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for shift, name in enumerate("ab"):
        write_run(tmp_path / name, 1, float(shift), lr=0.1 + shift)
    runs = [str(tmp_path / name) for name in "ab"]
    file = write_scratch(tmp_path / "scratch.json")
    assert main(["table", *runs, file, "--format", "csv", "--against", "best"]) == 0
    said = capsys.readouterr()
    assert "note: what was learned from scratch is ranked and compared with nothing" in said.err
    rows = [row for row in csv.reader(said.out.splitlines()) if row[1].startswith("from scratch")]
    assert [row[-2:] for row in rows] == [["", ""]] * 2


def test_what_metarl_scratch_writes_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "scratch.json")
    sizes = ["--episodes", "2", "--env.horizon", "5", "--tasks", "2", "--rounds", "1"]
    command = ["scratch", "maml-trpo/navigation", *sizes, "--steps", "40", "--out", file]
    assert main(command) == 0
    capsys.readouterr()
    _, early, late = rows_of(capsys, file)
    assert (early[1], early[4]) == ("from scratch, rounds of 2 episodes", "0.00M")
    assert late[1] == "from scratch, 40 steps a task"
