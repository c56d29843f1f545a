"""Tables of a report: results, chances, costs, differences."""

import json
from pathlib import Path

import numpy as np
import pytest

from metarl.experiments.arguments import plain_console
from metarl.experiments.report.command import ReportArgs, page_of
from metarl.experiments.report.sections import Section
from metarl.experiments.report.tables import number, probabilities
from tests.experiments.report.written import NAVIGATION, write_run


def sections_of(*runs: Path) -> list[Section]:
    args = ReportArgs(runs=runs, out=runs[0].parent / "report.html")
    return list(page_of(args, plain_console(quiet=True)).sections)


def test_settings_are_ordered_and_compared_by_their_best_score(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, shift=shift, preset=name)
        for name, shift in (("a", 0.0), ("b", 2.0), ("c", 1.0))
    ]
    file = next((runs[0] / "eval").glob("*.json"))
    content = json.loads(file.read_text())
    content["per_task"] = [[row[0], 9.0, row[0]] for row in content["per_task"]]
    file.unlink()
    file.with_name("000003_tasks8_adaptations2.json").write_text(json.dumps(content))
    (section,) = sections_of(*runs)
    first, second, third, reference = section.results
    assert [line.entry.name for line in section.results] == ["a", "b", "c", "random"]
    assert [cell.compared for cell in first.scores] == [False, True, False]
    assert first.scores[1][:2] == ("9.00", "9.00, 9.00")
    assert (first.beats_first, second.beats_first and second.beats_first.value) == (None, "0.00")
    assert [line.rank and line.rank.value for line in (first, second, third)] == [
        "1.00",
        "2.00",
        "3.00",
    ]
    assert [cell.value for cell in reference.scores] == ["−9.00", "−9.00"]
    assert not any(cell.compared for cell in reference.scores)
    assert reference.rank is None
    assert section.rounds == 3


def test_probabilities_by_hand() -> None:
    mine, other = np.array([[1.0, 2.0], [3.0, 2.0]]), np.array([[2.0, 2.0]])
    assert probabilities([mine, other]) == [[0.5, 0.5], [0.5, 0.5]]
    ((_, beats), (beaten, _)) = probabilities([mine, other - 0.5])
    assert (beats, beaten) == (0.75, 0.25)


def test_costs_are_those_of_all_runs(tmp_path: Path) -> None:
    """Three and one million steps in 270 and 90 s."""
    runs = [write_run(tmp_path / "a", 1, threads=2), write_run(tmp_path / "b", 2, threads=4)]
    rows = [json.loads(row) for row in (runs[1] / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row |= {"env_steps": row["env_steps"] / 3, "time/sampling_s": 10.0, "time/update_s": 20.0}
    (runs[1] / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ((cost,),) = [section.costs for section in sections_of(*runs)]
    assert cost.env_steps == "2.00"
    assert cost.wall_time == "3.0 (1.5 to 4.5)"
    assert cost.speed == "11,111"
    assert (cost.device, cost.threads) == ("cpu", "2, 4")


def test_only_what_differs_is_in_the_table_of_differences(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a1", 1, shift=9.0, told=False),
        write_run(tmp_path / "a2", 2, shift=9.0, told=False),
        write_run(tmp_path / "b", 1, told=True, agent={"inner_lr": 0.5, "sizes": [1, 2]}),
    ]
    (section,) = sections_of(*runs)
    assert {row.key: tuple(row.values) for row in section.differences} == {
        "seed": ("1, 2", "1"),
        "told": ("false", "true"),
        "agent.inner_lr": ("0.1", "0.5"),
        "agent.policy.hidden_sizes": ("[8, 8]", ""),
        "agent.sizes": ("", "[1, 2]"),
    }
    everywhere = [all(row.values) for row in section.differences]
    assert everywhere == [True] * 3 + [False] * 2
    several, one = (entry.name for entry in section.settings)
    assert section.notes == [
        f"One seed: {one}. Intervals there speak of tasks, not of seeds.",
        f"Fewer than 3 seeds: {several}.",
    ]


def test_environments_have_sections_of_their_own(tmp_path: Path) -> None:
    other = {**NAVIGATION, "horizon": 50}
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", env=other)]
    first, second = sections_of(*runs)
    assert len(first.settings) == len(second.settings) == 1
    assert "horizon 50" in second.environment
    assert first.results[0].rank is None
    assert first.differences == []


@pytest.mark.parametrize(
    ("value", "text"), [(-1.234, "−1.23"), (12.34, "12.3"), (0.0, "0.00"), (-12.34, "−12.3")]
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text
