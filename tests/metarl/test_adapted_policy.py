"""The policy that a user keeps: it adapts as agents do, and acts as SB3's policies do."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from metarl.acting import ActsByPolicy
from metarl.adapted_policy import AdaptedPolicy
from metarl.checks import InputError
from metarl.experiments.adapt import AdaptConfig, adapt_to
from metarl.protocols import Algorithm, HasMemory
from metarl.sampler import adaptation_rounds, collect, collect_in_turn
from metarl.seeding import Streams
from metarl.types import Adapted, Params, Trajectories
from tests.conftest import World, build_world, load_script

NAVIGATION = "metarl/PointNavigation-v0"
BANDIT = "metarl/BernoulliBandit-v0"


def weights_in_first_task(agent: Algorithm, adapted: Adapted) -> Params:
    assert isinstance(agent, ActsByPolicy)
    return {name: leaf[0] for name, leaf in agent.acting_policy(adapted)[1].items()}


def assert_same(left: Params, right: Params) -> None:
    assert left.keys() == right.keys()
    for name, leaf in left.items():
        assert torch.equal(leaf, right[name]), name


def adapted_policy(world: World, adaptations: int) -> AdaptedPolicy:
    config = AdaptConfig(episodes=4, adaptations=adaptations, seed=7)
    return adapt_to(world.new_agent(), world.env, world.distribution.held_out(1), config)


def test_it_adapts_as_meta_testing_does(world: World) -> None:
    agent, task = world.new_agent(), world.distribution.held_out(1)
    streams = Streams(7, ("adapted policy",))
    if isinstance(agent, HasMemory):
        adapted = agent.begin(1, 1)
        for number in range(2):
            here = streams.at("round", number)
            _, adapted = collect_in_turn(world.env, task, agent, adapted, 4, here)
    else:
        *_, (_, adapted) = adaptation_rounds(world.env, task, agent, 4, 2, streams)
    policy = adapted_policy(world, 2)
    assert_same(policy.kept.params, weights_in_first_task(agent, adapted))
    assert policy.made.episodes == (4, 4)
    assert len(policy.made.scores) == 2


def test_every_agent_decides_by_the_policy_that_it_names(world: World) -> None:
    agent, spec = world.new_agent(), world.env.spec
    obs = Streams(1).normal("obs", 1, (50, spec.observation_size))
    size = (50,) if spec.discrete else (50, spec.action_size)
    draw = Streams(1).uniform if spec.discrete else Streams(1).normal
    noise = draw("noise", 1, size)
    adapted = agent.begin(1, 50)
    assert isinstance(agent, ActsByPolicy)
    policy, stacked = agent.acting_policy(adapted)
    weights = weights_in_first_task(agent, adapted)
    # At first, the reward that is shown to one with a memory is not its own, and not heard.
    shown = torch.nn.functional.pad(
        obs[0], (0, policy.shown_size - policy.observation_size), "constant", 7.0
    )
    action, carried = policy.act(weights, policy.first(weights, shown), noise[0])
    acted = agent.act(adapted, obs, noise)
    assert all(len(leaf) == 1 for leaf in stacked.values())
    assert torch.allclose(action, acted.action[0], atol=1e-5)
    assert [leaf.shape for leaf in carried] == [(50, n) for n in policy.carried_sizes.values()]
    assert bool(carried) == isinstance(agent, HasMemory)


def test_adapting_goes_on_and_can_be_taken_back() -> None:
    world = build_world("maml-trpo", NAVIGATION)
    policy, fresh = adapted_policy(world, 1), adapted_policy(world, 0)
    once = policy.kept.params
    policy.adapt(4)
    assert_same(policy.kept.params, adapted_policy(world, 2).kept.params)
    policy.reset_adaptation()
    assert_same(policy.kept.params, fresh.kept.params)
    assert policy.made == fresh.made
    assert not torch.equal(once["layer0.weight"], fresh.kept.params["layer0.weight"])
    policy.adapt(4)
    assert_same(policy.kept.params, once)


@pytest.mark.parametrize("env_name", [NAVIGATION, BANDIT])
def test_predict_has_the_shapes_of_sb3(env_name: str) -> None:
    policy = adapted_policy(build_world("maml-trpo", env_name), 1)
    spec = policy.kept.spec
    obs = Streams(3).normal("obs", 1, (9, spec.observation_size))[0].numpy()
    actions, state = policy.predict(obs, deterministic=True)
    assert state is None
    one = () if spec.discrete else (spec.action_size,)
    assert actions.shape == (9, *one)
    assert actions.dtype == (np.int64 if spec.discrete else np.float32)
    single, _ = policy.predict(obs[4].astype(np.float64), None, np.array([True]), True)
    assert isinstance(single, np.ndarray)
    assert single.shape == one
    assert np.allclose(single, actions[4], atol=1e-6)
    with pytest.raises(InputError, match=rf"obs must be \[{spec.observation_size}\] or"):
        policy.predict(np.zeros((2, spec.observation_size + 1)))


def test_drawn_actions_follow_from_the_seed_and_differ_from_call_to_call() -> None:
    world = build_world("maml-trpo", NAVIGATION)
    left, right = adapted_policy(world, 1), adapted_policy(world, 1)
    obs = np.zeros((600, 2), dtype=np.float32)
    draws = [left.predict(obs)[0] for _ in range(3)]
    assert all((draw == right.predict(obs)[0]).all() for draw in draws)
    assert len(np.unique(np.concatenate(draws)[:, 0])) > 500
    assert (draws[0] != draws[1]).any()
    assert (draws[1] != draws[2]).any()
    assert np.abs(np.concatenate(draws)).max() == 1.0


def test_a_loaded_policy_acts_the_same_and_says_what_it_lacks(world: World, tmp_path: Path) -> None:
    policy = adapted_policy(world, 1)
    policy.save(tmp_path)
    loaded = AdaptedPolicy.load(tmp_path)
    obs = Streams(3).normal("obs", 1, (9, policy.kept.policy.shown_size))[0].numpy()
    for deterministic in (True, False):
        expected, _ = policy.predict(obs, deterministic=deterministic)
        assert (loaded.predict(obs, deterministic=deterministic)[0] == expected).all()
    assert loaded.made == policy.made
    with pytest.raises(RuntimeError, match=r"adapt: .*without its agent"):
        loaded.adapt(3)
    with pytest.raises(RuntimeError, match=r"reset_adaptation: .*without its agent"):
        loaded.reset_adaptation()


def test_episodes_must_be_a_count() -> None:
    policy = adapted_policy(build_world("reptile", BANDIT), 0)
    with pytest.raises(InputError, match="episodes must be a whole number"):
        policy.adapt(0)


def test_to_module_and_export_are_predict(tmp_path: Path) -> None:
    policy = adapted_policy(build_world("maml-trpo", "metarl/HalfCheetahDir-v0"), 1)
    obs = Streams(3).normal("obs", 1, (9, 17))[0]
    expected, _ = policy.predict(obs.numpy(), deterministic=True)
    assert (policy.to_module()(obs).numpy() == expected).all()
    policy.export(str(tmp_path / "policy.pt"))
    action = load_script(tmp_path / "policy.pt")(obs)
    assert np.abs(action.numpy() - expected).max() <= 1e-6


def test_rounds_in_turn_are_rounds_of_one_episode() -> None:
    world = build_world("maml-trpo", "metarl/TabularMDP-v0")
    agent, tasks = world.new_agent(), world.distribution.held_out(2)
    adapted, streams = agent.begin(2, 1), Streams(5)
    batch, _ = collect_in_turn(world.env, tasks, agent, adapted, 3, streams)
    for episode in range(3):
        here = streams.at("episode", episode)
        one, _ = collect(world.env, tasks, agent, adapted, 1, here)
        for name in set(Trajectories._fields) - {"task_id"}:
            whole = getattr(batch, name)[:, episode]
            assert torch.equal(whole, getattr(one, name)[:, 0]), name
    assert batch.task_id.shape == (2,)


def test_onnx_without_its_packages_says_what_to_install(tmp_path: Path) -> None:
    adapted_policy(build_world("maml-trpo", BANDIT), 0).save(tmp_path)
    code = f"""
import sys
sys.modules["onnxscript"] = None
from metarl.adapted_policy import AdaptedPolicy
AdaptedPolicy.load({str(tmp_path)!r}).export("policy.onnx")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode != 0
    assert "needs the package onnxscript: pip install 'metarl-suite[onnx]'" in done.stderr
    assert not (tmp_path / "policy.onnx").exists()
