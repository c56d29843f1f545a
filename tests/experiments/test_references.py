"""What ``metarl evaluate`` shows beside a run, and what ``metarl scratch`` learns."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3 import PPO

from metarl.envs.sb3 import TaskVecEnv
from metarl.experiments.cli import main
from metarl.experiments.experiment import build
from metarl.experiments.presets import preset
from metarl.experiments.scratch import ScratchRequest
from metarl.experiments.scratch_ppo import Sb3Policy

SMALL = ["--env.horizon", "6", "--episodes", "4"]
NET = ["--agent.policy.hidden-sizes", "8"]
TRAIN = ["--iterations", "1", "--tasks-per-update", "4", "--evaluate-every", "0"]
EVALUATE = ["--adaptations", "2", "--tasks", "3"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a meta-learner and its references, and learn two of its test tasks from scratch."""
    out = tmp_path_factory.mktemp("runs")
    for agent in ("maml-trpo", "average", "told", "pretrained"):
        flags = ["--out", str(out / agent), *SMALL, *NET, *TRAIN]
        assert main(["train", f"{agent}/navigation", *flags]) == 0
    for name, changed in (("other", ["--env.goal-range", "0.7"]), ("mine", ["--episodes", "5"])):
        flags = ["--out", str(out / name), *SMALL, *NET, *TRAIN, *changed]
        assert main(["train", "average/navigation", *flags]) == 0
    scratch = ["--tasks", "2", "--rounds", "2", "--steps", "80", "--out", str(out / "scratch.json")]
    assert main(["scratch", "maml-trpo/navigation", *SMALL, *scratch]) == 0
    return out


