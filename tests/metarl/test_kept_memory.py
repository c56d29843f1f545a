"""Policies with memory as data: the trial goes on as the agent's own, and so do its copies."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from metarl.acting import Moment, RecurrentPolicy
from metarl.adapted_policy import AdaptedPolicy
from metarl.checks import InputError
from metarl.experiments.adapt import AdaptConfig, adapt_to
from metarl.files import BrokenFileError
from metarl.kept_policy import KeptPolicy, read_policy
from metarl.policy_export import PolicyModule, export
from metarl.sampler import action_noise, collect_in_turn
from metarl.seeding import Streams
from metarl.types import ActionRange, Trajectories
from tests.conftest import World, build_world, load_script

MDP, NAVIGATION = "metarl/TabularMDP-v0", "metarl/PointNavigation-v0"
BANDIT = "metarl/BernoulliBandit-v0"
EPISODES, LATER = 2, Streams(40)
every_kind = pytest.mark.parametrize("env_name", [BANDIT, MDP, NAVIGATION])
both_kinds = pytest.mark.parametrize("env_name", [MDP, NAVIGATION])


def kept_trial(env_name: str, episodes: int = EPISODES) -> AdaptedPolicy:
    world = build_world("rl2", env_name)
    config = AdaptConfig(episodes=episodes, adaptations=1, seed=7)
    policy = adapt_to(world.new_agent(), world.env, world.distribution.held_out(1), config)
    if policy.kept.action_range is None:
        return policy
    # One that is neither centred nor the agent's own, so that no unit passes for another.
    within = ActionRange(torch.tensor([0.0, -3.0]), torch.tensor([1.0, 5.0]))
    return AdaptedPolicy(policy.kept._replace(action_range=within), policy.made)


def own_trial(world: World) -> tuple[Trajectories, Trajectories]:
    """The agent's own trial: the episodes of adaptation, and two more."""
    agent, task = world.new_agent(), world.distribution.held_out(1)
    here = Streams(7, ("adapted policy",)).at("round", 0)
    first, known = collect_in_turn(world.env, task, agent, agent.begin(1, 1), EPISODES, here)
    later, _ = collect_in_turn(world.env, task, agent, known, 2, LATER)
    return first, later


class Lived(NamedTuple):
    """A decision of the agent, and what it was told before."""

    shown: Tensor
    begins: Tensor
    noise: Tensor
    action: Tensor


def lived(world: World, batch: Trajectories) -> Iterator[Lived]:
    """Go through the two later episodes; the very first reward is shown as 9."""
    spec, reward = world.env.spec, torch.full((1, 1), 9.0)
    for episode in range(2):
        noise = action_noise(spec, 1, 1, LATER.at("episode", episode))[0, 0]
        for time in range(spec.horizon):
            shown = torch.cat((batch.obs[0, episode, time][None], reward), 1)
            action = batch.action[0, episode, time][None]
            yield Lived(shown, torch.tensor([time == 0]), noise[time][None], action)
            reward = batch.reward[0, episode, time].view(1, 1)


@every_kind
def test_the_trial_goes_on_as_the_agents_own(env_name: str) -> None:
    world, policy = build_world("rl2", env_name), kept_trial(env_name)
    kept, spec = policy.kept, world.env.spec
    first, later = own_trial(world)
    returns = first.reward.sum(-1)[0]
    assert policy.made.scores == pytest.approx((float(returns.mean()),), rel=1e-6)
    carried, raw = None, []
    for told in lived(world, later):
        at_first = kept.first(told.shown)
        moment = Moment(told.shown, told.begins, carried) if carried else at_first
        action, carried = kept.decide(moment, told.noise)
        within = kept.action_range
        expected = within.place(told.action, spec.action_limit) if within else told.action
        torch.testing.assert_close(action, expected, rtol=0, atol=1e-5)
        own = told.action if within else torch.eye(spec.action_size)[told.action]
        torch.testing.assert_close(carried[1], own, rtol=0, atol=1e-5)
        raw.append(carried[1])
    assert len(raw) == 2 * spec.horizon
    if spec.discrete and spec.horizon > 1:
        assert len({int(row.argmax()) for row in raw}) > 2


@both_kinds
def test_memories_are_those_of_the_agent(env_name: str) -> None:
    """Choices hide small differences; the numbers that the memory holds do not."""
    world, kept = build_world("rl2", env_name), kept_trial(env_name).kept
    agent, task = world.new_agent(), world.distribution.held_out(1)
    here = Streams(7, ("adapted policy",)).at("round", 0)
    _, known = collect_in_turn(world.env, task, agent, agent.begin(1, 1), EPISODES, here)
    later, known = collect_in_turn(world.env, task, agent, known, 2, LATER)
    carried: tuple[Tensor, ...] = ()
    for told in lived(world, later):
        moment = Moment(told.shown, told.begins, carried) if carried else kept.first(told.shown)
        _, carried = kept.decide(moment, told.noise)
    for leaf, name in zip(carried, ("memory", "action"), strict=True):
        torch.testing.assert_close(leaf, known[name][0], rtol=0, atol=1e-5)


