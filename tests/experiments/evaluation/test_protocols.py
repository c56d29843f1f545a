"""``metarl evaluate`` by each of its protocols, against the same played by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from metarl.evaluation import EvaluationConfig, adaptation_curve
from metarl.experiments.arguments import plain_console
from metarl.experiments.cli import main
from metarl.experiments.evaluation.scoring import EVALUATION_STREAMS, load_run
from metarl.experiments.experiment import Parts
from metarl.sampler import collect
from tests.experiments.evaluation.conftest import WIDE_GOALS

K = 5


def evaluated(capsys: pytest.CaptureFixture[str], run: Path, *flags: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", str(run), "--tasks", str(K), "--json", *flags]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def built(run: Path) -> Parts:
    machine: dict[str, object] = {"device": "cpu", "threads": 1}
    return load_run(run, "checkpoints", machine, plain_console())[1]


def test_an_episode_succeeds_where_it_reaches_the_goal(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On this navigation an episode ends at the goal, and nowhere else but at the horizon."""
    result = evaluated(capsys, runs / "maml", "--adaptations", "1")
    parts = built(runs / "maml")
    tasks, agent = parts.distribution.held_out(K), parts.agent
    place = EVALUATION_STREAMS.at("round", 0)
    batch, _ = collect(parts.env, tasks, agent, agent.begin(K, 4), 4, place)
    reached = batch.terminated.any(-1).double().mean(-1)
    assert 0 < reached.mean() < 1
    assert [row[0] for row in result["success_per_task"]] == reached.tolist()
    assert result["success"][0] == pytest.approx(float(reached.mean()))
    assert result["env_steps"] == [0.0, float(batch.mask.sum((1, 2)).double().mean())]
    assert result["env_steps"][1] < 4 * 12
    assert result["episodes_spent"] == [0, 4]


