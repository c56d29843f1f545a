"""What lies under results/ can be read, evaluated again, and gives the scores that are stored."""

import json
from pathlib import Path

import pytest

from metarl.experiments.cli import main

RESULTS = Path(__file__).resolve().parents[1] / "results"


@pytest.mark.parametrize("name", ["navigation", "bandit", "reptile-navigation-s1"])
def test_a_stored_run_gives_its_stored_scores(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (stored_in,) = (RESULTS / name / "eval").glob("*_tasks40_adaptations3.json")
    stored = json.loads(stored_in.read_text())
    assert main(["evaluate", str(RESULTS / name), "--tasks", "5", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["iteration"] == stored["iteration"]
    # Another processor may round otherwise, and a choice between arms may then fall otherwise. Each
    # further adaptation to what a policy did amplifies that: after the first, runs come apart.
    for row, stored_row in zip(again["per_task"], stored["per_task"], strict=False):
        assert row[:2] == pytest.approx(stored_row[:2], rel=0.05, abs=1.0)