def played(policy: AdaptedPolicy, shown: np.ndarray[Any, Any], deterministic: bool) -> list[Any]:
    """Decide in n copies at shown [T, n, S], where an episode begins at every third time."""
    state, results = None, []
    for time, obs in enumerate(shown):
        begins = np.full(len(obs), time % 3 == 0)
        action, state = policy.predict(obs, state, begins, deterministic)
        assert state is not None
        results += [action, *state]
    return results


def shown_to(policy: AdaptedPolicy, rows: int = 4) -> np.ndarray[Any, Any]:
    size = policy.kept.policy.shown_size
    shown: np.ndarray[Any, Any] = Streams(5).normal("shown", 8, (rows, size)).numpy()
    return shown


@both_kinds
def test_a_loaded_policy_goes_on_the_same(env_name: str, tmp_path: Path) -> None:
    policy = kept_trial(env_name)
    policy.save(tmp_path)
    loaded = AdaptedPolicy.load(tmp_path)
    assert loaded.made == policy.made
    assert loaded.kept.policy == policy.kept.policy
    assert not [name for name in loaded.kept.params if name.startswith("value")]
    shown = shown_to(policy)
    for deterministic in (True, False):
        pairs = zip(
            played(policy, shown, deterministic), played(loaded, shown, deterministic), strict=True
        )
        assert all((left == right).all() for left, right in pairs)


@both_kinds
def test_exports_are_predict(env_name: str, tmp_path: Path) -> None:
    policy = kept_trial(env_name)
    export(policy.kept, tmp_path / "policy.pt")
    export(policy.kept, tmp_path / "policy.onnx")
    script = load_script(tmp_path / "policy.pt")
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    start = json.loads(session.get_modelmeta().custom_metadata_map["start"])
    module, weights = policy.to_module(), dict(script.named_parameters())
    names = [entry.name for entry in session.get_inputs()]
    assert names == ["obs", "episode_start", "memory", "last_action"]
    for name, values in start.items():
        assert torch.equal(weights[f"weights.start_{name}"], torch.tensor(values)), name
    for rows in (1, 4):
        shown, state = shown_to(policy, rows), None
        carried = [
            np.tile(np.array(start[name], np.float32), (rows, 1)) for name in ("memory", "action")
        ]
        for time, seen in enumerate(shown):
            obs, begins = seen.copy(), np.full(rows, time % 3 == 0)
            expected, state = policy.predict(seen, state, begins, deterministic=True)
            assert state is not None
            ways = []
            if time == 0:
                obs[:, -1], begins = start["reward"], np.full(rows, start["ended"] > 0)
                ways = [module(torch.from_numpy(seen))]
            inputs = (obs, begins, *carried)
            tensors = tuple(map(torch.from_numpy, inputs))
            from_onnx = session.run(None, dict(zip(names, inputs, strict=True)))
            ways += [script(*tensors), module(*tensors), tuple(map(torch.from_numpy, from_onnx))]
            for results in ways:
                for result, wanted in zip(results, (expected, *state), strict=True):
                    assert result.shape == wanted.shape
                    assert np.abs(result.numpy() - wanted).max() <= 1e-6
            carried = from_onnx[1:]
    results = [entry.name for entry in session.get_outputs()]
    assert results == ["action", "next_memory", "next_last_action"]


def edited(folder: Path, **changes: Any) -> None:
    file = folder / "policy.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (-1, "memory_size must be a whole number from 0"),
        (6.0, "memory_size must be int, got 6.0"),
        (True, "memory_size must be int, got True"),
        ("gru", "memory_size must be int, got 'gru'"),
        (7, r"'start.memory' should be \[7\] float32, got \[6\]"),
        (0, r"'start.memory' should be absent, got \[6\]"),
        (10**5, r"layers of \[2, 100000, 2\] have more weights than"),
        (2**31 - 1, "have more weights than"),
        (10**30, "memory_size must be a whole number from 0"),
    ],
)
def test_another_memory_is_refused_by_name(value: object, said: str, tmp_path: Path) -> None:
    kept_trial(NAVIGATION).save(tmp_path)
    edited(tmp_path, memory_size=value)
    with pytest.raises(InputError, match=said):
        read_policy(tmp_path)


def test_a_memory_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    policy = kept_trial(NAVIGATION)
    policy.kept.params["start.memory"][3] = torch.inf
    with pytest.raises(BrokenFileError, match=r"'start\.memory' is not finite"):
        policy.save(tmp_path)


def test_a_module_has_its_own_start() -> None:
    kept = kept_trial(NAVIGATION).kept
    module, shown = PolicyModule(kept), torch.ones(3, kept.policy.shown_size)
    before, _, _ = module(shown)
    kept.params["start.memory"].add_(1.0)
    assert torch.equal(module(shown)[0], before)
    assert not torch.equal(kept.decide(kept.first(shown))[0], before)


def test_sizes() -> None:
    kept: KeptPolicy = kept_trial(MDP).kept
    policy = kept.policy
    assert isinstance(policy, RecurrentPolicy)
    assert (policy.observation_size, policy.shown_size, policy.memory_size) == (10, 11, 6)
    assert dict(policy.carried_sizes) == {"memory": 6, "last_action": 5}
    matrices = (leaf.numel() for leaf in kept.params.values() if leaf.dim() == 2)
    assert policy.num_weights == sum(matrices)
    assert policy.init(Streams(0, device="meta")).keys() == kept.params.keys()