def evaluated(capsys: pytest.CaptureFixture[str], run: Path, *flags: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", str(run), *EVALUATE, "--json", *flags]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_references_are_scored_as_the_run_is(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [str(runs / name) for name in ("average", "told", "pretrained")]
    result = evaluated(capsys, runs / "maml-trpo", "--references", *others)
    shown = result["references"]
    assert list(shown) == ["average/navigation", "told/navigation", "pretrained/navigation"]
    for name, curve in shown.items():
        alone = evaluated(capsys, runs / name.partition("/")[0])
        assert curve["mean"] == alone["mean"]
    # Trained alike, and met with the same noise: they part when one of them adapts.
    average, pretrained = (
        shown[f"{name}/navigation"]["mean"] for name in ("average", "pretrained")
    )
    assert pretrained[0] == average[0]
    assert pretrained[1] != average[1]


def test_learning_from_scratch_stands_beside_the_run(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = json.loads((runs / "scratch.json").read_text())
    assert stored["rounds"] == [0, 1, 2, 4]
    assert stored["env_steps"] == [0, 24, 48, 96]
    assert len(stored["per_task"]) == 2
    assert stored["per_task"][0] != stored["per_task"][1]
    result = evaluated(capsys, runs / "maml-trpo", "--references", str(runs / "scratch.json"))
    early, late = result["references"].values()
    assert list(result["references"]) == [
        "from scratch, 2 tasks",
        "from scratch, 96 steps, 2 tasks",
    ]
    columns = [sum(column) / 2 for column in zip(*stored["per_task"], strict=True)]
    assert early["mean"] == pytest.approx(columns[:3])
    assert late["mean"] == pytest.approx([columns[3]] * 3)


def test_the_same_seed_learns_the_same(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.random.get_rng_state()
    flags = ["--tasks", "1", "--rounds", "1", "--steps", "1", "--threads", "1", "--json"]
    capsys.readouterr()
    assert main(["scratch", "maml-trpo/navigation", *SMALL, *flags]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["per_task"] == [json.loads((runs / "scratch.json").read_text())["per_task"][0][:2]]
    assert main(["scratch", "maml-trpo/navigation", *SMALL, *flags, "--seed", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["per_task"] != again["per_task"]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_each_task_is_learned_by_a_run_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    # The best arms of these two bandits pay 0.91 and 0.67, all of them 0.66 and 0.38 on average.
    flags = ["--episodes", "50", "--tasks", "2", "--rounds", "1", "--steps", "1600", "--json"]
    assert main(["scratch", "maml-trpo/bandit", *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["env_steps"] == [0, 50, 100, 200, 400, 800, 1600]
    easy, hard = result["per_task"]
    assert easy[-1] > 42
    assert hard[-1] > 29
    assert max(easy[0], hard[0]) < 40
    assert result["mean"] == [(left + right) / 2 for left, right in zip(easy, hard, strict=True)]


def test_ppo_leaves_no_folder_of_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SB3_LOGDIR", str(tmp_path / "logs"))  # otherwise among temporary files
    flags = ["--tasks", "1", "--rounds", "1", "--steps", "24", "--env.horizon", "6"]
    assert main(["scratch", "maml-trpo/navigation", "--episodes", "4", *flags]) == 0
    assert not (tmp_path / "logs").exists()


def test_a_round_of_one_step_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scratch", "maml-trpo/bandit", "--episodes", "1"]) == 2
    assert "a round is one step" in capsys.readouterr().err


def test_references_take_the_number_of_episodes_from_the_run(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five episodes where the reference was trained with four."""
    result = evaluated(capsys, runs / "mine", "--references", str(runs / "pretrained"))
    (beside,) = result["references"].values()
    alone = evaluated(capsys, runs / "pretrained")
    assert beside["mean"][0] != alone["mean"][0]


def test_the_report_holds_all_curves(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = [str(runs / "average"), str(runs / "average"), str(runs / "scratch.json")]
    assert main(["evaluate", str(runs / "average"), *EVALUATE, "--references", *twice]) == 0
    shown = capsys.readouterr().out
    file = runs / "average" / "eval" / "000001_tasks3_adaptations2.json"
    names = list(json.loads(file.read_text())["references"])
    assert names == [
        "random policy",
        "untrained, adapted",
        "average/navigation (average)",
        "average/navigation (average, 2)",
        "from scratch, 2 tasks",
        "from scratch, 96 steps, 2 tasks",
    ]
    assert "96 steps" in shown
    assert file.with_suffix(".png").read_bytes()[1:4] == b"PNG"


def test_what_can_be_reached_is_computed_where_it_can_be(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bandit = tmp_path / "bandit"
    assert main(["train", "maml-trpo/bandit", "--out", str(bandit), *TRAIN]) == 0
    reached = evaluated(capsys, bandit, "--ceilings", "--tasks", "200")["references"]
    assert {"best arm", "Gittins", "random"} <= set(reached)
    # The best of 5 arms gives 5/6 of 10 pulls, and 10 pulls at random half of them.
    assert reached["best arm"]["mean"] == pytest.approx([8.33] * 3, abs=0.35)
    assert reached["random"]["mean"][0] == pytest.approx(5.0, abs=0.35)
    # Who learns gets better from round to round.
    assert reached["Gittins"]["mean"][0] < reached["Gittins"]["mean"][1] - 0.3
    assert "references" not in evaluated(capsys, runs / "average", "--ceilings")


def test_an_agent_with_memory_stands_beside_trials_of_one_episode_a_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four copies of a bandit are four trials: the best arm of none pays 40 times."""
    flags = ["--out", str(tmp_path / "rl2"), *TRAIN, "--episodes", "4", "--agent.memory-size", "4"]
    assert main(["train", "rl2/bandit", *flags]) == 0
    reached = evaluated(capsys, tmp_path / "rl2", "--ceilings", "--tasks", "200")["references"]
    assert reached["best arm"]["mean"] == pytest.approx([8.33] * 3, abs=0.35)
    assert reached["Gittins"]["mean"][0] < reached["Gittins"]["mean"][1] - 0.3


def test_beside_an_agent_with_memory_scores_are_of_an_episode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--episodes", "4", "--tasks", "1", "--rounds", "1", "--steps", "1", "--json"]
    stored = {}
    for agent in ("rl2", "maml-trpo"):
        assert main(["scratch", f"{agent}/bandit", "--env.horizon", "10", *flags]) == 0
        stored[agent] = json.loads(capsys.readouterr().out)
        (tmp_path / f"{agent}.json").write_text(json.dumps(stored[agent]))
    assert stored["rl2"]["score"] == "mean return of an episode"
    assert stored["maml-trpo"]["score"] == "total reward of a round"
    mean, total = (stored[agent]["per_task"][0] for agent in stored)
    assert [4 * score for score in mean] == pytest.approx(total)
    flags = ["--out", str(tmp_path / "rl2"), *TRAIN, "--episodes", "4", "--agent.memory-size", "4"]
    assert main(["train", "rl2/bandit", *flags]) == 0
    beside = evaluated(capsys, tmp_path / "rl2", "--references", str(tmp_path / "rl2.json"))
    assert beside["references"]["from scratch, 1 task"]["mean"][:2] == pytest.approx(mean)
    refused = ["--references", str(tmp_path / "maml-trpo.json")]
    assert main(["evaluate", str(tmp_path / "rl2"), *EVALUATE, *refused]) == 2
    assert "score is 'total reward of a round', and 'mean return" in capsys.readouterr().err


def test_a_single_task_need_not_be_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--tasks", "1", "--rounds", "1", "--steps", "1", "--threads", "1", "--json"]
    capsys.readouterr()
    assert main(["scratch", "told/navigation", *SMALL, *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    stored = json.loads((runs / "scratch.json").read_text())
    assert told["per_task"] == [stored["per_task"][0][:2]]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("other", "env.goal_range: the run has 0.5, the reference 0.7"),
        ("scratch.json", "episodes is 4, and 5 in this evaluation"),
        ("average/config.yaml", "neither a run folder nor a JSON file"),
        ("average/system.json", "not what metarl scratch writes: env is missing"),
        ("nothing", "neither a run folder nor a JSON file"),
        (".", "is not a run folder"),
    ],
)
def test_references_of_other_tasks_are_refused(
    runs: Path, place: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    flags = ["--references", str(runs / place), "--json", *EVALUATE]
    assert main(["evaluate", str(runs / "mine"), *flags]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rounds", "steps", "expected"),
    [
        (3, 100, [0, 1, 2, 3, 6, 10]),
        (3, 10, [0, 1, 2, 3]),
        (0, 41, [0, 2, 4, 5]),
        (1, 40, [0, 1, 2, 4]),
    ],
)
def test_scored_after_each_round_and_ever_more_seldom(
    rounds: int, steps: int, expected: list[int]
) -> None:
    assert ScratchRequest(rounds=rounds, steps=steps).scored_after(10) == expected


def test_a_policy_of_sb3_acts_by_its_own_distribution() -> None:
    parts = build(preset("maml-trpo/navigation"))
    model = PPO("MlpPolicy", TaskVecEnv("metarl/PointNavigation-v0", 1), device="cpu")
    agent = Sb3Policy(model.policy, parts.env.spec)
    obs = torch.linspace(-1, 1, 12).view(2, 3, 2)
    noise = torch.tensor([0.3, -4.0]).expand(2, 3, 2)
    acted = agent.act(agent.begin(2, 3), obs, noise)
    mean, _ = model.predict(obs.view(6, 2).numpy(), deterministic=True)
    # SB3 starts with standard deviation 1 and cuts at 1; the environment's limit is another.
    share = (torch.from_numpy(mean).view(2, 3, 2) + noise).clamp(-1, 1)
    torch.testing.assert_close(acted.action, share * parts.env.spec.action_limit)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rounds": 3}, "rounds must be tuple[int, ...], got 3"),
        ({"rounds": ["a", "b", "c", "d"]}, "rounds must be tuple[int, ...]"),
        ({"rounds": [1, 2, 3, 4]}, "rounds must rise from 0"),
        ({"env_steps": []}, "rounds, env_steps and per_task disagree"),
        ({"env_steps": ["x"]}, "env_steps must be tuple[int, ...]"),
        ({"per_task": "abc"}, "per_task must be tuple[tuple[float, ...], ...], got 'abc'"),
        ({"per_task": [["1", "2", "3", "4"]]}, "per_task must be"),
        ({"per_task": [[1.0], [1.0, 2.0]]}, "scores make no table"),
        ({"per_task": [[10**400] * 4]}, "scores make no table"),
        ({"per_task": []}, "no scores"),
        ({"per_task": [[1.0, 2.0, 3.0]]}, "rounds, env_steps and per_task disagree"),
        ({"per_task": [[float("nan"), 1.0, 2.0, 3.0]]}, "not JSON: Out of range"),
        ({"score": 1}, "score must be str, got 1"),
        ({"env": json.loads("[" * 51 + "]" * 51)}, "not JSON: nested more than 50 deep"),
        (None, "not JSON: maximum recursion depth"),
    ],
)
def test_damaged_files_of_scratch_are_refused_in_one_line(
    runs: Path,
    tmp_path: Path,
    changes: dict[str, object] | None,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stored = json.loads((runs / "scratch.json").read_text())
    file = tmp_path / "bad.json"
    file.write_text("[" * 100_000 if changes is None else json.dumps(stored | changes))
    capsys.readouterr()
    assert main(["evaluate", str(runs / "average"), *EVALUATE, "--references", str(file)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert str(file) in error
    assert "Traceback" not in error
