"""The contract of every environment in the table, in every published setting."""

import hashlib
import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.envs import ENVS
from metarl.protocols import TaskDistribution, VectorTaskEnv
from metarl.seeding import Streams
from metarl.types import Step, Tasks

CASES = [(name, preset) for name, family in ENVS.items() for preset in family.presets]
HIDDEN = [case for case in CASES if "MDP" not in case[0]]
K, E, T = 3, 2, 8
STREAMS = Streams(11, ("contract",))

# SHA-256 of the first 40 held-out tasks, or of the whole list where it is shorter. A difference
# here is another benchmark: give it a new version and leave these alone.
HELD_OUT = """
09910c9d51bb1f72eed448a282d846b7fa8917085f4893d184396053a30a659e BernoulliBandit-v0 rl2-2016
0632a1e923235cc0b738198918a32220562838102407266cbfe6b4d17e44c402 BernoulliBandit-v0 rl2-2016-k10
abc5e87f7889c1498ed60234c4aedaa442932396971fd65f3d49d0055dc237fe BernoulliBandit-v0 rl2-2016-k50
bd2290266ee608978d8dd59a57ba16f755900266f2b612b9324bb3377d1f3557 GaussianBandit-v0 default
1fd4e8f1956d9004969de82a4bfddcb575ab27e1a4334d5582ccdb1b48369a63 TabularMDP-v0 rl2-2016
3436f2c447d358e98d3771afbba821e4a156766fd870b7354e16d412e069f47e PointNavigation-v0 maml-2017
e40b235a19aeb96c7c3e8ce3bc6005542f2336936dd5f39ef375e3ea4d770674 HalfCheetahDir-v0 promp-2019
e40b235a19aeb96c7c3e8ce3bc6005542f2336936dd5f39ef375e3ea4d770674 HalfCheetahDir-v0 maml-2017
098459798b98b439a76f0a2f8ca21cb1b9d325542ed8963b355a39332504f7da HalfCheetahVel-v0 promp-2019
324e5188be835046d3a054f357d06e9c1c0c3c679c22bbcf110981e17c13f705 HalfCheetahVel-v0 maml-2017
853ba593b1a4875817eff4241f4b42a49e00cfbf0e1580a86dece59b822fafa2 HalfCheetahVel-v0 pearl-2019
"""

every_case = pytest.mark.parametrize(("name", "preset"), CASES)


def make(name: str, preset: str, horizon: int = T) -> tuple[TaskDistribution, VectorTaskEnv]:
    config: Any = envs.preset(name, preset)
    return envs.build(name, replace(config, horizon=horizon), threads=1)


def actions(env: VectorTaskEnv, num_tasks: int, streams: Streams = STREAMS) -> Tensor:
    size, shape = env.spec.action_size, (E, env.spec.horizon)
    if env.spec.discrete:
        return (streams.uniform("test actions", num_tasks, shape) * size).long()
    return streams.normal("test actions", num_tasks, (*shape, size))


def rollout(env: VectorTaskEnv, tasks: Tasks, action: Tensor, streams: Streams = STREAMS) -> Step:
    """A whole episode of every copy, as one step with T (for obs T + 1) on axis 2."""
    running = torch.ones(len(tasks.task_id), E, dtype=torch.bool)
    seen, steps = [env.reset(tasks, E, streams).clone()], []
    for now in action.unbind(2):
        steps.append(env.step(now, running))
        seen.append(steps[-1].obs.clone())
    _, *others = (torch.stack(leaves, 2) for leaves in zip(*steps, strict=True))
    return Step(torch.stack(seen, 2), *others)


def assert_same(one: Step, other: Step) -> None:
    for name, a, b in zip(Step._fields, one, other, strict=True):
        assert torch.equal(a, b), name


def pick(tasks: Tasks, places: list[int]) -> Tasks:
    return Tasks(tasks.task_id[places], {n: leaf[places] for n, leaf in tasks.parameter.items()})


def assert_same_tasks(one: Tasks, other: Tasks) -> None:
    assert torch.equal(one.task_id, other.task_id)
    assert one.parameter.keys() == other.parameter.keys()
    for name, leaf in one.parameter.items():
        assert torch.equal(leaf, other.parameter[name]), name


@every_case
def test_shapes_and_dtypes_of_reset_and_step(name: str, preset: str) -> None:
    distribution, env = make(name, preset)
    start = env.reset(distribution.sample(K, STREAMS), E, STREAMS)
    assert (start.shape, start.dtype) == ((K, E, env.spec.observation_size), torch.float32)
    for action in actions(env, K).unbind(2):
        step = env.step(action, torch.ones(K, E, dtype=torch.bool))
        assert (step.obs.shape, step.obs.dtype) == (start.shape, torch.float32)
        assert torch.isfinite(step.obs).all()
        kinds = {"reward": torch.float32, "terminated": torch.bool, "faulty": torch.bool}
        for leaf_name, dtype in kinds.items():
            leaf = getattr(step, leaf_name)
            assert (leaf.shape, leaf.dtype) == ((K, E), dtype), leaf_name
        assert torch.isfinite(step.reward).all()
        assert not step.faulty.any()


