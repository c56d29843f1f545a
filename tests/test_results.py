"""What lies under results/ can be read, evaluated again, and gives the scores that are stored."""

import json
from pathlib import Path

import pytest

from metarl.experiments.cli import main
from metarl.experiments.outcomes import read_outcomes
from metarl.experiments.settings import by_environment

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


def test_the_runs_of_the_demo_make_four_settings_of_three_seeds() -> None:
    outcomes, faults = read_outcomes(sorted((RESULTS / "demo" / "runs").glob("*/*")))
    assert not faults
    environments = by_environment(outcomes)
    seeds = [[run.seed for run in s.outcomes] for group in environments.values() for s in group]
    assert len(environments) == 2
    assert [sorted(of_setting) for of_setting in seeds] == [[1, 2, 3]] * 4
