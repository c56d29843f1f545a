"""What ``metarl evaluate`` leaves in a run's folder, and who takes which file for what."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import torch

from metarl.evaluation import AdaptationCurve
from metarl.experiments.arguments import plain_console
from metarl.experiments.cli import main
from metarl.experiments.evaluation.files import standard_evaluations, table_of
from metarl.experiments.evaluation.scoring import curve_of, load_run
from metarl.types import Tasks

STANDARD = "000001_tasks40_adaptations3"
OTHERS = (
    ("--split", "shifted"),
    ("--shots", "2,3"),
    ("--protocol", "meta-world", "--split", "shifted"),
)


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    shutil.copytree(runs / "maml", tmp_path / "run")
    return tmp_path / "run"


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_training_leaves_the_scores_of_each_task_as_csv(runs: Path) -> None:
    folder = runs / "maml" / "eval"
    content = json.loads((folder / f"{STANDARD}.json").read_text())
    table = rows((folder / f"{STANDARD}.csv").read_text())
    head = ["task", "goal[0]", "goal[1]", "adaptations", "env_steps", "return", "success"]
    assert list(table[0]) == head
    assert [(row["task"], row["adaptations"]) for row in table] == [
        (str(task), str(number)) for task in range(40) for number in range(4)
    ]
    machine: dict[str, object] = {"device": "cpu", "threads": 1}
    parts = load_run(runs / "maml", "checkpoints", machine, plain_console())[1]
    goals = parts.distribution.held_out(40).parameter["goal"]
    told = torch.tensor([[float(row["goal[0]"]), float(row["goal[1]"])] for row in table[::4]])
    assert torch.equal(told, goals)
    scores = torch.tensor([float(row["return"]) for row in table]).view(40, 4)
    assert torch.equal(scores, torch.tensor(content["per_task"]))
    success = torch.tensor([float(row["success"]) for row in table]).view(40, 4)
    assert success.tolist() == content["success_per_task"]
    steps = torch.tensor([float(row["env_steps"]) for row in table]).view(40, 4)
    assert steps.double().mean(0).tolist() == pytest.approx(content["env_steps"])
    assert (steps[:, 0] == 0).all()


def test_where_there_is_no_goal_success_stays_empty(runs: Path) -> None:
    folder = runs / "bandit" / "eval"
    table = rows((folder / f"{STANDARD}.csv").read_text())
    assert list(table[0])[:3] == ["task", "reward_mean[0][0]", "reward_mean[0][1]"]
    assert {row["success"] for row in table} == {""}
    content = json.loads((folder / f"{STANDARD}.json").read_text())
    assert content["success"] is content["success_per_task"] is None
    random = content["references"]["random policy"]
    assert random["env_steps"] == content["env_steps"] == [0, 10, 20, 30]


def test_names_are_quoted_and_wide_parameters_left_out() -> None:
    parameter = {"a,b": torch.tensor([1.5, -2.0]), "walls": torch.zeros(2, 9, 9)}
    scores = torch.tensor([[1 / 3], [2.0]])
    played = AdaptationCurve(scores, torch.zeros(2, 1), torch.full((2, 1), torch.nan), scores)
    curve = curve_of(scores, (0,))._replace(played=played)
    text = table_of(Tasks(torch.arange(2), parameter), curve)
    assert text.splitlines()[0] == 'task,"a,b",adaptations,env_steps,return,success'
    first, second = rows(text)
    assert (first["a,b"], second["a,b"]) == ("1.5", "-2")
    assert torch.tensor(float(first["return"])) == scores[0, 0]


def test_other_protocols_have_files_of_their_own_which_no_table_takes(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run / "eval"
    assert main(["table", str(run)]) == 0
    standard = capsys.readouterr().out
    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    for flags in OTHERS:
        assert main(["evaluate", str(run), "--tasks", "60", *flags]) == 0
    added = {file.name for file in folder.iterdir()} - kept.keys()
    stems = ("3_shifted", "3_shots2", "3_shots3", "1_shifted_meta-world")
    assert added == {
        f"000001_tasks60_adaptations{stem}.{kind}"
        for stem in stems
        for kind in ("json", "csv", "png")
    } | {"000001_tasks60_adaptations3_shots2-3.png"}
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    shots = json.loads((folder / "000001_tasks60_adaptations3_shots2.json").read_text())
    assert (shots["episodes"], shots["score"]) == (2, "mean return of an episode")
    table = rows((folder / "000001_tasks60_adaptations1_shifted_meta-world.csv").read_text())
    assert len(table) == 120
    shown = capsys.readouterr().out
    assert "on shifted tasks, after n adaptation steps, meta-world" in shown
    assert "2-shot" in shown
    assert "env steps" in shown
    assert main(["table", str(run)]) == 0
    assert capsys.readouterr().out == standard
    assert standard_evaluations(folder, 1) == [folder / f"{STANDARD}.json"]
    assert standard_evaluations(folder, 2) == []


def test_the_same_evaluation_makes_the_same_files(run: Path) -> None:
    folder = run / "eval"
    kept = [(folder / f"{STANDARD}{kind}").read_bytes() for kind in (".csv", ".png")]
    stored = json.loads((folder / f"{STANDARD}.json").read_text())
    assert main(["evaluate", str(run)]) == 0
    again = json.loads((folder / f"{STANDARD}.json").read_text())
    assert [(folder / f"{STANDARD}{kind}").read_bytes() for kind in (".csv", ".png")] == kept
    assert {key: stored[key] for key in stored if key != "system"} == {
        key: again[key] for key in again if key != "system"
    }