@every_case
def test_spec_and_tasks_say_what_the_config_says(name: str, preset: str) -> None:
    config: Any = envs.preset(name, preset)
    distribution, env = envs.build(name, config, threads=1)
    tasks = distribution.sample(K, STREAMS)
    assert env.spec.name == name == envs.name_of(config)
    assert env.spec.horizon == config.horizon
    assert env.threads == 1
    assert (tasks.task_id.shape, tasks.task_id.dtype) == ((K,), torch.int64)
    assert tasks.parameter
    assert all((len(x), x.dtype) == (K, torch.float32) for x in tasks.parameter.values())


@every_case
def test_equal_arguments_give_equal_bits(name: str, preset: str) -> None:
    distribution, env = make(name, preset)
    tasks, action = distribution.sample(K, STREAMS), actions(env, K)
    first = rollout(env, tasks, action)
    rollout(env, distribution.sample(K, STREAMS.at("other")), action, STREAMS.at("other"))
    assert_same(first, rollout(env, tasks, action))
    other_distribution, other_env = make(name, preset)
    torch.rand(3)
    assert_same(first, rollout(other_env, other_distribution.sample(K, STREAMS), action))


@every_case
def test_every_round_and_episode_has_noise_of_its_own(name: str, preset: str) -> None:
    distribution, env = make(name, preset, horizon=40)
    tasks = pick(distribution.held_out(1), [0] * K)
    action = torch.zeros_like(actions(env, K))
    one, other = rollout(env, tasks, action), rollout(env, tasks, action, STREAMS.at("other"))
    if "Navigation" in name:
        assert_same(one, other)  # nothing in it is random
        return
    assert not torch.equal(one.reward, other.reward)
    rows = one.reward.flatten(0, 1)
    assert len({tuple(row.tolist()) for row in rows}) == len(rows)


@every_case
def test_tasks_differ_in_what_they_are_and_pay(name: str, preset: str) -> None:
    distribution, env = make(name, preset, horizon=40)
    tasks, others = (distribution.sample(16, Streams(seed, ("train",))) for seed in (0, 1))
    for leaf_name, leaf in tasks.parameter.items():
        num_different = len(leaf.unique(dim=0))
        assert num_different == 2 if leaf_name == "direction" else num_different >= 14
        assert not torch.equal(leaf, others.parameter[leaf_name])
    held_out, action = distribution.held_out(2), actions(env, 1)
    one, other = (rollout(env, pick(held_out, [k]), action) for k in range(2))
    assert not torch.equal(one.reward, other.reward)


@every_case
def test_nothing_but_its_owner_changes_a_task(name: str, preset: str) -> None:
    distribution, env = make(name, preset)
    tasks, action = distribution.held_out(K), actions(env, K)
    before = pick(tasks, list(range(K)))
    for number in range(3):
        rollout(env, tasks, action, STREAMS.at(number))
        assert_same_tasks(tasks, before)
    assert_same(rollout(env, tasks, action), rollout(make(name, preset)[1], before, action))
    here, there = (rollout(env, pick(tasks, [0, k]), action[:2]) for k in (1, 2))
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one[0], other[0])


@every_case
def test_the_first_observation_does_not_leak_the_task(name: str, preset: str) -> None:
    distribution, env = make(name, preset)
    tasks = distribution.held_out(6)
    starts = torch.stack([env.reset(pick(tasks, [k]), E, STREAMS).clone() for k in range(6)])
    assert torch.equal(starts, starts[:1].expand_as(starts))


@pytest.mark.parametrize(("name", "preset"), HIDDEN)
def test_the_task_shows_in_the_reward_alone(name: str, preset: str) -> None:
    distribution, env = make(name, preset, horizon=30)
    tasks, action = distribution.held_out(4), actions(env, 1)
    rollouts = [rollout(env, pick(tasks, [k]), action) for k in range(4)]
    for other in rollouts[1:]:
        assert torch.equal(rollouts[0].obs, other.obs)
    assert not torch.equal(rollouts[0].reward, rollouts[1].reward)


@every_case
def test_a_copy_that_is_not_running_keeps_its_observation(name: str, preset: str) -> None:
    distribution, env = make(name, preset, horizon=4)
    tasks, action = distribution.sample(K, STREAMS), actions(env, K)
    start = env.reset(tasks, E, STREAMS).clone()
    running = torch.tensor([[True, False], [False, False], [True, True]])
    for time in range(3):
        obs = env.step(action[:, :, time], running).obs
        assert torch.equal(obs[~running], start[~running])
    obs = obs.clone()
    after = env.step(action[:, :, 3], torch.zeros_like(running)).obs
    assert torch.equal(after, obs)
    whole = rollout(env, tasks, action)
    assert torch.equal(obs[running], whole.obs[:, :, 3][running])


