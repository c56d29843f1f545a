"""``metarl table``: statistics by name, ranks, and who beats whom."""

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from metarl import envs
from metarl.experiments.cli import main

NAME = "metarl/PointNavigation-v0"
NAVIGATION: dict[str, object] = {"name": NAME, **dataclasses.asdict(envs.preset(NAME))}
FLOOR = {"mean": [-9.0], "iqm": [-9.0], "ci_low": [-10.0], "ci_high": [-8.0]}


def write_run(
    folder: Path, preset: str, scores: Sequence[Sequence[float]], seed: int = 1, horizon: int = 100
) -> str:
    """Write a finished run of one meta-iteration with scores [tasks, rounds]."""
    (folder / "eval").mkdir(parents=True)
    config = {"preset": preset, "seed": seed, "episodes": 20, "agent": {}}
    config |= {"env": NAVIGATION | {"horizon": horizon}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    row = {"iteration": 1, "env_steps": 1e6, "meta/post_return": 0.0}
    row |= {"time/sampling_s": 30.0, "time/update_s": 60.0}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    content = {"per_task": scores, "score": "return", "references": {"random": FLOOR}}
    name = f"000001_tasks{len(scores)}_adaptations{len(scores[0]) - 1}.json"
    (folder / "eval" / name).write_text(json.dumps(content))
    (folder / "DONE").write_text("{}")
    return str(folder)


def cells(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, str]]:
    """Return the cells of ``metarl table`` by setting and head; of one environment."""
    assert main(["table", *arguments, "--format", "csv"]) == 0
    head, *lines = csv.reader(capsys.readouterr().out.splitlines())
    return {line[1]: dict(zip(head, line, strict=True)) for line in lines}


@pytest.fixture(name="runs")
def three_settings(tmp_path: Path) -> list[str]:
    """After 1 adaptation, a wins on 3 tasks of 4 against b, which wins everywhere after 2."""
    a = [[0.0, 4.0, 1.0], [0.0, 5.0, 1.0], [0.0, 6.0, 1.0], [0.0, 1.0, 1.0]]
    b = [[0.0, 3.0, 2.0], [0.0, 3.0, 2.0], [0.0, 3.0, 2.0], [0.0, 3.0, 2.0]]
    c = [[0.0, -8.0, 0.0]] * 4
    return [write_run(tmp_path / name, name, rows) for name, rows in (("b", b), ("a", a), ("c", c))]


def estimate(cell: str) -> float:
    return float(cell.split(" [", maxsplit=1)[0])


@pytest.mark.parametrize(("against", "other"), [("best", "a"), ("first", "b")])
def test_ranks_and_chances_by_hand(
    runs: list[str], capsys: pytest.CaptureFixture[str], against: str, other: str
) -> None:
    """Each at its best: a after 1 adaptation, b after 1, c, which got worse at first, after 2."""
    rows = cells(capsys, *runs, "--against", against)
    assert [estimate(rows[name]["rank"]) for name in "abc"] == [1.25, 1.75, 3.0]
    chances = {"a": 0.75, "b": 0.25, "c": 0.0}
    column = f"P(beats {other})"
    assert rows[other][column] == ""
    assert rows["c"][column] == "0.00 [0.00, 0.00]"
    mine = "a" if other == "b" else "b"
    assert estimate(rows[mine][column]) == chances[mine]
    low, high = json.loads(rows[mine][column].split(" ", 1)[1])
    assert low < chances[mine] < high
    assert "rank" in rows["random"]
    assert rows["random"]["rank"] == ""


