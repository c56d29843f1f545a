"""Adapting an agent with memory: one trial, which goes on in whatever takes its policy."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from metarl.adapted_policy import AdaptedPolicy
from metarl.checks import InputError
from metarl.envs.one_copy import OneCopy
from metarl.envs.tells_reward import TellsReward
from metarl.experiments.adapt import AdaptConfig, adapt_run, adapt_to
from metarl.experiments.cli import main
from metarl.protocols import HasMemory
from metarl.types import Outcome
from tests.conftest import SMALL_ENVS, build_world, load_script
from tests.experiments.sb3_evaluation import evaluated

NAVIGATION, BANDIT = "metarl/PointNavigation-v0", "metarl/BernoulliBandit-v0"
TASK = {"goal": [0.25, -0.5]}
CELL = {"goal": [2, 3]}


def navigation() -> gymnasium.Env[Any, Any]:
    env = gymnasium.make(NAVIGATION, config=SMALL_ENVS[NAVIGATION], split="test")
    env.reset(seed=3, options={"task": TASK})
    return env


def adapted(adaptations: int, episodes: int = 2) -> AdaptedPolicy:
    config = AdaptConfig(episodes=episodes, adaptations=adaptations, seed=5)
    return adapt_to(build_world("rl2", NAVIGATION).new_agent(), navigation(), config=config)


def assert_same(left: AdaptedPolicy, right: AdaptedPolicy) -> None:
    for name, leaf in left.kept.params.items():
        assert torch.equal(leaf, right.kept.params[name]), name


def test_adapting_goes_on_and_can_be_taken_back() -> None:
    fresh, once, policy = adapted(0), adapted(1), adapted(1)
    assert not any(
        leaf.any() for name, leaf in fresh.kept.params.items() if name.startswith("start.")
    )
    policy.adapt(2)
    assert_same(policy, adapted(2))
    assert not torch.equal(policy.kept.params["start.memory"], once.kept.params["start.memory"])
    assert policy.kept.params["start.ended"] == 1.0
    policy.reset_adaptation()
    assert_same(policy, fresh)
    assert policy.made == fresh.made
    policy.adapt(2)
    assert_same(policy, once)


def test_predict_lives_on_as_the_agent_does() -> None:
    """Over two further episodes with likeliest actions, from what the environment tells itself."""
    world, policy = build_world("rl2", NAVIGATION), adapted(1)
    agent, env = world.new_agent(), navigation()
    assert isinstance(agent, HasMemory)
    start = {name: policy.kept.params[f"start.{name}"] for name in agent.begin(1, 1)}
    known = {name: leaf[None, None] for name, leaf in start.items()}
    told, state = TellsReward(navigation()), None
    limit, horizon, total = world.env.spec.action_limit, world.env.spec.horizon, 0
    for _ in range(2):
        obs, _ = env.reset()
        shown, _ = told.reset()
        begins, over = True, False
        while not over:
            action, state = policy.predict(shown, state, np.array([begins]), deterministic=True)
            acted = agent.act(known, torch.from_numpy(obs)[None, None], torch.zeros(1, 1, 2))
            expected = (acted.action / limit).clamp(-1.0, 1.0)[0, 0].numpy()
            assert np.abs(action - expected).max() <= 1e-5
            obs, reward, terminated, truncated, _ = env.step(expected)
            shown, *_ = told.step(action)
            over, begins, total = terminated or truncated, False, total + 1
            outcome = Outcome(
                torch.tensor([[float(reward)]]), torch.tensor([[over]]), torch.tensor([[True]])
            )
            known = agent.remember(known, acted, outcome)
    assert total == 2 * horizon
    assert state is not None
    assert np.abs(state[0] - known["memory"][0].numpy()).max() <= 1e-5


def test_sb3_evaluates_it_single_and_in_copies() -> None:
    policy = adapted(1)
    single = Monitor(TellsReward(navigation()))
    both, _ = evaluated(policy, single, 2)
    copies = DummyVecEnv([lambda: Monitor(TellsReward(navigation()))] * 3)
    six, lengths = evaluated(policy, copies, 6)
    # The environment starts the same: every copy lives through the same trial.
    assert lengths == [15] * 6
    assert sorted(six) == pytest.approx(sorted(both * 3), abs=1e-4)
    assert both[0] != pytest.approx(both[1], abs=1e-4)


def test_sb3_evaluates_choices() -> None:
    world = build_world("rl2", BANDIT)
    config = AdaptConfig(episodes=3)
    policy = adapt_to(world.new_agent(), world.env, world.distribution.held_out(1), config)
    copies = DummyVecEnv([lambda: TellsReward(gymnasium.make(BANDIT, split="test"))] * 4)
    for likeliest in (True, False):
        returns, _ = evaluated(policy, copies, 8, likeliest)
        assert 0.0 <= np.mean(returns) <= 1.0


def test_in_the_suites_own_environment_it_is_one_trial_too() -> None:
    world, task = build_world("rl2", NAVIGATION), {"goal": torch.tensor([TASK["goal"]])}
    tasks = world.distribution.held_out(1)._replace(parameter=task)
    config = AdaptConfig(episodes=2, adaptations=1, seed=5)
    policy = adapt_to(world.new_agent(), world.env, tasks, config)
    in_face = adapted(1)
    for name in ("start.memory", "start.action"):
        left, right = policy.kept.params[name], in_face.kept.params[name]
        torch.testing.assert_close(left, right, rtol=0, atol=1e-5)
    assert policy.made.scores == pytest.approx(in_face.made.scores, abs=1e-4)


@pytest.mark.parametrize(
    ("obs", "state", "begins", "said"),
    [
        ((2,), None, None, r"obs must be \[3\] or \[n, 3\].*the reward of the last.*TellsReward"),
        ((4, 2), None, None, r"the last entry being the reward .* got \(4, 2\)"),
        ((4, 3), ((4, 6),), None, r"must be \[\(4,\), \(4, 6\), \(4, 2\)\], got"),
        ((4, 3), ((4, 6), (3, 2)), None, r"got \[\(4,\), \(4, 6\), \(3, 2\)\]"),
        ((4, 3), ((4, 6), (4, 2)), (3,), r"got \[\(3,\), \(4, 6\), \(4, 2\)\]"),
    ],
)
def test_other_shapes_are_refused(obs: Any, state: Any, begins: Any, said: str) -> None:
    policy = adapted(0)
    arrays = None if state is None else tuple(np.zeros(shape, np.float32) for shape in state)
    starts = None if begins is None else np.zeros(begins, bool)
    with pytest.raises(InputError, match=said):
        policy.predict(np.zeros(obs, np.float32), arrays, starts)


def test_a_policy_without_memory_has_no_state_to_be_given() -> None:
    world = build_world("maml-trpo", NAVIGATION)
    policy = adapt_to(world.new_agent(), navigation(), config=AdaptConfig(episodes=2))
    with pytest.raises(InputError, match=r"must be \[\(1,\)\], got \[\(1,\), \(1, 6\)\]"):
        policy.predict(np.zeros(2), (np.zeros((1, 6)),))


def test_an_environment_that_tells_rewards_is_no_place_to_adapt() -> None:
    agent = build_world("rl2", NAVIGATION).new_agent()
    with pytest.raises(
        InputError, match=r"observations of 2.*the environment has observations of 3"
    ):
        adapt_to(agent, OneCopy(TellsReward(navigation())))


def test_the_command_keeps_a_trial(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "kept"
    few = ["--iterations", "1", "--tasks-per-update", "4"]
    assert main(["train", "rl2/grid-navi", "--out", str(run), *few]) == 0
    flags = ["--episodes", "3", "--out", str(out), "--export", str(tmp_path / "policy.pt")]
    assert main(["adapt", str(run), "--task", json.dumps(CELL), *flags]) == 0
    kept = AdaptedPolicy.load(out)
    policy = adapt_run(run, CELL, AdaptConfig(episodes=3))
    assert_same(kept, policy)
    assert kept.made == policy.made
    assert (kept.made.run, kept.made.episodes) == (str(run), (3,))
    size = policy.kept.policy.shown_size
    carried = [policy.kept.params[f"start.{name}"][None] for name in ("memory", "action")]
    obs = torch.ones(1, size)
    obs[0, -1] = policy.kept.params["start.reward"]
    choice, *_ = load_script(tmp_path / "policy.pt")(obs, torch.tensor([True]), *carried)
    assert int(choice) == int(policy.predict(np.ones(size), deterministic=True)[0])
