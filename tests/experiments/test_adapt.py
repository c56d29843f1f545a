"""Adapting to one task, from Python and by the command, and what SB3 makes of the result."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.monitor import Monitor

from metarl import agents
from metarl.adapted_policy import AdaptedPolicy
from metarl.checks import InputError
from metarl.envs.one_copy import OneCopy
from metarl.envs.sb3 import TaskVecEnv
from metarl.experiments.adapt import AdaptConfig, adapt_run, adapt_to
from metarl.experiments.cli import main
from tests.conftest import SMALL_ENVS, build_world, load_script
from tests.envs.faces import inmost
from tests.experiments.sb3_evaluation import evaluated

NAVIGATION = "metarl/PointNavigation-v0"
BANDIT = "metarl/BernoulliBandit-v0"
FEW = AdaptConfig(episodes=3)
ARMS = {"reward_mean": [[0.1, 0.2, 0.9, 0.3, 0.4]]}


def played(policy: AdaptedPolicy, env: gymnasium.Env[Any, Any]) -> float:
    """One episode by hand, with likeliest actions."""
    total, (obs, _), over = 0.0, env.reset(seed=1), False
    while not over:
        action, _ = policy.predict(obs, deterministic=True)
        obs, reward, terminated, truncated, _ = env.step(action)
        total, over = total + float(reward), terminated or truncated
    return total


def test_sb3_evaluates_it_single_and_in_copies() -> None:
    world = build_world("maml-trpo", NAVIGATION)
    policy = adapt_to(world.new_agent(), world.env, world.distribution.held_out(1), FEW)
    config = SMALL_ENVS[NAVIGATION]
    single = gymnasium.make(NAVIGATION, config=config, split="test")
    (first, second), _ = evaluated(policy, Monitor(single), 2)
    assert first == pytest.approx(played(policy, single), abs=1e-4)
    assert second == first
    copies = TaskVecEnv(NAVIGATION, 3, config=config, split="test")
    copies.set_tasks([inmost(single).task])
    again, _ = evaluated(policy, copies, 3)
    assert again == pytest.approx([first] * 3, abs=1e-4)


def test_sb3_evaluates_choices() -> None:
    world = build_world("reptile", BANDIT)
    policy = adapt_to(world.new_agent(), world.env, world.distribution.held_out(1), FEW)
    copies = TaskVecEnv(BANDIT, 4, split="test")
    for deterministic in (True, False):
        returns, _ = evaluated(policy, copies, 8, deterministic)
        assert 0.0 <= np.mean(returns) <= 1.0


def test_adapting_helps_where_the_answer_is_plain() -> None:
    """One arm pays always and the others never: the likeliest choice becomes that arm."""
    world = build_world("maml-trpo", BANDIT)
    env = gymnasium.make(BANDIT)
    env.reset(options={"task": {"reward_mean": [[0.0, 0.0, 0.0, 1.0, 0.0]]}})
    config = AdaptConfig(episodes=60, adaptations=60)
    policy = adapt_to(world.new_agent(), env, config=config)
    action, _ = policy.predict(np.ones(1, dtype=np.float32), deterministic=True)
    assert int(action) == 3
    assert policy.made.scores[-1] > policy.made.scores[0]


def test_an_environment_of_the_users_gets_actions_in_its_own_range() -> None:
    pendulum = gymnasium.make("Pendulum-v1", max_episode_steps=10)
    spec = OneCopy(pendulum).spec
    agent = build_world("maml-trpo", NAVIGATION).new_agent()
    with pytest.raises(InputError, match=r"observations of 2.*2 numbers.*of 3.*1 numbers"):
        adapt_to(agent, pendulum, config=FEW)
    agent = agents.build("maml-trpo", spec, seed=2)
    policy = adapt_to(agent, pendulum, config=FEW)
    obs = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 8.0]], dtype=np.float32)
    actions = np.concatenate([policy.predict(obs)[0] for _ in range(100)])
    assert actions.min() == -2.0
    assert actions.max() == 2.0
    assert policy.made.task is None
    assert policy.made.env == "Pendulum-v1"
    assert len(policy.made.scores) == 1


@pytest.mark.parametrize(
    ("env", "tasks", "said"),
    [
        (None, 2, "Tasks of length 1 are needed .*, got 2 tasks"),
        (None, 0, "Tasks of length 1 are needed .*, got NoneType"),
        (TaskVecEnv(BANDIT, 2), 0, "or a gymnasium.Env, is needed, got TaskVecEnv"),
        (gymnasium.make(BANDIT), 1, "it has its task already"),
    ],
)
def test_what_cannot_be_adapted_to_is_refused(env: object, tasks: int, said: str) -> None:
    world = build_world("maml-trpo", BANDIT)
    task = world.distribution.held_out(tasks) if tasks else None
    with pytest.raises(InputError, match=said):
        adapt_to(world.new_agent(), world.env if env is None else env, task, FEW)


def test_an_agent_that_names_no_policy_is_refused() -> None:
    world = build_world("maml-trpo", BANDIT)
    with pytest.raises(InputError, match=r"metarl\.acting\.ActsByPolicy.*got object"):
        adapt_to(object(), world.env, world.distribution.held_out(1))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "bandit"
    assert main(["train", "maml-trpo/bandit", "--out", str(out), "--iterations", "1"]) == 0
    return out


def test_the_command_keeps_what_adapt_run_returns(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "kept", tmp_path / "policy.pt"
    flags = ["--episodes", "7", "--adaptations", "2", "--out", str(out), "--export", str(file)]
    assert main(["adapt", str(run), "--task", json.dumps(ARMS), *flags]) == 0
    shown = capsys.readouterr()
    assert "score after 1 adaptations: " in shown.err
    assert shown.out == ""
    kept = AdaptedPolicy.load(out)
    policy = adapt_run(run, ARMS, AdaptConfig(episodes=7, adaptations=2))
    for name, leaf in policy.kept.params.items():
        assert torch.equal(kept.kept.params[name], leaf), name
    assert kept.made == policy.made
    assert (kept.made.run, kept.made.episodes) == (str(run), (7, 7))
    assert int(load_script(file)(torch.ones(1, 1))) == int(
        policy.predict(np.ones(1), deterministic=True)[0]
    )
    in_gymnasium = adapt_run(run, gymnasium.make(BANDIT, split="test"), FEW)
    assert in_gymnasium.made.run == str(run)


@pytest.mark.parametrize(
    ("task", "flags", "said"),
    [
        ("{velocity: 1.5}", (), "--task is not JSON: "),
        ("[" * 3000, (), "--task is not JSON: "),
        ("[1.5]", (), "--task must be a JSON object, got '[1.5]'"),
        ('{"velocity": 1.5}', (), "no 'velocity'; known: reward_mean"),
        ("ARMS", ("--episodes", "0"), "AdaptArgs.episodes must be a whole number"),
        ("ARMS", ("--adaptations", "-1"), "AdaptArgs.adaptations must be a whole number"),
        ("ARMS", ("--export", "policy.h5"), "must end in .pt (TorchScript) or .onnx (ONNX)"),
    ],
)
def test_mistakes_of_the_command_are_refused_by_name(
    run: Path,
    tmp_path: Path,
    task: str,
    flags: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = json.dumps(ARMS) if task == "ARMS" else task
    arguments = ["adapt", str(run), "--task", text, "--out", str(tmp_path / "kept"), *flags]
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def test_a_folder_that_cannot_be_written_ends_with_74(run: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    arguments = ["adapt", str(run), "--task", json.dumps(ARMS), "--out", str(tmp_path / "kept")]
    assert main(arguments) == 74
