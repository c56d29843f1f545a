"""A benchmark beside an earlier one: ratios by hand, and files that are not what they should be."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from metarl.experiments.bench.compare import FORMAT, Earlier, compare, read_benchmark
from metarl.experiments.cli import main
from metarl.experiments.experiment import to_dict
from metarl.experiments.presets import preset

BANDIT = "maml-trpo/bandit"
BENCH = ["bench", BANDIT, "--rounds", "1", "--phases", "update", "--json"]


def figure(unit: str, median: float, spread: float = 0.0) -> dict[str, object]:
    return {"unit": unit, "median": median, "low": median - spread, "high": median + spread}


def content() -> Any:
    """What an earlier benchmark left, with round numbers."""
    return {
        "format": FORMAT,
        "preset": BANDIT,
        "config": to_dict(preset(BANDIT)),
        "rounds": 3,
        "phases": {
            "update": {"meta_update": figure("s", 2.0, 0.5)},
            "iteration": {"all_in": figure("env steps/s", 100.0, 1.0), "gone": figure("s", 1.0)},
        },
        "memory": {"host": figure("MB", 300.0)},
        "physics_threads": 2,
        "system": {"platform": "A", "cpu": "B", "versions": {"torch": "2.13"}, "started": "then"},
    }


def test_ratios_and_verdicts_by_hand() -> None:
    new = content()
    new["phases"]["update"]["meta_update"] = figure("s", 1.0, 0.25)
    new["phases"]["iteration"] = {"all_in": figure("env steps/s", 50.0, 1.0)}
    new["memory"]["host"] = figure("MB", 300.0)
    found: Any = compare(Earlier(Path("old.json"), content()), new)
    assert found["same_machine"] is True
    assert found["notes"] == []
    assert found["figures"] == {
        "update": {
            "meta_update": {
                "unit": "s",
                "old": 2.0,
                "new": 1.0,
                "old_over_new": 2.0,
                "verdict": "faster",
            }
        },
        "iteration": {
            "all_in": {
                "unit": "env steps/s",
                "old": 100.0,
                "new": 50.0,
                "old_over_new": 2.0,
                "verdict": "slower",
            }
        },
        "memory": {
            "host": {
                "unit": "MB",
                "old": 300.0,
                "new": 300.0,
                "old_over_new": 1.0,
                "verdict": "within the spread",
            }
        },
    }


def test_memory_is_that_of_all_phases_together() -> None:
    new = content()
    new["phases"]["import"] = {"torch": figure("s", 1.0)}
    found: Any = compare(Earlier(Path("old.json"), content()), new)
    assert found["figures"].keys() == {"update", "iteration"}
    assert found["notes"] == ["memory is not compared: other phases were measured"]


def test_what_else_changed_is_noted() -> None:
    new = content()
    new["system"] |= {"cpu": "C", "versions": {"torch": "2.14"}}
    new["config"]["threads"] = 1
    new["physics_threads"] = 1
    found: Any = compare(Earlier(Path("old.json"), content()), new)
    assert found["same_machine"] is False
    assert found["notes"] == [
        "another machine: cpu was 'B', is 'C'",
        "versions was {'torch': '2.13'}, is {'torch': '2.14'}",
        "threads was 0, is 1",
        "physics_threads was 2, is 1",
    ]


def test_a_benchmark_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(content()))
    assert read_benchmark(path) == Earlier(path, content())


def broken(*place: str, value: object) -> str:
    changed = copy.deepcopy(content())
    inner = changed
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return json.dumps(changed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "its format is 'list'"),
        ("{}", "its format is None"),
        (" " * 1_000_001, "longer than 1000000 bytes"),
        (broken("format", value="metarl-bench-0"), "its format is 'metarl-bench-0'"),
        (broken("system", value=[]), "system must be a dict, got []"),
        (broken("preset", value=None), "preset must be a str, got None"),
        (broken("phases", "update", value=3), "update must be a dict, got 3"),
        (broken("phases", "update", "meta_update", value=3), "update.meta_update must be unit,"),
        (broken("memory", "host", "median", value=float("nan")), "memory.host must be unit,"),
        (broken("memory", "host", "median", value=10**400), "memory.host must be unit,"),
        (broken("memory", "host", "low", value=-1.0), "memory.host must be unit,"),
        (broken("preset", value="maml-trpo/navigation"), "is a benchmark of maml-trpo/navigation"),
        (broken("config", "agent", "inner_lr", value=0.3), "agent.inner_lr"),
        (broken("phases", value={"import": {}}), "holds import, asked for update"),
    ],
)
def test_wrong_files_are_refused_before_anything_is_measured(
    text: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old.json"
    if text is not None:
        path.write_text(text)
    assert main([*BENCH, "--compare", str(path)]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.startswith(f"metarl: {path}")
    assert "measuring" not in shown.err
    assert shown.out == ""


def test_a_folder_is_no_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BENCH, "--compare", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"metarl: {tmp_path}: Is a directory\n"