def test_compared_after_a_number_of_adaptations(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = cells(capsys, *runs, "--against", "best", "--after", "2")
    assert [estimate(rows[name]["rank after 2"]) for name in "abc"] == [2.0, 1.0, 3.0]
    assert estimate(rows["a"]["P(beats b) after 2"]) == 0.0
    assert main(["table", *runs, "--against", "best", "--after", "3"]) == 2
    assert "--after 3: a was evaluated after 0 to 2" in capsys.readouterr().err


def test_statistics_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two seeds of four tasks; means of tasks are 1, 2, 4, 30."""
    both = [[0.0, 2.0, 3.0, 30.0], [2.0, 2.0, 5.0, 30.0]]
    runs = [
        write_run(tmp_path / str(seed), "a", [[score] for score in scores], seed)
        for seed, scores in enumerate(both)
    ]
    for flags, expected, title in (
        (["iqm"], "3.00 [2.50, 3.50]", ""),
        (["mean"], "9.25 [8.75, 9.75]", "; mean"),
        (["median"], "3.00 [2.50, 3.50]", "; median over tasks"),
        (["gap", "--target", "4"], "1.38 [1.00, 1.75]", "; optimality gap below 4, less is better"),
    ):
        rows = cells(capsys, *runs, "--statistic", *flags)
        assert rows["a"]["before"] == expected, flags
        assert rows["a"]["environment"].endswith(f"4 held-out tasks{title}")
        # A reference is known by its summary alone.
        assert ("random" in rows) == (flags == ["iqm"])


def test_environments_are_ranked_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        write_run(tmp_path / name, name, [[score]], horizon=horizon)
        for name, score, horizon in (("a", 1.0, 100), ("b", 2.0, 100), ("c", 9.0, 50))
    ]
    assert main(["table", *runs, "--against", "best"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith("| rank | P(beats b) |") for line in lines) == 1
    (alone,) = (line for line in lines if line.startswith("| c |"))
    assert alone.endswith("| 9.00 [9.00, 9.00] |")
    (second,) = (line for line in lines if line.startswith("| a |"))
    assert second.endswith("| 2.00 [2.00, 2.00] | 0.00 [0.00, 0.00] |")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--statistic", "gap"], "--target goes with --statistic gap, and that needs it"),
        (["--target", "1"], "--target goes with --statistic gap, and that needs it"),
        (["--statistic", "gap", "--target", "nan"], "target must be a finite number, got nan"),
        (["--after", "1"], "--after goes with --against best or first"),
        (["--against", "best", "--after", "-1"], "after must be a whole number from 0"),
    ],
)
def test_flags_that_do_not_fit_are_refused(
    runs: list[str], capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert main(["table", *runs, *flags]) == 2
    assert said in capsys.readouterr().err


def test_seeds_of_all_settings_make_the_interval_speak_of_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tasks differ and seeds do not, so that nothing is left to doubt; tasks would leave some."""
    rng = np.random.default_rng(0)
    tasks = {name: rng.normal(size=(12, 1)).tolist() for name in "ab"}
    one = [write_run(tmp_path / name, name, rows) for name, rows in tasks.items()]
    two = [write_run(tmp_path / f"{name}2", name, rows, 2) for name, rows in tasks.items()]
    for runs, doubt in ((one, True), (one + two, False), (one + two[:1], True)):
        low, high = json.loads(
            cells(capsys, *runs, "--against", "best")["a"]["rank"].split(" ", 1)[1]
        )
        assert (low < high) == doubt


@pytest.mark.parametrize("kind", ["markdown", "latex", "csv"])
def test_names_from_a_config_stay_in_their_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """Two lines each for every format: a head and a setting, and what each has around them."""
    run = write_run(tmp_path / "a", "x\n| \\input{y} ^", [[1.0]])
    assert main(["table", run, "--format", kind, "--statistic", "mean"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == {"markdown": 5, "latex": 8, "csv": 2}[kind]
    expected = {
        "markdown": r"x \| \input{y} ^",
        "latex": r"x | \textbackslash{}input\{y\} \textasciicircum{}",
        "csv": r"x | \input{y} ^",
    }
    assert expected[kind] in lines[{"markdown": 4, "latex": 5, "csv": 1}[kind]]