def test_the_shifted_list_has_scores_of_its_own(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluated(capsys, runs / "maml", "--split", "shifted")
    parts = built(runs / "maml")
    tasks = parts.distribution.held_out(K, "shifted")
    config = EvaluationConfig(episodes=4, adaptations=3)
    curve = adaptation_curve(parts.agent, parts.env, tasks, config, EVALUATION_STREAMS)
    assert result["per_task"] == curve.score.tolist()
    assert result["split"] == "shifted"
    assert result["per_task"] != evaluated(capsys, runs / "maml")["per_task"]


def test_shots_are_the_episodes_of_each_adaptation(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shots = evaluated(capsys, runs / "maml", "--shots", "1, 4,6", "--adaptations", "2")["shots"]
    assert list(shots) == ["1", "4", "6"]
    parts = built(runs / "maml")
    tasks = parts.distribution.held_out(K)
    for number, result in shots.items():
        config = EvaluationConfig(episodes=int(number), adaptations=2)
        curve = adaptation_curve(parts.agent, parts.env, tasks, config, EVALUATION_STREAMS)
        assert result["per_task"] == curve.score.tolist()
        assert result["episodes_spent"] == [0, int(number), 2 * int(number)]
    usual = evaluated(capsys, runs / "maml", "--adaptations", "2")
    assert shots["4"] == usual


def test_shots_are_compared_by_means_where_rounds_score_by_totals(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = evaluated(capsys, runs / "bandit")
    shot = evaluated(capsys, runs / "bandit", "--shots", "10")["shots"]["10"]
    assert usual["episodes_scored"] == [10] * 4
    assert [10 * mean for mean in shot["mean"]] == pytest.approx(usual["mean"])


def test_meta_world_adapts_to_ten_episodes_and_scores_three(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluated(capsys, runs / "maml", "--protocol", "meta-world")
    parts = built(runs / "maml")
    tasks, agent = parts.distribution.held_out(K), parts.agent
    explored, known = collect(
        parts.env, tasks, agent, agent.begin(K, 10), 10, EVALUATION_STREAMS.at("round", 0)
    )
    with torch.no_grad():
        known = agent.adapt(known, explored)
    scored, _ = collect(parts.env, tasks, agent, known, 3, EVALUATION_STREAMS.at("round", 1))
    columns = [batch.reward.sum(-1).mean(-1) for batch in (explored, scored)]
    assert result["per_task"] == torch.stack(columns, 1).tolist()
    assert result["success_per_task"][2][1] == scored.success[2].double().mean()
    assert (result["episodes_scored"], result["episodes_spent"]) == ([10, 3], [0, 10])
    assert result["env_steps"][1] == explored.mask.sum((1, 2)).double().mean()


def test_meta_world_scores_the_eleventh_episode_of_a_trial(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluated(capsys, runs / "rl2", "--protocol", "meta-world")
    parts = built(runs / "rl2")
    tasks, agent = parts.distribution.held_out(K), parts.agent
    known, steps = agent.begin(K, 3), 0.0
    for number in range(10):
        place = EVALUATION_STREAMS.at("round", number)
        batch, known = collect(parts.env, tasks, agent, known, 3, place)
        steps += float(batch.mask.sum() / 3 / K)
    last, _ = collect(parts.env, tasks, agent, known, 3, EVALUATION_STREAMS.at("round", 10))
    assert [row[10] for row in result["per_task"]] == last.reward.sum(-1).mean(-1).tolist()
    assert result["episodes_spent"] == list(range(11))
    assert result["env_steps"][10] == pytest.approx(steps)


def test_meta_world_scores_by_the_mean_whatever_the_field_adds_up(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("bandit", "rl2-bandit"):
        result = evaluated(capsys, runs / name, "--protocol", "meta-world", "--tasks", "40")
        horizon = {"bandit": 1, "rl2-bandit": 10}[name]
        assert 0.2 * horizon < min(result["mean"]) <= max(result["mean"]) < horizon


def test_references_go_by_the_protocol_too(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In Meta-World's each as one of its kind: with memory by trials, also beside one without."""
    flags = ("--protocol", "meta-world", "--split", "shifted")
    alone = evaluated(capsys, runs / "rl2", *flags)
    beside = evaluated(capsys, runs / "maml", *flags, "--references", str(runs / "rl2"))
    (shown,) = beside["references"].values()
    assert shown == {name: alone[name] for name in shown}
    shots = evaluated(capsys, runs / "maml", "--shots", "2", "--references", str(runs / "maml"))
    (shown,) = shots["shots"]["2"]["references"].values()
    assert shown["mean"] == shots["shots"]["2"]["mean"]


def test_ceilings_go_by_the_protocol_too(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--ceilings", "--tasks", "200"]
    result = evaluated(capsys, runs / "bandit", "--protocol", "meta-world", *flags)
    reached = result["references"]
    # The best of 5 arms pays 5/6; who has pulled ten times comes near it.
    assert reached["best arm"]["mean"] == pytest.approx([0.833] * 2, abs=0.03)
    assert reached["Gittins"]["mean"][0] < reached["Gittins"]["mean"][1] - 0.05
    shot = evaluated(capsys, runs / "bandit", "--shots", "10", *flags)["shots"]["10"]
    assert shot["references"]["best arm"]["mean"] == pytest.approx([0.833] * 4, abs=0.03)


def test_learning_from_scratch_on_the_shifted_list(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "scratch.json")
    flags = ["--split", "shifted", "--tasks", "1", "--rounds", "1", "--steps", "1", "--out", file]
    assert main(["scratch", "maml-trpo/navigation", *WIDE_GOALS, *flags]) == 0
    stored = json.loads(Path(file).read_text())
    beside = evaluated(capsys, runs / "maml", "--split", "shifted", "--references", file)
    early, _ = beside["references"].values()
    assert early["mean"] == pytest.approx(stored["per_task"][0][:2])
    assert early["episodes_spent"] == [0, 4]
    for wrong, said in (
        ([], "split is 'shifted', and 'test' in this evaluation"),
        (["--split", "shifted", "--shots", "5"], "episodes is 4, and 5 in this evaluation"),
        (["--split", "shifted", "--protocol", "meta-world"], "has no meta-world protocol"),
    ):
        assert main(["evaluate", str(runs / "maml"), "--references", file, *wrong]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("run", "flags", "said"),
    [
        (
            "maml",
            ["--split", "shiftd"],
            "no 'shiftd'; did you mean 'shifted'? known: test, shifted",
        ),
        ("bandit", ["--split", "shifted"], "BernoulliBandit-v0: no 'shifted'; known: test"),
        ("maml", ["--shots", "1,0"], "--shots must be different whole numbers from 1"),
        ("maml", ["--shots", "1,1"], "got '1,1'"),
        ("maml", ["--shots", "1.5"], "got '1.5'"),
        ("maml", ["--shots", ","], "got ','"),
        ("maml", ["--shots", "1,-5"], "got '1,-5'"),
        ("maml", ["--shots", "9" * 5000], "--shots must be"),
        ("rl2", ["--shots", "5"], "Rl2 learns from each episode as it goes"),
        ("maml", ["--protocol", "meta-world", "--shots", "5"], "leave out --adaptations"),
        ("rl2", ["--protocol", "meta-world", "--adaptations", "5"], "leave out --adaptations"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_by_name(
    runs: Path, run: str, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted((runs / run).rglob("*"))
    assert main(["evaluate", str(runs / run), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("metarl: ")
    assert said in line
    assert sorted((runs / run).rglob("*")) == before