@every_case
def test_the_time_limit_is_not_a_termination(name: str, preset: str) -> None:
    config: Any = envs.preset(name, preset)
    distribution, env = make(name, preset, config.horizon)
    tasks = distribution.held_out(K)
    assert not rollout(env, tasks, torch.zeros_like(actions(env, K))).terminated.any()


@every_case
def test_a_block_of_tasks_draws_what_it_draws_in_the_whole(name: str, preset: str) -> None:
    distribution, env = make(name, preset)
    whole_tasks = distribution.sample(5, STREAMS)
    blocks = distribution.sample(2, STREAMS), distribution.sample(3, STREAMS.from_task(2))
    assert_same_tasks(pick(whole_tasks, [0, 1]), blocks[0])
    assert_same_tasks(pick(whole_tasks, [2, 3, 4]), blocks[1])
    action = actions(env, 5)
    whole = rollout(env, whole_tasks, action)
    first = rollout(env, blocks[0], action[:2])
    second = rollout(env, blocks[1], action[2:], STREAMS.from_task(2))
    both = (torch.cat(pair) for pair in zip(first, second, strict=True))
    assert_same(whole, Step(*both))


@every_case
def test_a_shorter_held_out_list_is_the_start_of_a_longer_one(name: str, preset: str) -> None:
    distribution, _ = make(name, preset)
    longer = distribution.held_out(min(40, distribution.num_held_out or 40))
    distribution.sample(5, Streams(5))
    for length in (1, 7, 20):
        assert_same_tasks(pick(longer, list(range(length))), make(name, preset)[0].held_out(length))


@every_case
def test_training_never_meets_a_held_out_task(name: str, preset: str) -> None:
    distribution, _ = make(name, preset)
    held_out = distribution.held_out(min(40, distribution.num_held_out or 40))
    if "direction" in held_out.parameter:
        pytest.skip("there are two tasks in all")
    places = [Streams(0), *(Streams(seed, ("train", 0, "tasks")) for seed in range(8))]
    train = [distribution.sample(100, streams) for streams in places]
    for name_of_leaf, leaf in held_out.parameter.items():
        met = torch.cat([tasks.parameter[name_of_leaf] for tasks in train])
        same = met.reshape(len(met), 1, -1) == leaf.reshape(1, len(leaf), -1)
        assert not same.all(-1).any()
    ids = torch.cat([tasks.task_id for tasks in train]).unique()
    assert not torch.isin(held_out.task_id[held_out.task_id >= 0], ids).any()


@every_case
def test_the_held_out_list_is_pinned(name: str, preset: str) -> None:
    distribution, _ = make(name, preset)
    tasks = distribution.held_out(min(40, distribution.num_held_out or 40))
    digest = hashlib.sha256()
    for leaf_name in sorted(tasks.parameter):
        digest.update(leaf_name.encode() + tasks.parameter[leaf_name].numpy().tobytes())
    digest.update(tasks.task_id.numpy().tobytes())
    expected = f"{digest.hexdigest()} {name.removeprefix('metarl/')} {preset}"
    assert expected in HELD_OUT.splitlines()


@every_case
def test_a_finite_list_refuses_more_than_it_has(name: str, preset: str) -> None:
    distribution, _ = make(name, preset)
    assert distribution.num_held_out == (30 if preset == "pearl-2019" else None)
    if distribution.num_held_out is None:
        assert len(distribution.held_out(1000).task_id) == 1000
        return
    with pytest.raises(ValueError, match=r"30 held-out tasks, asked for 31"):
        distribution.held_out(31)


@pytest.mark.parametrize("name", ENVS)
def test_the_config_of_another_family_is_refused(name: str) -> None:
    for other, family in ENVS.items():
        if other != name:
            with pytest.raises(TypeError, match=family.config.__name__):
                envs.build(name, next(iter(family.presets.values())))


@every_case
def test_an_unknown_name_is_answered_with_the_nearest(name: str, preset: str) -> None:
    for wrong in (name.removeprefix("metarl/"), name.replace("-v", "v"), name + "x"):
        with pytest.raises(ValueError, match=f"did you mean '{name}'"):
            envs.build(wrong)
    with pytest.raises(ValueError, match=f"did you mean '{preset}'"):
        envs.preset(name, preset + "x")
    with pytest.raises(ValueError, match="known: "):
        envs.build("zzz")


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf, True, "3", None])
@every_case
def test_a_bad_number_is_refused_by_the_name_of_its_field(
    name: str, preset: str, wrong: object
) -> None:
    config: Any = envs.preset(name, preset)
    owner = type(config).__name__
    for field in fields(config):
        is_flag = isinstance(getattr(config, field.name), bool)
        if is_flag or (wrong == 0 and field.name in ("num_train_tasks", "num_test_tasks")):
            continue
        with pytest.raises(ValueError, match=rf"^{owner}\.{field.name} must be .*{wrong!r}"):
            replace(config, **{field.name: wrong})
